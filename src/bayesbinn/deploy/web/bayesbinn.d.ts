/** What the networks of a file say of one input; entropies in nats. */
export interface Prediction {
  /** Probability of each class: the mean over the networks. */
  probs: number[];
  /** The same of each network. */
  networks: number[][];
  /** The most probable class of each network. */
  votes: number[];
  /** The most probable class. */
  label: number;
  entropy: number;
  /** Mean entropy of the single networks. */
  expectedEntropy: number;
  /** How much the networks disagree; 0 for the mode. */
  mutualInformation: number;
  /** Share of the networks that do not vote with the largest group. */
  variationRatio: number;
}

export class Network {
  private constructor();
  /** Sizes of one input: [C], [C, L] or [C, H, W]. */
  readonly inputShape: number[];
  /** Numbers of one input, and of one output. */
  readonly numInputs: number;
  readonly numOutputs: number;
  /** Posterior samples beside the mode. */
  readonly numSamples: number;
  /** "wasm" (SIMD) or "portable". */
  readonly instructionSet: string;
  /**
   * Outputs of `count` networks from `first` on (0 is the mode) for a batch of inputs, one after the other, channels first.
   * @throws TypeError, RangeError for another length, NaN or infinity, or no such networks.
   */
  run(x: Float32Array, first?: number, count?: number): Float32Array;
  /** Class probabilities and uncertainty of one input, by `numSamples` networks (default: all; 0: the mode). */
  predict(x: Float32Array, numSamples?: number): Prediction;
  /** Gives its memory back. */
  free(): void;
}

/**
 * A network from a `.bbnn` file: its address, or its bytes.
 * @throws Error if there is none, or it is damaged.
 */
export function load(
  source: string | URL | ArrayBuffer | Uint8Array,
  options?: { instructionSet?: "wasm" | "portable" },
): Promise<Network>;

/** The bytes of a deflated stream without header. */
export function inflate(bytes: Uint8Array): Promise<Uint8Array>;
export function fromBase64(text: string): Uint8Array;
/** The parts of a `.bbnn` file, not yet checked. */
export function split(bytes: Uint8Array): { metadata: Record<string, string>; tensors: Record<string, unknown>; data: Uint8Array };

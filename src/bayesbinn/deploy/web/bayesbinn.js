/* A packed binary network in JavaScript: `const net = await load("digits.bbnn"); net.predict(x).probs`.
 * Browsers since March 2023, Node 18.  Types: bayesbinn.d.ts.  Everything is checked again by the runtime. */

const RUNTIME = "@RUNTIME@"; // the C library as WebAssembly, deflated

// the order of csrc/program.h
const KINDS = ["binary", "real", "max_pool", "avg_pool", "add", "affine", "clamp", "sign", "flatten", "function", "normalize",
  "softmax", "matmul", "concat", "view", "constant", "multiply", "recurrent"];
// and of csrc/functions.h
const FUNCTIONS = ["sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "mish", "elu", "leaky_relu", "hardsigmoid", "hardswish"];
const CELLS = ["gru", "lstm", "rnn_tanh", "rnn_relu"];
const ACTIVATIONS = ["sign", "int8", "int16", "int6"];
const HEADER_WORDS = 5, OP_WORDS = 48, MAX_DIMS = 8, OWN = 44, VERSION = 3, MAX_MEMORY = 1n << 30n, ERROR_BYTES = 256;
const FAILURES = [, "its shapes are others", "x holds NaN or Infinity", "there is not enough memory"];

export async function inflate(bytes) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw"))).arrayBuffer());
}

export const fromBase64 = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

export async function load(source, { instructionSet } = {}) {
  if (typeof source === "string" || source instanceof URL) {
    const answer = await fetch(source);
    if (!answer.ok) throw new Error(`no file at ${source}: the server says ${answer.status}`);
    source = await answer.arrayBuffer();
  }
  const file = parse(source instanceof Uint8Array ? source : new Uint8Array(source));
  const module = await WebAssembly.instantiate(await inflate(fromBase64(RUNTIME)), {});
  return new Network(file, module.instance.exports, instructionSet);
}

/* What a .bbnn file consists of, not yet trusted; docs/format.md describes it. */
export function split(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = bytes.length < 8 ? NaN : Number(view.getBigUint64(0, true));
  if (!(length >= 2 && length <= bytes.length - 8)) throw new Error("not a .bbnn file, or cut short");
  const { __metadata__: metadata, ...tensors } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  return { metadata, tensors, data: bytes.subarray(8 + length) };
}

function parse(bytes) {
  const { metadata, tensors, data } = split(bytes);
  if (!metadata?.bayesbinn) throw new Error("a safetensors file without a plan: not a .bbnn file");
  const found = checksum(new TextEncoder().encode(metadata.bayesbinn), data);
  if (found !== metadata.checksum) throw new Error(`the file is damaged (checksum ${found}): copy it again`);
  const plan = JSON.parse(metadata.bayesbinn);
  if (!(plan.version >= 1 && plan.version <= VERSION)) throw new Error(`the file is of version ${plan.version}, this module reads 1 to ${VERSION}`);
  return { plan, tensors, data };
}

const CRC = Uint32Array.from({ length: 256 }, (_, i) => {
  for (let k = 0; k < 8; k++) i = i & 1 ? 0xedb88320 ^ (i >>> 1) : i >>> 1;
  return i;
});

function checksum(...parts) {
  let crc = ~0;
  for (const part of parts) for (const byte of part) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  return `crc32:${(~crc >>> 0).toString(16).padStart(8, "0")}`;
}

/* The words that bbn_create reads; offsets are those of the file. */
function encode({ plan, tensors }) {
  const words = new BigInt64Array(HEADER_WORDS + plan.ops.length * OP_WORDS);
  const set = (at, ...values) => values.forEach((value, i) => (words[at + i] = BigInt(value)));
  const bits = (value) => new Uint32Array(Float32Array.of(value).buffer)[0];
  const ranks = [plan.input.length];
  const [c, ...size] = plan.input;
  set(0, plan.ops.length, c, size.length === 2 ? size[0] : 1, size.at(-1) ?? 1, plan.num_samples);
  plan.ops.forEach((op, index) => {
    const rank = op.inputs.length ? ranks[op.inputs[0]] : 0, at = HEADER_WORDS + index * OP_WORDS;
    const pair = (field, none) => {
      const found = op[field] ?? [];
      return rank === 3 && found.length === 2 ? found : [none, found[0] ?? none];
    };
    const recurrent = op.op.endsWith("_recurrent");
    const kind = recurrent ? "recurrent" : op.op.replace(/_(linear|conv)$/, ""), activation = op.activation ?? { type: "sign" };
    const place = (name) => (name ? tensors[name].data_offsets[0] : 0);
    set(at, KINDS.indexOf(kind), op.inputs[0] ?? 0, op.inputs.at(-1) ?? 0, op.features ?? op.channels ?? 0);
    set(at + 4, ...pair("kernel", 1), ...pair("stride", 1), ...pair("padding", 0), ...pair("dilation", 1), op.groups ?? 1);
    set(at + 13, ACTIVATIONS.indexOf(activation.type), "step" in activation, bits(activation.step ?? 0), activation.zero ?? 0);
    set(at + 17, bits(op.clamp?.[0] ?? -Infinity), bits(op.clamp?.[1] ?? Infinity));
    if (kind === "normalize") set(at + 12, op.groups ?? 1);
    set(at + 19, place(op.bits ?? op.weight ?? op.value), place(op.scale), place(op.shift));
    const axis = { 1: [0], 2: [0, 2], 3: [0, 1, 2] }[rank]?.[op.axis] ?? 0;
    const variants = { function: FUNCTIONS.indexOf(op.function), normalize: Number(op.center) + 2 * Number(op.whole), concat: axis,
      recurrent: CELLS.indexOf(op.cell) + 4 * Number(op.reverse) + 8 * Number(!op.bits) };
    set(at + 22, variants[kind] ?? Number(op.transposed ?? 0), bits(op.parameter ?? op.eps ?? 0));
    const user = op.shape ?? tensors[op.value]?.shape.slice(op.own ? 1 : 0);
    if (user) set(at + 24, user[0], user.length === 3 ? user[1] : 1, user.length > 1 ? user.at(-1) : 1);
    if (kind === "view") {
      const short = MAX_DIMS - op.sizes.length;
      set(at + 27, op.offset ?? 0, ...Array(short).fill(1), ...op.sizes, ...Array(short).fill(0), ...op.strides);
    }
    set(at + OWN, Number(op.own ?? false));
    ranks.push(user ? user.length : op.op.endsWith("_linear") || kind === "flatten" ? 1 : rank);
  });
  return words;
}

export class Network {
  #c; #net;

  constructor(file, c, instructionSet) {
    this.#c = c;
    c._initialize();
    this.inputShape = file.plan.input;
    this.numSamples = file.plan.num_samples;
    const sets = Array.from({ length: c.bbn_isa_count() }, (_, i) => this.#text(c.bbn_isa_name(i)));
    this.instructionSet = instructionSet ?? sets.at(-1);
    if (!sets.includes(this.instructionSet)) throw new Error(`no instruction set ${instructionSet}, there are ${sets.join(", ")}`);
    const words = encode(file);
    const program = this.#copy(new Uint8Array(words.buffer)), data = this.#copy(file.data), error = c.malloc(ERROR_BYTES);
    this.#net = c.bbn_create(program, BigInt(words.length), data, BigInt(file.data.length),
      sets.indexOf(this.instructionSet), 1, MAX_MEMORY, error, ERROR_BYTES);
    if (!this.#net) throw new Error(`the network cannot be loaded: ${this.#text(error)}`);
    [program, data, error].forEach(c.free);
    this.numInputs = Number(c.bbn_num_inputs(this.#net));
    this.numOutputs = Number(c.bbn_num_outputs(this.#net));
  }

  #copy(bytes) {
    const at = this.#c.malloc(bytes.length);
    if (!at) throw new Error("the network cannot be loaded: out of memory");
    new Uint8Array(this.#c.memory.buffer, at, bytes.length).set(bytes);
    return at;
  }

  #text(at) {
    const bytes = new Uint8Array(this.#c.memory.buffer, at);
    return new TextDecoder().decode(bytes.subarray(0, bytes.indexOf(0)));
  }

  run(x, first = 0, count = 1) {
    if (!(x instanceof Float32Array) || x.length === 0 || x.length % this.numInputs)
      throw new TypeError(`x must be a Float32Array of a multiple of ${this.numInputs} numbers (${this.inputShape.join(" × ")})`);
    if (!(Number.isInteger(first) && Number.isInteger(count) && first >= 0 && count >= 1 && first + count <= 1 + this.numSamples))
      throw new RangeError(`networks ${first} to ${first + count - 1} asked for, there are 0 to ${this.numSamples}`);
    if (!this.#net) throw new Error("the network has been freed");
    const size = (x.length / this.numInputs) * this.numOutputs * count;
    const c = this.#c, to = this.#copy(new Uint8Array(x.buffer, x.byteOffset, x.byteLength)), out = c.malloc(4 * size);
    const status = out ? c.bbn_run(this.#net, to, BigInt(x.length), BigInt(first), BigInt(count), out, BigInt(size)) : 3;
    const found = status ? null : new Float32Array(c.memory.buffer, out, size).slice();
    c.free(to), c.free(out);
    if (status) throw new RangeError(`the network refused its input: ${FAILURES[status]}`);
    return found;
  }

  predict(x, numSamples = this.numSamples) {
    if (x.length !== this.numInputs) throw new TypeError(`predict takes one input of ${this.numInputs} numbers, got ${x.length}`);
    if (this.numOutputs < 2) throw new RangeError("predict needs a logit for each class, this network has one in all: use run");
    const count = Math.max(numSamples, 1), classes = this.numOutputs;
    const logits = this.run(x, numSamples ? 1 : 0, count);
    if (!logits.every(Number.isFinite)) throw new RangeError("the output overflows on this input: scale x as in training");
    const networks = [];
    let expectedEntropy = 0;
    for (let s = 0; s < count; s++) {
      const own = Array.from(logits.subarray(s * classes, (s + 1) * classes)), top = Math.max(...own);
      const total = Math.log(own.reduce((sum, v) => sum + Math.exp(v - top), 0));
      const logs = own.map((v) => v - top - total), probs = logs.map(Math.exp);
      expectedEntropy -= probs.reduce((sum, p, k) => sum + p * logs[k], 0) / count;
      networks.push(probs);
    }
    const probs = networks[0].map((_, k) => networks.reduce((sum, own) => sum + own[k], 0) / count);
    const entropy = -probs.reduce((sum, p) => sum + p * Math.log(Math.max(p, Number.MIN_VALUE)), 0);
    const mostProbable = (own) => own.indexOf(Math.max(...own)), votes = networks.map(mostProbable);
    const most = Math.max(...votes.map((v) => votes.filter((other) => other === v).length));
    return {
      probs, networks, votes, label: mostProbable(probs), entropy, expectedEntropy,
      mutualInformation: numSamples ? Math.max(entropy - expectedEntropy, 0) : 0,
      variationRatio: 1 - most / count,
    };
  }

  free() {
    if (this.#net) this.#c.bbn_free(this.#net);
    this.#net = 0;
  }
}

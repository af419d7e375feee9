"""A loaded `.bbnn` network: numpy in, numpy out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .container import read
from .engine import Engine, make_engine
from .program import Program, check

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Prediction:
    """Class probabilities for B inputs, averaged over S packed networks.  Entropies in nats; higher is less certain.

    Attributes:
        probs: (B, C), the average of the probabilities.
        entropy: (B,), of `probs`: total uncertainty.
        expected_entropy: (B,), mean over networks of each one's entropy: what noise in the data leaves.
        mutual_information: (B,), entropy − expected_entropy ≥ 0: what the networks disagree on.
        variation_ratio: (B,), share of networks whose class differs from the most voted one.
        num_samples: S; 0 is the mode.
    """

    probs: Doubles
    entropy: Doubles
    expected_entropy: Doubles
    mutual_information: Doubles
    variation_ratio: Doubles
    num_samples: int

    @property
    def labels(self) -> NDArray[np.intp]:
        """(B,), the most probable class."""
        labels: NDArray[np.intp] = self.probs.argmax(-1)
        return labels


class Network:
    """A network read from a `.bbnn` file.  Not safe to call from two threads at once: load it once per thread.

    Attributes:
        program: the checked plan.
        engine: "portable", "avx2", "avx512" or "neon" (the compiled library), or "numpy".
    """

    def __init__(self, program: Program, threads: int = 1) -> None:
        self.program = program
        self._engine: Engine = make_engine(program, threads)

    @property
    def engine(self) -> str:
        return self._engine.name

    @property
    def num_samples(self) -> int:
        """Number of posterior samples in the file."""
        return self.program.num_samples

    def run(self, x: ArrayLike, sample: int = 0) -> Floats:
        """Output of one network: x (B, *input shape) float32 → (B, ...).  Sample 0 is the mode, 1 … S the samples.

        Raises:
            TypeError: if x is not an array of real numbers.
            ValueError: for a wrong shape, NaN or inf, or no such sample.
        """
        if not 0 <= sample <= self.num_samples:
            raise ValueError(f"sample must be 0 (the mode) to {self.num_samples}, got {sample}")
        outputs: Floats = self._run(x, sample, 1)[0]
        return outputs

    def run_samples(self, x: ArrayLike, num_samples: int | None = None) -> Floats:
        """Outputs (S, B, ...) of the first `num_samples` packed samples (default: all), in one call."""
        return self._run(x, 1, self._count(num_samples))

    def predict(self, x: ArrayLike, num_samples: int | None = None) -> Doubles:
        """Class probabilities (B, C): the mean over the packed samples, or the mode's if there are none.

        Args:
            x: (B, *input shape).
            num_samples: S, how many of the packed samples to use; None: all of them; 0: the mode.
        """
        return self.predict_uncertainty(x, num_samples).probs

    def predict_uncertainty(self, x: ArrayLike, num_samples: int | None = None) -> Prediction:
        """Class probabilities, entropy and mutual information; arguments as `predict`."""
        count = self.num_samples if num_samples is None else num_samples
        if len(self.program.output_shape) != 1:
            raise ValueError(
                f"predict needs an output of shape (B, C), this network's is (B, *{self.program.output_shape})"
            )
        logits = (self.run(x)[None] if count == 0 else self.run_samples(x, count)).astype(np.float64)
        log_probs = logits - logits.max(-1, keepdims=True)
        log_probs -= np.log(np.exp(log_probs).sum(-1, keepdims=True))
        each = np.exp(log_probs)
        probs = each.mean(0)
        expected = -(each * log_probs).sum(-1).mean(0)
        entropy = -(probs * np.log(np.maximum(probs, np.finfo(np.float64).tiny))).sum(-1)
        votes = np.stack([np.bincount(v, minlength=probs.shape[-1]).max() for v in each.argmax(-1).T])
        return Prediction(
            probs=probs,
            entropy=entropy,
            expected_entropy=expected,
            mutual_information=np.maximum(entropy - expected, 0) if count else np.zeros_like(entropy),
            variation_ratio=1 - votes / len(each),
            num_samples=count,
        )

    def _count(self, num_samples: int | None) -> int:
        count = self.num_samples if num_samples is None else num_samples
        if not 1 <= count <= self.num_samples:
            raise ValueError(f"num_samples must be 1 to {self.num_samples} (as many as the file holds), got {count}")
        return count

    def _run(self, x: ArrayLike, first: int, count: int) -> Floats:
        x = np.asarray(x)
        shape = self.program.input_shape
        if x.dtype.kind not in "fiu":
            raise TypeError(f"x must be an array of real numbers, got dtype {x.dtype}")
        if x.shape[1:] != shape or len(x) == 0:
            raise ValueError(f"x must have shape (B, {', '.join(map(str, shape))}) with B at least 1, got {x.shape}")
        if x.dtype != FLOAT32:
            with np.errstate(over="ignore"):
                x = x.astype(np.float32)
        return self._engine.run(np.ascontiguousarray(x), first, count)


def load(source: str | Path | bytes, *, threads: int = 1) -> Network:
    """Load a `.bbnn` file (or its bytes).

    Args:
        source: path, or the file's bytes.
        threads: threads for one call of the network, at least 1.

    Raises:
        FormatError: if the file is damaged or not a `.bbnn` file; OSError if it cannot be read.
    """
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return Network(check(read(source)), threads)

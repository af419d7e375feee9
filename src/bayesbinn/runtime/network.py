"""A loaded `.bbnn` network: numpy in, numpy out."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .about import About
from .container import read
from .engine import MAX_MEMORY, MAX_OPERATIONS, OVERFLOW, make_engine
from .preparation import prepare
from .program import Program, check

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]


class Prediction(NamedTuple):
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


@dataclass(frozen=True)
class RegressionPrediction:
    """Mean and standard deviations for B inputs, in the target's units.

    Attributes:
        mean: (B,), over S packed networks.
        std: (B,), over S networks: what they disagree on (epistemic); 0 for S ≤ 1.
        num_samples: S; 0 is the mode.
        noise: standard deviation of the data around the mean (aleatoric), as training has found it.
    """

    mean: Doubles
    std: Doubles
    num_samples: int
    noise: float

    @property
    def total(self) -> Doubles:
        """(B,), the standard deviation of the target, √(std² + noise²)."""
        return np.sqrt(self.std**2 + self.noise**2)


class Network:
    """A network read from a `.bbnn` file.  Any number of threads may call it at once, before and after a fork.

    Each call that runs at the same time as another has working memory (and, with `threads`, threads) of its own, which
    the network keeps for the next.  A copy, by `copy` or `pickle`, is a network of its own.

    Attributes:
        program: the checked plan.
        engine: "portable", "avx2", "avx512" or "neon" (the compiled library), or "numpy".
    """

    def __init__(
        self, program: Program, threads: int = 1, max_memory: int = MAX_MEMORY, max_operations: int = MAX_OPERATIONS
    ) -> None:
        self.program = program
        self._settings = threads, max_memory, max_operations
        self._engine = make_engine(program, *self._settings)

    def __reduce__(self) -> tuple[type["Network"], tuple[object, ...]]:
        return type(self), (self.program, *self._settings)

    def __repr__(self) -> str:
        shapes = " -> ".join(map(str, (self.program.input_shape, self.program.output_shape)))
        return f"{type(self).__name__}({self.about.task}, {shapes}, {self.num_samples} samples, engine {self.engine})"

    @property
    def engine(self) -> str:
        return self._engine.name

    @property
    def about(self) -> About:
        """What the network is for: its task, names, and the columns that it takes."""
        return self.program.about

    def prepare(self, table: Any) -> Floats:
        """The columns of a table of raw values, in whatever order, as inputs (B, F) for `predict`.

        Args:
            table: a dict of columns, a list of rows (dicts), a data frame or an Arrow table.

        Raises:
            ValueError: for a file that was trained on no table, a column that is missing, or a value that its column
                cannot have.  What is new or filled in is a warning.
        """
        if not self.about.columns:
            raise ValueError("this file was not trained on a table of columns: give predict the numbers themselves")
        x, notes = prepare(self.about.columns, table)
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return x

    @property
    def num_samples(self) -> int:
        """Number of posterior samples in the file."""
        return self.program.num_samples

    def _joined(self, x: Any) -> Any:
        """Several inputs as one vector each."""
        shapes = self.program.input_shapes
        if not shapes or not isinstance(x, (tuple, list)):
            return x
        arrays = [np.asarray(part) for part in x]
        if [a.shape[1:] for a in arrays] != list(shapes) or len({len(a) for a in arrays}) != 1:
            need, found = (", ".join(map(str, s)) for s in (shapes, [a.shape for a in arrays]))
            raise ValueError(f"x must be arrays of the shapes {need} behind the batch, got {found}")
        return np.concatenate([a.reshape(len(a), -1) for a in arrays], 1)

    def parts(self, outputs: Floats) -> tuple[Floats, ...]:
        """The outputs (..., N) of a network of several outputs, each in its own shape."""
        shapes = self.program.output_shapes or (self.program.output_shape,)
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        lead = outputs.shape[: outputs.ndim - len(self.program.output_shape)]
        flat = np.split(outputs.reshape(*lead, -1), ends[:-1], axis=-1)
        return tuple(part.reshape(*lead, *shape) for part, shape in zip(flat, shapes, strict=True))

    def run(self, x: ArrayLike, sample: int = 0) -> Floats:
        """Output of one network: x (B, *input shape) float32 → (B, ...).  Sample 0 is the mode, 1 … S the samples.

        A network of several inputs takes a tuple of arrays; one of several outputs gives them side by side, (B, N):
        see `parts`.

        Raises:
            TypeError: if x is not an array of real numbers.
            ValueError: for a wrong shape, NaN or inf, or no such sample.
        """
        outputs: Floats = self._engine.run(self._joined(x), sample, 1)[0]
        return outputs

    def run_samples(self, x: ArrayLike, num_samples: int | None = None) -> Floats:
        """Outputs (S, B, ...) of the first `num_samples` packed samples (default: all), in one call."""
        if not self.num_samples:
            raise ValueError("the file holds no samples: give num_samples when you save it")
        return self._engine.run(self._joined(x), 1, self.num_samples if num_samples is None else num_samples)

    def predict(self, x: ArrayLike, num_samples: int | None = None) -> Doubles:
        """Class probabilities (B, C): the mean over the packed samples, or the mode's if there are none.

        Args:
            x: (B, *input shape).
            num_samples: S, how many of the packed samples to use; None: all of them; 0: the mode.

        Raises:
            TypeError, ValueError: as `run`; ValueError too if the output is not (B, C) with C of at least 2, or not
                finite.
        """
        return self.predict_uncertainty(x, num_samples).probs

    def predict_uncertainty(self, x: ArrayLike, num_samples: int | None = None) -> Prediction:
        """Class probabilities, entropy and mutual information; arguments as `predict`."""
        shape = self.program.output_shape
        if self.about.task != "classification":
            raise ValueError(
                f"predict gives classes, this network was trained for {self.about.task}: predict_regression"
            )
        if len(shape) != 1:
            raise ValueError(f"predict needs an output of shape (B, C), this network's is (B, *{shape})")
        if shape == (1,):
            raise ValueError(
                "predict needs a logit for each class, this network has one in all: train it with two, "
                "or take the sigmoid of run(x)"
            )
        first, count = self._which(num_samples)
        found = self._engine.predict(self._joined(x), first, max(count, 1))
        probs, rest = found[:, : shape[0]], found[:, shape[0] :]
        return Prediction(probs, rest[:, 0], rest[:, 1], rest[:, 2], rest[:, 3], count)

    def predict_regression(self, x: ArrayLike, num_samples: int | None = None) -> RegressionPrediction:
        """Mean and standard deviations of a network that was trained for regression; arguments as `predict`.

        Raises:
            TypeError, ValueError: as `predict`; ValueError too for a network of another task.
        """
        if self.about.task != "regression":
            raise ValueError(f"this network was trained for {self.about.task}: use predict")
        outputs, count = self._outputs(x, num_samples)
        return RegressionPrediction(outputs.mean(0)[:, 0], outputs.std(0)[:, 0], count, self.about.noise)

    def _which(self, num_samples: int | None) -> tuple[int, int]:
        """(the first network, S): the mode for 0."""
        if num_samples is None:
            return min(1, self.num_samples), self.num_samples
        if num_samples and not self.num_samples:
            raise ValueError("the file holds no samples: give num_samples when you save it")
        return (1, num_samples) if num_samples else (0, 0)

    def _outputs(self, x: ArrayLike, num_samples: int | None) -> tuple[Doubles, int]:
        """(outputs (S or 1, B, ...), S)."""
        first, count = self._which(num_samples)
        outputs = self._engine.run(self._joined(x), first, max(count, 1)).astype(np.float64)
        if not np.isfinite(outputs).all():
            raise ValueError(OVERFLOW)
        return outputs, count


def load(
    source: str | Path | bytes,
    *,
    threads: int = 1,
    max_memory: int = MAX_MEMORY,
    max_operations: int = MAX_OPERATIONS,
) -> Network:
    """Load a `.bbnn` file (or its bytes).

    A small file can ask for much memory and time.  What a file asks for is known before any of it is taken, and refused
    beyond these limits.

    Args:
        source: path, or the file's bytes.
        threads: threads for one call of the network, 1 to 1024.
        max_memory: bytes that the network and one call of it may take; 1 GiB.
        max_operations: that one network may do for one input, multiply-accumulates and their like; 2·10¹⁰ (VGG-16 on
            224 × 224 pixels has 1.5·10¹⁰).

    Raises:
        FormatError: if the file is damaged or not a `.bbnn` file; OSError if it cannot be read.
        ValueError: if it is beyond a limit, which the message names; MemoryError if the system has not enough.
    """
    return Network(check(read(source)), threads, max_memory, max_operations)

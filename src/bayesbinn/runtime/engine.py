"""What runs a program: the compiled library where there is one, numpy elsewhere; and the one door to both."""

import operator
import warnings
from abc import ABC, abstractmethod
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _native
from .program import Program

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
FLOAT32 = np.dtype(np.float32)
MAX_THREADS, MOST = 1024, (1 << 63) - 1
MAX_MEMORY, MAX_OPERATIONS = 1 << 30, 2 * 10**10
CALL_OPERATIONS = 1 << 33  # of one call of `_compute`, if it has more than one input: Ctrl-C is heard between calls
NOT_FINITE = "x holds NaN or inf (or numbers beyond float32): clean the input first"


def whole(name: str, value: SupportsIndex, low: int, high: int) -> int:
    """`value` as an int within [low, high].

    Raises:
        TypeError, ValueError: naming the argument.
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if not low <= number <= high:
        raise ValueError(f"{name} must be {low} to {high}, got {number}")
    return number


class Engine(ABC):
    """Runs one program.  `run` checks everything; `_compute`, which need not, may be called by several threads.

    Raises:
        ValueError: if one input takes more than `max_operations` operations or `max_memory` bytes.
    """

    name: str

    def __init__(self, program: Program, threads: int, max_memory: int, max_operations: int) -> None:
        self._threads = whole("threads", threads, 1, MAX_THREADS)
        self._max_memory = whole("max_memory", max_memory, 1, MOST)
        whole("max_operations", max_operations, 1, MOST)
        operations = sum(op.num_operations for op in program.ops)
        if operations > max_operations:
            raise ValueError(
                f"the network cannot be loaded: one input takes {operations} operations, "
                f"max_operations allows {max_operations}"
            )
        self.program = program
        self._input, self._output = program.input_shape, program.output_shape
        self._networks = 1 + program.num_samples
        self._rows = max(1, CALL_OPERATIONS // operations)

    def run(self, x: ArrayLike, first: int, count: int) -> Floats:
        """Outputs of `count` networks from `first` on (0 is the mode): x (B, *input shape) → (count, B, *output shape).

        Raises:
            TypeError: if x is not an array of real numbers.
            ValueError: for a wrong shape, NaN or inf, or no such networks.
        """
        x = self._checked(x, first, count)
        batch = x.shape[0]
        out = np.empty((count, batch, *self._output), FLOAT32)
        if batch * count <= self._rows:
            self._compute(x, first, out)
            return out
        for network in range(count):
            for begin in range(0, batch, self._rows):
                part = slice(begin, begin + self._rows)
                self._compute(x[part], first + network, out[network : network + 1, part])
        return out

    def _checked(self, x: ArrayLike, first: int, count: int) -> Floats:
        """x, contiguous float32 of the right shape; there are such networks."""
        if type(first) is not int or type(count) is not int or not 0 <= first < first + count <= self._networks:
            first = whole("sample", first, 0, self._networks - 1)
            count = whole("num_samples", count, 1, self._networks - first)
        if type(x) is not np.ndarray:
            x = np.asarray(x)
        if x.dtype is not FLOAT32 or not x.flags.carray:
            x = _converted(x)
        shape = x.shape
        if shape[1:] != self._input or shape[0] == 0:
            need = ", ".join(map(str, self._input))
            raise ValueError(f"x must have shape (B, {need}) with B at least 1, got {shape}")
        return x

    def predict(self, x: ArrayLike, first: int, count: int) -> Doubles:
        """What `count` networks from `first` on predict together: (B, C + 4), the mean class probabilities, and their
        entropy, the mean entropy of each network, the mutual information and the variation ratio.

        Raises:
            TypeError, ValueError: as `run`; ValueError too where a logit is not finite.
        """
        return summarize(self.run(x, first, count).astype(np.float64))

    @abstractmethod
    def _compute(self, x: Floats, first: int, out: Floats) -> None:
        """Networks first ... first + count - 1 into out (count, B, *output shape); all of it contiguous and checked."""


OVERFLOW = "the network's output overflows float32 on this input: scale x as in training"


def summarize(logits: Doubles) -> Doubles:
    """`Engine.predict` of logits (S, B, C)."""
    if not np.isfinite(logits).all():
        raise ValueError(OVERFLOW)
    log_probs = logits - logits.max(-1, keepdims=True)
    log_probs -= np.log(np.exp(log_probs).sum(-1, keepdims=True))
    each = np.exp(log_probs)
    probs = each.mean(0)
    expected = -(each * log_probs).sum(-1).mean(0)
    entropy = -(probs * np.log(np.maximum(probs, np.finfo(np.float64).tiny))).sum(-1)
    votes = np.stack([np.bincount(v, minlength=probs.shape[-1]).max() for v in logits.argmax(-1).T])
    mutual = np.maximum(entropy - expected, 0) if len(each) > 1 else np.zeros_like(entropy)
    return np.column_stack([probs, entropy, expected, mutual, 1 - votes / len(each)])


def _converted(x: NDArray[np.generic]) -> Floats:
    if x.dtype.kind not in "fiu":
        raise TypeError(f"x must be an array of real numbers, got dtype {x.dtype}")
    if x.dtype == FLOAT32 and x.flags.c_contiguous and x.flags.aligned:  # read-only
        return x.view(FLOAT32)
    with np.errstate(over="ignore"):
        return x.astype(FLOAT32, order="C")


_told = False


def make_engine(program: Program, threads: int, max_memory: int, max_operations: int) -> Engine:
    """The compiled engine, or, saying so once, the numpy one.  `BAYESBINN_ISA=numpy` asks for numpy."""
    global _told
    library = _native.library()
    if library is not None:
        from .native_engine import NativeEngine

        return NativeEngine(library, program, threads, max_memory, max_operations)
    if not _told and not _native.numpy_wanted():
        _told = True
        warnings.warn("bayesbinn: no compiled library here, numpy runs the same network more slowly", stacklevel=3)
    from .numpy_engine import NumpyEngine

    return NumpyEngine(program, threads, max_memory, max_operations)

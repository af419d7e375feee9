"""Runs a checked program with the compiled library, one call for the whole network."""

import ctypes
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _native
from .engine import NOT_FINITE, OVERFLOW, Doubles, Engine
from .operation import CELLS, FUNCTIONS, Op
from .program import Program
from .reader import MAX_DIMS

# the order of csrc/program.h
KINDS = (
    *("binary", "real", "max_pool", "avg_pool", "add", "affine", "clamp", "sign", "flatten"),
    *("function", "normalize", "softmax", "matmul", "concat", "view", "constant", "multiply", "recurrent"),
)
ACTIVATIONS = ("sign", "int8", "int16", "int6")
OP_WORDS, OWN = 48, 44
ERROR_BYTES = 256
# where values are: `array.ctypes.data` takes three times as long, as long as a small layer
_address, _bytes = ctypes.addressof, cast(Callable[[Any], ctypes.c_char], ctypes.c_char.from_buffer)
NOT_FINITE_INPUT, NO_MEMORY, OVERFLOWS = 2, 3, 4  # what bbn_run and bbn_predict return
FIGURES = 4  # of bbn_predict, behind the probabilities


class NativeEngine(Engine):
    """Runs `program` with the library; raises ValueError if it refuses, MemoryError if memory is short."""

    def __init__(
        self, library: ctypes.CDLL, program: Program, threads: int, max_memory: int, max_operations: int
    ) -> None:
        super().__init__(program, threads, max_memory, max_operations)
        self.name = _native.chosen()
        self._run, self._predict, self._free = library.bbn_run, library.bbn_predict, library.bbn_free
        words, data = encode(program)
        isa = _native.isa_index(library, self.name)
        error = ctypes.create_string_buffer(ERROR_BYTES)
        self._net = library.bbn_create(
            words.ctypes.data, len(words), data.ctypes.data, len(data), isa, self._threads, self._max_memory,
            error, ERROR_BYTES,
        )  # fmt: skip
        if not self._net:
            message = error.value.decode()
            raise (MemoryError if message == "out of memory" else ValueError)(
                f"the network cannot be loaded: {message}"
            )

    def _compute(self, x: NDArray[np.float32], first: int, out: NDArray[np.float32]) -> None:
        status = self._run(self._net, _at(x), x.size, first, len(out), _address(_bytes(out)), out.size)
        if status:
            raise _failure(status, x.size, first)

    def predict(self, x: ArrayLike, first: int, count: int) -> Doubles:
        x = self._checked(x, first, count)
        classes, batch = self._output[0], len(x)
        if batch * count > self._rows:
            return super().predict(x, first, count)
        out = np.empty((batch, classes + FIGURES))
        logits, labels = np.empty(count * batch * classes, np.float32), np.empty(count, np.int64)
        status = self._predict(
            self._net, _at(x), x.size, first, count, _address(_bytes(logits)), logits.size,
            _address(_bytes(labels)), _address(_bytes(out)), out.size,
        )  # fmt: skip
        if status:
            raise _failure(status, x.size, first)
        return out

    def __del__(self) -> None:
        if getattr(self, "_net", None):
            self._free(self._net)
            self._net = None


def _at(x: NDArray[np.float32]) -> int:
    try:
        return _address(_bytes(x))
    except TypeError:  # read-only
        return x.ctypes.data


def _failure(status: int, num_x: int, first: int) -> Exception:
    if status == NOT_FINITE_INPUT:
        return ValueError(NOT_FINITE)
    if status == OVERFLOWS:
        return ValueError(OVERFLOW)
    if status == NO_MEMORY:
        return MemoryError("there is no memory for another call of this network at the same time")
    return ValueError(f"the library refused {num_x} numbers for network {first}: its shapes are others")


def encode(program: Program) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The program as words, and the bytes of its tensors, as csrc/program.h describes them."""
    first = program.input
    words = [np.array([len(program.ops), *first, program.num_samples], np.int64)]
    parts: list[NDArray[np.uint8]] = []
    offset = 0
    shapes = dict(enumerate([first, *(op.shape for op in program.ops)]))
    for op in program.ops:
        if op.inputs and shapes.get(op.inputs[0]) != op.source:
            raise ValueError(f"{op.kind} {op.name}: reads {op.source}, not the shape of value {op.inputs[0]}")
        offsets: list[int] = []
        for raw in _tensors(op, 1 + program.num_samples):
            offsets.append(offset)
            parts.append(np.pad(raw, (0, -len(raw) % 8)))
            offset += len(parts[-1])
        words.append(_op_words(op, offsets))
    data = np.concatenate(parts) if parts else np.zeros(1, np.uint8)
    return np.concatenate(words), data


def _tensors(op: Op, num_networks: int) -> list[NDArray[np.uint8]]:
    """The bytes of an operation's weights, scale and shift, or of none of them.

    Raises:
        ValueError: if one is not of the shape and dtype that the operation's own shapes ask for.
    """
    rows = (num_networks,) if op.own else ()
    wanted: list[tuple[NDArray[Any] | None, Any, tuple[int, ...]]] = []
    if op.kind == "binary":
        wanted.append((op.bits, np.uint8, (num_networks, (op.num_weights + 7) // 8)))
    elif op.kind == "real":
        wanted.append((op.weight, np.float32, (*rows, *op.weight_shape)))
    elif op.kind == "recurrent":
        return _tensors(op.product, num_networks)
    elif op.kind == "constant":
        return [_bytes_of(op, op.value, np.float32, (*rows, *op.shape))]
    elif op.kind in ("affine", "normalize"):
        wanted.append((np.zeros(0, np.uint8), np.uint8, (0,)))
    if wanted:
        wanted += [(tensor, np.float32, (*rows, op.shape[0])) for tensor in (op.scale, op.shift)]
    return [_bytes_of(op, *each) for each in wanted]


def _bytes_of(op: Op, tensor: NDArray[Any] | None, dtype: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
        have = "none" if tensor is None else f"{tensor.dtype} of shape {tensor.shape}"
        raise ValueError(f"{op.kind} {op.name}: needs a tensor {np.dtype(dtype)} of shape {shape}, has {have}")
    return np.frombuffer(tensor.tobytes(), np.uint8)


def _op_words(op: Op, offsets: list[int]) -> NDArray[np.int64]:
    activation = op.activation
    first, *_, last = op.inputs * 2 or (0, 0)
    fields: list[Any] = [KINDS.index(op.kind), first, last, op.shape[0], *op.kernel, *op.stride]
    fields += [*op.padding, *op.dilation, op.groups]
    if activation is None:
        fields += [0, 0, 0, 0]
    else:
        step = 0.0 if activation.step is None else activation.step
        fields += [ACTIVATIONS.index(activation.kind), activation.step is not None, _float_bits(step), activation.zero]
    fields += [_float_bits(op.low), _float_bits(op.high), *offsets, *[0] * (3 - len(offsets))]
    fields += [_variant(op), _float_bits(op.parameter), *op.shape]
    if op.view is not None:
        short = MAX_DIMS - len(op.view.sizes)
        fields += [op.view.offset, *[1] * short, *op.view.sizes, *[0] * short, *op.view.strides]
    fields += [0] * (OP_WORDS - len(fields))
    fields[OWN] = int(op.own)
    return np.array(fields, np.int64)


def _variant(op: Op) -> int:
    """What program.h calls so: which function, which axis, or flags."""
    if op.kind == "function":
        return FUNCTIONS.index(op.function)
    if op.kind == "normalize":
        return int(op.center) + 2 * int(op.whole)
    if op.kind == "recurrent":
        return list(CELLS).index(op.function) + 4 * int(op.reverse) + 8 * int(op.bits is None)
    return op.axis if op.kind == "concat" else int(op.transposed)


def _float_bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))

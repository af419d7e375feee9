"""Runs a checked program with the compiled library, one call for the whole network."""

import ctypes
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .. import _native
from .engine import NOT_FINITE, Engine
from .program import Op, Program

# the order of csrc/program.h
KINDS = ("binary", "real", "max_pool", "avg_pool", "add", "affine", "clamp", "sign", "flatten")
ACTIVATIONS = ("sign", "int8", "int16")
OP_WORDS = 24
ERROR_BYTES = 256
# where values are: `array.ctypes.data` takes three times as long, as long as a small layer
_address, _bytes = ctypes.addressof, cast(Callable[[Any], ctypes.c_char], ctypes.c_char.from_buffer)
NOT_FINITE_INPUT, NO_MEMORY = 2, 3  # what bbn_run returns


class NativeEngine(Engine):
    """Runs `program` with the library; raises ValueError if it refuses, MemoryError if memory is short."""

    def __init__(
        self, library: ctypes.CDLL, program: Program, threads: int, max_memory: int, max_operations: int
    ) -> None:
        super().__init__(program, threads, max_memory, max_operations)
        self.name = _native.chosen()
        self._run, self._free = library.bbn_run, library.bbn_free
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
        try:
            at = _address(_bytes(x))
        except TypeError:  # read-only
            at = x.ctypes.data
        status = self._run(self._net, at, x.size, first, len(out), _address(_bytes(out)), out.size)
        if status:
            raise _failure(status, x.size, first)

    def __del__(self) -> None:
        if getattr(self, "_net", None):
            self._free(self._net)
            self._net = None


def _failure(status: int, num_x: int, first: int) -> Exception:
    if status == NOT_FINITE_INPUT:
        return ValueError(NOT_FINITE)
    if status == NO_MEMORY:
        return MemoryError("there is no memory for another call of this network at the same time")
    return ValueError(f"the library refused {num_x} numbers for network {first}: its shapes are others")


def encode(program: Program) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The program as words, and the bytes of its tensors, as csrc/program.h describes them."""
    first = program.ops[0].source
    words = [np.array([len(program.ops), *first, program.num_samples], np.int64)]
    parts: list[NDArray[np.uint8]] = []
    offset = 0
    for op in program.ops:
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
    wanted: list[tuple[NDArray[Any] | None, Any, tuple[int, ...]]] = []
    if op.kind == "binary":
        wanted.append((op.bits, np.uint8, (num_networks, (op.num_weights + 7) // 8)))
    elif op.kind == "real":
        wanted.append((op.weight, np.float32, op.weight_shape))
    elif op.kind == "affine":
        wanted.append((np.zeros(0, np.uint8), np.uint8, (0,)))
    if wanted:
        wanted += [(tensor, np.float32, op.shape[:1]) for tensor in (op.scale, op.shift)]
    found = []
    for tensor, dtype, shape in wanted:
        if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
            have = "none" if tensor is None else f"{tensor.dtype} of shape {tensor.shape}"
            raise ValueError(f"{op.kind} {op.name}: needs a tensor {np.dtype(dtype)} of shape {shape}, has {have}")
        found.append(np.frombuffer(tensor.tobytes(), np.uint8))
    return found


def _op_words(op: Op, offsets: list[int]) -> NDArray[np.int64]:
    activation = op.activation
    fields: list[Any] = [KINDS.index(op.kind), op.inputs[0], op.inputs[-1], op.shape[0], *op.kernel, *op.stride]
    fields += [*op.padding, *op.dilation, op.groups]
    if activation is None:
        fields += [0, 0, 0, 0]
    else:
        step = 0.0 if activation.step is None else activation.step
        fields += [ACTIVATIONS.index(activation.kind), activation.step is not None, _float_bits(step), activation.zero]
    fields += [_float_bits(op.low), _float_bits(op.high), *offsets]
    return np.array(fields + [0] * (OP_WORDS - len(fields)), np.int64)


def _float_bits(value: float) -> int:
    return int(np.float32(value).view(np.uint32))

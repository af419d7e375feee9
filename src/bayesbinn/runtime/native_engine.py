"""Runs a checked program with the compiled library, one call for the whole network."""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native
from .engine import NOT_FINITE
from .program import Op, Program

# the order of csrc/program.h
KINDS = ("binary", "real", "max_pool", "avg_pool", "add", "affine", "clamp", "sign", "flatten")
ACTIVATIONS = ("sign", "int8", "int16")
OP_WORDS = 24
FLOAT32 = np.dtype(np.float32)
ERROR_BYTES = 256


class NativeEngine:
    """Runs `program` with the library; raises ValueError if it refuses, MemoryError if memory is short."""

    def __init__(self, library: ctypes.CDLL, program: Program, threads: int = 1) -> None:
        self.name = _native.chosen()
        self.program = program
        self.threads = threads
        self._output = program.output_shape
        self._run = library.bbn_run
        self._run.argtypes = (
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_int64,
            ctypes.c_void_p,
        )
        library.bbn_free.argtypes = (ctypes.c_void_p,)
        self._free = library.bbn_free
        words, data = encode(program)
        error = ctypes.create_string_buffer(ERROR_BYTES)
        create = library.bbn_create
        create.restype = ctypes.c_void_p
        create.argtypes = (
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_void_p,
            ctypes.c_int64,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_int,
        )
        self._net = create(
            words.ctypes.data, len(words), data.ctypes.data, len(data), self.name.encode(), threads, error, ERROR_BYTES
        )
        if not self._net:
            message = error.value.decode()
            raise (MemoryError if message == "out of memory" else ValueError)(
                f"the network cannot be loaded: {message}"
            )

    def run(self, x: NDArray[np.float32], first: int, count: int) -> NDArray[np.float32]:
        """Outputs of `count` networks from `first` on (0 is the mode): x (B, *input shape) → (count, B, *output shape).

        x must be contiguous.

        Raises:
            ValueError: if x is not finite, or there are no such networks.
        """
        out = np.empty((count, len(x), *self._output), FLOAT32)
        status = self._run(self._net, _address(x), len(x), first, count, _address(out))
        if status == 2:
            raise ValueError(NOT_FINITE)
        if status:
            raise ValueError(
                f"no networks {first} to {first + count - 1}: the file holds 0 to {self.program.num_samples}"
            )
        return out

    def __del__(self) -> None:
        if getattr(self, "_net", None):
            self._free(self._net)
            self._net = None


def _address(array: NDArray[Any]) -> int:
    """Where the values are; `array.ctypes.data` takes three times as long, as long as a small layer."""
    try:
        return ctypes.addressof(ctypes.c_char.from_buffer(array))  # type: ignore[arg-type]
    except TypeError:  # read-only
        return int(array.ctypes.data)


def encode(program: Program) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """The program as words, and the bytes of its tensors, as csrc/program.h describes them."""
    first = program.ops[0].source
    words = [np.array([len(program.ops), *first, program.num_samples], np.int64)]
    parts: list[NDArray[np.uint8]] = []
    offset = 0
    for op in program.ops:
        offsets = []
        for tensor in (op.bits if op.kind == "binary" else op.weight, op.scale, op.shift):
            offsets.append(offset)
            if tensor is not None:
                raw = np.frombuffer(tensor.tobytes(), np.uint8)
                parts.append(np.pad(raw, (0, -len(raw) % 8)))
                offset += len(parts[-1])
        words.append(_op_words(op, offsets))
    data = np.concatenate(parts) if parts else np.zeros(1, np.uint8)
    return np.concatenate(words), data


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

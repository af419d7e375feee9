"""Reads the operations of a plan: every field is checked before it is used."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .container import FormatError, is_int
from .operation import (
    CELLS,
    FUNCTIONS,
    LEVELS,
    MAX_FAN_IN,
    MAX_STEP,
    MIN_STEP,
    WITH_PARAMETER,
    Activation,
    Op,
    Pair,
    Shape,
    View,
)

MAX_SIZE, MAX_DIMS = 1 << 24, 8


class Reader:
    """Reads one operation after the other; every field is checked before it is used."""

    def __init__(self, tensors: dict[str, NDArray[Any]], samples: int) -> None:
        self.tensors, self.samples = tensors, samples
        self.used: set[str] = set()
        self.where = ""
        self.second: tuple[Shape, int] = ((1, 1, 1), 1)  # shape and rank of the last input of the operation in hand
        self.rows: tuple[int, ...] = ()  # the first size of its real tensors, if each network has its own

    def op(self, entry: object, index: int, values: list[tuple[Shape, int]]) -> Op:
        self.where = f"operation {index}"
        if not isinstance(entry, dict) or not isinstance(entry.get("op"), str):
            raise FormatError(f"{self.where} must be an object with a field 'op'")
        kind = entry["op"]
        name = entry.get("name", "")
        self.where = f"operation {index} ({kind}{' ' + name if isinstance(name, str) and name else ''})"
        count = NUM_INPUTS.get(kind, 1)
        inputs = entry.get("inputs")
        if not (isinstance(inputs, list) and len(inputs) == count and all(is_int(i, 0, index) for i in inputs)):
            raise FormatError(f"{self.where}: inputs must be {count} of the values 0 to {index}, found {inputs!r}")
        source, rank = values[inputs[0]] if inputs else ((1, 1, 1), 1)
        self.second = values[inputs[-1]] if inputs else (source, rank)
        fields: dict[str, Any] = {"name": str(name), "inputs": tuple(inputs), "source": source, "rank": rank}
        read = READERS.get(kind)
        if read is None:
            raise FormatError(f"{self.where}: unknown operation, known are {', '.join(READERS)}")
        known = {"op", "name", "inputs", *FIELDS[kind], *(["own"] if REALS & set(FIELDS[kind]) else [])}
        if entry.keys() - known:
            raise FormatError(f"{self.where}: unknown field {sorted(entry.keys() - known)[0]!r}")
        self.rows = (1 + self.samples,) if "own" in entry and self.flag(entry, "own") else ()
        fields |= {"own": bool(self.rows)} | read(self, entry, source, rank)
        if "clamp" in FIELDS[kind]:
            fields["low"], fields["high"] = self.clamp(entry)
        return Op(**({"shape": source} | fields))

    def error(self, field: str, found: object, need: str) -> FormatError:
        return FormatError(f"{self.where}: {field} must be {need}, found {found!r}")

    def pair(self, entry: dict[str, Any], field: str, rank: int, low: int, default: int | None) -> Pair:
        """A field with one size per spatial dimension, as (height, width)."""
        found = entry.get(field, None if default is None else [default] * (rank - 1))
        if not (isinstance(found, list) and len(found) == rank - 1 and all(is_int(n, low, MAX_SIZE) for n in found)):
            raise self.error(field, found, f"{rank - 1} integers of at least {low}")
        return (found[0], found[1]) if rank == 3 else (1 if low else 0, found[0])

    def tensor(self, entry: dict[str, Any], field: str, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
        name = entry.get(field)
        tensor = self.tensors.get(name) if isinstance(name, str) else None
        if tensor is None:
            raise self.error(field, name, "the name of a tensor in the file")
        if tensor.dtype != np.dtype(dtype).newbyteorder("<") or tensor.shape != shape:
            raise self.error(field, (str(tensor.dtype), tensor.shape), f"{np.dtype(dtype).name} of shape {shape}")
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise self.error(field, "NaN or inf", "finite")
        assert isinstance(name, str)
        self.used.add(name)
        return tensor

    def number(self, entry: dict[str, Any], field: str, low: float) -> float:
        found = entry.get(field)
        if not is_number(found) or not np.float32(found) >= np.float32(low):
            raise self.error(field, found, "a finite number" + (f" of at least {low}" if low > -math.inf else ""))
        return float(np.float32(found))

    def flag(self, entry: dict[str, Any], field: str) -> bool:
        found = entry.get(field)
        if not isinstance(found, bool):
            raise self.error(field, found, "true or false")
        return found

    def sizes(self, entry: dict[str, Any], field: str, most: int, low: int = 1) -> tuple[int, ...]:
        found = entry.get(field)
        if not (isinstance(found, list) and 1 <= len(found) <= most and all(is_int(n, low, MAX_SIZE) for n in found)):
            raise self.error(field, found, f"1 to {most} integers of at least {low}")
        return tuple(found)

    def clamp(self, entry: dict[str, Any]) -> tuple[float, float]:
        found = entry.get("clamp", [None, None])
        if not (isinstance(found, list) and len(found) == 2 and all(n is None or is_number(n) for n in found)):
            raise self.error("clamp", found, "[low, high], each a number or null")
        low = -math.inf if found[0] is None else float(np.float32(found[0]))
        high = math.inf if found[1] is None else float(np.float32(found[1]))
        if not low <= high:
            raise self.error("clamp", found, "[low, high] with low <= high")
        return low, high

    def scale_shift(self, entry: dict[str, Any], channels: int) -> dict[str, Any]:
        shape = (*self.rows, channels)
        return {field: self.tensor(entry, field, np.float32, shape) for field in ("scale", "shift")}

    def activation(self, entry: dict[str, Any], fan_in: int) -> Activation:
        found = entry.get("activation")
        if not isinstance(found, dict) or not isinstance(found.get("type"), str) or found["type"] not in MAX_FAN_IN:
            raise self.error("activation", found, f"an object whose type is one of {', '.join(MAX_FAN_IN)}")
        kind = found["type"]
        if fan_in > MAX_FAN_IN[kind]:
            raise self.error("activation", f"{kind} with fan-in {fan_in}", f"at most fan-in {MAX_FAN_IN[kind]}")
        allowed = {"type"} if kind == "sign" else {"type", "step", "zero"}
        if found.keys() - allowed or ("step" in found) != ("zero" in found):
            raise self.error(
                "activation", found, "'type' alone, or for int6, int8 and int16 with both 'step' and 'zero'"
            )
        if "step" not in found:
            return Activation(kind)
        step, zero = found["step"], found["zero"]
        if not is_number(step) or not MIN_STEP <= np.float32(step) <= MAX_STEP:
            raise self.error("activation step", step, f"{MIN_STEP} to {MAX_STEP}")
        if not is_int(zero, -LEVELS[kind], LEVELS[kind]):
            raise self.error("activation zero", zero, f"an integer within ±{LEVELS[kind]}")
        return Activation(kind, float(np.float32(step)), zero)

    def linear(self, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
        features = entry.get("features")
        if not is_int(features, 1, MAX_SIZE):
            raise self.error("features", features, f"1 to {MAX_SIZE}")
        if rank != 1:
            raise self.error("input", source, "a vector: flatten it first")
        return {"shape": (features, 1, 1), "rank": 1}

    def window(self, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
        """Kernel, stride, padding, dilation and the output's height and width."""
        if rank == 1:
            raise self.error("input", source, "a sequence or an image, not a vector")
        kernel = self.pair(entry, "kernel", rank, 1, None)
        stride = self.pair(entry, "stride", rank, 1, 1)
        padding = self.pair(entry, "padding", rank, 0, 0)
        dilation = self.pair(entry, "dilation", rank, 1, 1)
        size = [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(source[1:], kernel, stride, padding, dilation, strict=True)
        ]
        if min(size) < 1 or max(size) > MAX_SIZE:
            raise self.error("kernel", kernel, f"such that the output size is 1 to {MAX_SIZE}, not {size}")
        shape = (source[0], size[0], size[1])
        return {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "shape": shape}

    def conv(self, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
        fields = self.window(entry, source, rank)
        channels, groups = entry.get("channels"), entry.get("groups", 1)
        if not is_int(channels, 1, MAX_SIZE):
            raise self.error("channels", channels, f"1 to {MAX_SIZE}")
        if not is_int(groups, 1, MAX_SIZE) or source[0] % groups or channels % groups:
            raise self.error("groups", groups, f"a divisor of {source[0]} and {channels} channels")
        return fields | {"groups": groups, "shape": (channels, *fields["shape"][1:])}

    def weights(self, entry: dict[str, Any], source: Shape, fields: dict[str, Any], binary: bool) -> dict[str, Any]:
        channels, kernel = fields["shape"][0], fields.get("kernel", (1, 1))
        shape = (channels, source[0] // fields.get("groups", 1), *kernel)
        fields |= {"kind": "binary" if binary else "real"} | self.scale_shift(entry, channels)
        if not binary:
            stored = (*self.rows, *shape[:2], *(entry.get("kernel", ())))  # as in torch
            weight = self.tensor(entry, "weight", np.float32, stored)
            return fields | {"weight": weight.reshape(*self.rows, *shape)}
        fields["activation"] = self.activation(entry, math.prod(shape[1:]))
        size = math.prod(shape)
        bits = self.tensor(entry, "bits", np.uint8, (1 + self.samples, (size + 7) // 8))
        if size % 8 and (bits[:, -1] >> (size % 8)).any():
            raise self.error("bits", "padding bits that are 1", "padded with 0")
        return fields | {"bits": bits}


Read = Callable[[Reader, dict[str, Any], Shape, int], dict[str, Any]]


def _layer(binary: bool, conv: bool) -> Read:
    def read(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
        fields = self.conv(entry, source, rank) if conv else self.linear(entry, source, rank)
        return self.weights(entry, source, fields, binary)

    return read


def _recurrent(binary: bool) -> Read:
    """x (gates · C, T), the products with the input, to the states (C, T)."""

    def read(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
        cell = entry.get("cell")
        if not isinstance(cell, str) or cell not in CELLS:
            raise self.error("cell", cell, f"one of {', '.join(CELLS)}")
        if rank != 2 or source[0] % CELLS[cell]:
            raise self.error("input", source, f"a sequence with a multiple of {CELLS[cell]} channels")
        size = source[0] // CELLS[cell]
        fields = self.weights(entry, (size, 1, 1), {"shape": (source[0], 1, 1)}, binary)
        shape = (size, *source[1:])
        return fields | {"kind": "recurrent", "shape": shape, "function": cell, "reverse": self.flag(entry, "reverse")}

    return read


def _pool(kind: str) -> Read:
    def read(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
        fields = self.window(entry, source, rank)
        if any(2 * p > k for p, k in zip(fields["padding"], fields["kernel"], strict=True)):
            raise self.error("padding", fields["padding"], "at most half the kernel")
        return fields | {"kind": kind}

    return read


def _same(kind: str) -> Read:
    return lambda self, entry, source, rank: {"kind": kind}


def _broadcast(kind: str) -> Read:
    def read(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
        other, of_rank = self.second
        if of_rank != rank or any(n not in (1, m) for n, m in zip(other, source, strict=True)):
            raise self.error("second input", other, f"of shape {source}, or with sizes of 1 in it")
        return {"kind": kind}

    return read


def _concat(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
    axis, (other, of_rank) = entry.get("axis"), self.second
    if not is_int(axis, 0, rank - 1):
        raise self.error("axis", axis, f"0 to {rank - 1}")
    inner = ((0,), (0, 2), (0, 1, 2))[rank - 1][int(axis or 0)]
    if of_rank != rank or any(i != inner and n != m for i, (n, m) in enumerate(zip(source, other, strict=True))):
        raise self.error("second input", other, f"of shape {source} but for the axis")
    shape = [n + m * (i == inner) for i, (n, m) in enumerate(zip(source, other, strict=True))]
    return {"kind": "concat", "axis": inner, "shape": tuple(shape)}


def _function(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
    name = entry.get("function")
    if name not in FUNCTIONS:
        raise self.error("function", name, f"one of {', '.join(FUNCTIONS)}")
    if (name in WITH_PARAMETER) != ("parameter" in entry):
        raise self.error("parameter", entry.get("parameter"), f"given for {', '.join(WITH_PARAMETER)} and no other")
    parameter = self.number(entry, "parameter", -math.inf) if name in WITH_PARAMETER else 0.0
    return {"kind": "function", "function": name, "parameter": parameter}


def _normalize(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
    groups = entry.get("groups", 1)
    if not is_int(groups, 1, MAX_SIZE) or source[0] % groups:
        raise self.error("groups", groups, f"a divisor of {source[0]} channels")
    flags = {field: self.flag(entry, field) for field in ("center", "whole")}
    eps = {"parameter": self.number(entry, "eps", MIN_STEP)}
    return {"kind": "normalize", "groups": groups} | flags | eps | self.scale_shift(entry, source[0])


def _matmul(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
    other, of_rank = self.second
    transposed = self.flag(entry, "transposed")
    inner, features = (other[0], other[2]) if transposed else (other[2], other[0])
    if of_rank != rank or rank == 1 or other[1] != source[1] or inner != source[0]:
        need = f"(K, H, {'N) or (K, N)' if transposed else 'K) or (N, K)'} with the {source[0]} channels of the first"
        raise self.error("second input", other, need)
    return {"kind": "matmul", "transposed": transposed, "shape": (features, *source[1:])}


def _view(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
    user, sizes = self.sizes(entry, "shape", 3), self.sizes(entry, "sizes", MAX_DIMS)
    strides, offset = self.sizes(entry, "strides", MAX_DIMS, -MAX_SIZE), entry.get("offset", 0)
    if math.prod(sizes) != math.prod(user) or len(strides) != len(sizes):
        raise self.error("sizes", list(sizes), f"as many as strides, with the product {math.prod(user)}")
    reach = [(n - 1) * s for n, s in zip(sizes, strides, strict=True)]
    least, most = (sum(f(0, r) for r in reach) for f in (min, max))
    if not is_int(offset, -least, math.prod(source) - 1 - most):
        raise self.error("offset", offset, f"such that all {math.prod(source)} numbers read are of the input")
    return {"kind": "view", "shape": inner_shape(user), "rank": len(user), "view": View(sizes, strides, offset)}


def _constant(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
    name = entry.get("value")
    found = self.tensors[name].shape if isinstance(name, str) and name in self.tensors else ()
    user = found[len(self.rows) :]
    value = self.tensor(entry, "value", np.float32, (*self.rows, *user))
    if not (1 <= len(user) <= 3 and min(user) >= 1):
        raise self.error("value", user, "1 to 3 positive sizes")
    shape = inner_shape(user)
    fields = {"kind": "constant", "source": shape, "shape": shape, "rank": len(user)}
    return fields | {"value": value.reshape(*self.rows, *shape)}


def _affine(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
    return {"kind": "affine"} | self.scale_shift(entry, source[0])


def _flatten(self: Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
    return {"kind": "flatten", "shape": (math.prod(source), 1, 1), "rank": 1}


READERS: dict[str, Read] = {
    "binary_linear": _layer(binary=True, conv=False),
    "binary_conv": _layer(binary=True, conv=True),
    "real_linear": _layer(binary=False, conv=False),
    "real_conv": _layer(binary=False, conv=True),
    "binary_recurrent": _recurrent(binary=True),
    "real_recurrent": _recurrent(binary=False),
    "max_pool": _pool("max_pool"),
    "avg_pool": _pool("avg_pool"),
    "add": _broadcast("add"),
    "multiply": _broadcast("multiply"),
    "affine": _affine,
    "clamp": _same("clamp"),
    "sign": _same("sign"),
    "flatten": _flatten,
    "function": _function,
    "normalize": _normalize,
    "softmax": _same("softmax"),
    "matmul": _matmul,
    "concat": _concat,
    "view": _view,
    "constant": _constant,
}
SINCE_2 = (  # not in version 1
    *("multiply", "function", "normalize", "softmax", "matmul", "concat", "view", "constant"),
    *("binary_recurrent", "real_recurrent"),
)
REALS = {"scale", "shift", "weight", "value"}
NUM_INPUTS = {"add": 2, "multiply": 2, "concat": 2, "matmul": 2, "constant": 0}  # 1 for all others
_CONV = ("channels", "kernel", "stride", "padding", "dilation", "groups")
_POOL = ("kernel", "stride", "padding")
FIELDS: dict[str, tuple[str, ...]] = {
    "binary_linear": ("features", "bits", "activation", "scale", "shift", "clamp"),
    "binary_conv": (*_CONV, "bits", "activation", "scale", "shift", "clamp"),
    "real_linear": ("features", "weight", "scale", "shift", "clamp"),
    "real_conv": (*_CONV, "weight", "scale", "shift", "clamp"),
    "binary_recurrent": ("cell", "reverse", "bits", "activation", "scale", "shift"),
    "real_recurrent": ("cell", "reverse", "weight", "scale", "shift"),
    "max_pool": _POOL,
    "avg_pool": (*_POOL, "clamp"),
    "add": ("clamp",),
    "multiply": ("clamp",),
    "affine": ("scale", "shift", "clamp"),
    "clamp": ("clamp",),
    "sign": (),
    "flatten": (),
    "function": ("function", "parameter"),
    "normalize": ("groups", "center", "whole", "eps", "scale", "shift", "clamp"),
    "softmax": (),
    "matmul": ("transposed",),
    "concat": ("axis",),
    "view": ("shape", "sizes", "strides", "offset"),
    "constant": ("value",),
}


def inner_shape(user: tuple[int, ...]) -> Shape:
    """(C, H, W) of a value that the user sees as (C,), (C, L) or (C, H, W)."""
    return {1: (*user, 1, 1), 2: (user[0], 1, user[-1]), 3: user}[len(user)]  # type: ignore[return-value]


def is_number(value: object) -> bool:
    """Whether a decoded JSON value is a finite number that fits float32."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= float(np.finfo(np.float32).max)

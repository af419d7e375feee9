"""The plan of a `.bbnn` file, checked and with every shape worked out: what the engines run.

A plan is a list of operations.  Value 0 is the input; operation k writes value k + 1; the last value is the output.
Inside the engines a value is a (C, H, W) array per input, with H = 1 for sequences and H = W = 1 for vectors.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .about import About, check_about
from .container import Container, FormatError, is_int

Shape = tuple[int, int, int]
Pair = tuple[int, int]
# the largest |q| of each activation type, and the largest fan-in for which sums of w(q - zero) stay in 32 bits
LEVELS = {"int8": 127, "int16": 32512}
MAX_FAN_IN = {"int8": 1 << 20, "int16": 1 << 15, "sign": 1 << 20}
MAX_OPS, MAX_SIZE, MAX_VALUE, MAX_SAMPLES = 4096, 1 << 24, 1 << 28, 4096
MIN_STEP, MAX_STEP = 1e-30, 1e30


@dataclass(frozen=True)
class Activation:
    """How a binary layer reads its input.

    Attributes:
        kind: "int8", "int16" or "sign" (±1, one bit).
        step: the size s of one level in x ≈ s (q − zero); None: worked out for each input (row) from its range.
        zero: the level that stands for 0.
    """

    kind: str
    step: float | None = None
    zero: int = 0

    @property
    def levels(self) -> int:
        """Q, the largest |q|; 1 for signs."""
        return LEVELS.get(self.kind, 1)


@dataclass(frozen=True)
class Op:
    """One operation with its shapes; fields that its kind does not use keep their defaults.

    Attributes:
        kind: "binary", "real", "max_pool", "avg_pool", "add", "affine", "clamp", "sign" or "flatten".
        name: of the module it came from.
        inputs: indices of the values it reads.
        source, shape: (C, H, W) of the first input and of the output.
        rank: number of sizes of the output as the user sees it, without the batch.
        kernel, stride, padding, dilation, groups: of convolutions and pools; linear layers are 1 × 1 convolutions.
        low, high: the output is clamped to this range (ReLU is 0 to infinity).
        activation: of a binary layer.
        bits: (1 + S, bytes) uint8: the mode and the samples.  weight: (O, I/groups, kH, kW) float32.
        scale, shift: (C,) float32 per output channel.
    """

    kind: str
    name: str
    inputs: tuple[int, ...]
    source: Shape
    shape: Shape
    rank: int
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    low: float = -math.inf
    high: float = math.inf
    activation: Activation | None = None
    bits: NDArray[np.uint8] | None = None
    weight: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None
    shift: NDArray[np.float32] | None = None

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(O, I/groups, kH, kW) of a layer with weights."""
        return (self.shape[0], self.source[0] // self.groups, *self.kernel)

    @property
    def num_weights(self) -> int:
        return math.prod(self.weight_shape) if self.kind in ("binary", "real") else 0

    @property
    def num_macs(self) -> int:
        """Multiply-accumulates for one input."""
        return self.num_weights * self.shape[1] * self.shape[2]

    @property
    def num_operations(self) -> int:
        """What one input costs: multiply-accumulates (or values pooled, or written), and 16 for each tap of a window.

        To find what a tap meets in the image takes about as long as that, however few its channels are.
        """
        taps = self.shape[1] * self.shape[2] * math.prod(self.kernel)
        return (self.num_macs or self.shape[0] * taps) + (16 * taps if taps > 1 else 0)


@dataclass(frozen=True)
class Program:
    """A checked network: `input_shape` as the user gives it (without batch), the operations, S, the file's size, and
    what the network is for."""

    input_shape: tuple[int, ...]
    ops: tuple[Op, ...]
    num_samples: int
    num_bytes: int
    producer: str
    about: About = field(default_factory=About)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Sizes of the output as the user sees it, without the batch."""
        return user_shape(self.ops[-1].shape, self.ops[-1].rank)


def user_shape(shape: Shape, rank: int) -> tuple[int, ...]:
    """(C,), (C, L) or (C, H, W): what the user sees of a (C, H, W) value."""
    channels, height, width = shape
    return {1: (channels,), 2: (channels, width), 3: (channels, height, width)}[rank]


def check(container: Container) -> Program:
    """Check the plan of a container against its tensors and work out all shapes.

    Raises:
        FormatError: naming the operation and the field.
    """
    plan = container.plan
    shape, samples, entries = plan.get("input"), plan.get("num_samples"), plan.get("ops")
    if not (isinstance(shape, list) and 1 <= len(shape) <= 3 and all(is_int(n, 1, MAX_SIZE) for n in shape)):
        raise FormatError(f"input shape must be 1 to 3 positive sizes, found {shape!r}")
    if not is_int(samples, 0, MAX_SAMPLES):
        raise FormatError(f"num_samples must be 0 to {MAX_SAMPLES}, found {samples!r}")
    if not (isinstance(entries, list) and 1 <= len(entries) <= MAX_OPS):
        raise FormatError(f"a plan needs 1 to {MAX_OPS} operations")
    reader = _Reader(container.tensors, int(samples or 0))
    inner: Shape = {1: (*shape, 1, 1), 2: (shape[0], 1, shape[-1]), 3: tuple(shape)}[len(shape)]
    _check_size(inner, "input")
    values: list[tuple[Shape, int]] = [(inner, len(shape))]
    ops: list[Op] = []
    for index, entry in enumerate(entries):
        op = reader.op(entry, index, values)
        _check_size(op.shape, reader.where)
        ops.append(op)
        values.append((op.shape, op.rank))
    unused = container.tensors.keys() - reader.used
    if unused:
        raise FormatError(f"tensors that no operation uses: {', '.join(sorted(unused)[:5])}")
    about = check_about(plan.get("about"), tuple(shape), user_shape(*values[-1]))
    return Program(tuple(shape), tuple(ops), reader.samples, container.num_bytes, str(plan.get("producer", "")), about)


def _check_size(shape: Shape, where: str) -> None:
    if math.prod(shape) > MAX_VALUE:
        raise FormatError(f"{where}: {math.prod(shape)} values for one input, at most {MAX_VALUE} are allowed")


class _Reader:
    """Reads one operation after the other; every field is checked before it is used."""

    def __init__(self, tensors: dict[str, NDArray[Any]], samples: int) -> None:
        self.tensors, self.samples = tensors, samples
        self.used: set[str] = set()
        self.where = ""

    def op(self, entry: object, index: int, values: list[tuple[Shape, int]]) -> Op:
        self.where = f"operation {index}"
        if not isinstance(entry, dict) or not isinstance(entry.get("op"), str):
            raise FormatError(f"{self.where} must be an object with a field 'op'")
        kind = entry["op"]
        name = entry.get("name", "")
        self.where = f"operation {index} ({kind}{' ' + name if isinstance(name, str) and name else ''})"
        count = 2 if kind == "add" else 1
        inputs = entry.get("inputs")
        if not (isinstance(inputs, list) and len(inputs) == count and all(is_int(i, 0, index) for i in inputs)):
            raise FormatError(f"{self.where}: inputs must be {count} of the values 0 to {index}, found {inputs!r}")
        source, rank = values[inputs[0]]
        fields: dict[str, Any] = {"name": str(name), "inputs": tuple(inputs), "source": source, "rank": rank}
        read = READERS.get(kind)
        if read is None:
            raise FormatError(f"{self.where}: unknown operation, known are {', '.join(READERS)}")
        if kind == "add" and values[inputs[1]] != (source, rank):
            raise FormatError(f"{self.where}: adds shapes {source} and {values[inputs[1]][0]}, they must be equal")
        known = {"op", "name", "inputs", *FIELDS[kind]}
        if entry.keys() - known:
            raise FormatError(f"{self.where}: unknown field {sorted(entry.keys() - known)[0]!r}")
        fields |= read(self, entry, source, rank)
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
        return {field: self.tensor(entry, field, np.float32, (channels,)) for field in ("scale", "shift")}

    def activation(self, entry: dict[str, Any], fan_in: int) -> Activation:
        found = entry.get("activation")
        if not isinstance(found, dict) or not isinstance(found.get("type"), str) or found["type"] not in MAX_FAN_IN:
            raise self.error("activation", found, f"an object whose type is one of {', '.join(MAX_FAN_IN)}")
        kind = found["type"]
        if fan_in > MAX_FAN_IN[kind]:
            raise self.error("activation", f"{kind} with fan-in {fan_in}", f"at most fan-in {MAX_FAN_IN[kind]}")
        allowed = {"type"} if kind == "sign" else {"type", "step", "zero"}
        if found.keys() - allowed or ("step" in found) != ("zero" in found):
            raise self.error("activation", found, "'type' alone, or for int8 and int16 with both 'step' and 'zero'")
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
            stored = (*shape[:2], *(entry.get("kernel", ())))  # as in torch
            return fields | {"weight": self.tensor(entry, "weight", np.float32, stored).reshape(shape)}
        fields["activation"] = self.activation(entry, math.prod(shape[1:]))
        size = math.prod(shape)
        bits = self.tensor(entry, "bits", np.uint8, (1 + self.samples, (size + 7) // 8))
        if size % 8 and (bits[:, -1] >> (size % 8)).any():
            raise self.error("bits", "padding bits that are 1", "padded with 0")
        return fields | {"bits": bits}


Read = Callable[[_Reader, dict[str, Any], Shape, int], dict[str, Any]]


def _layer(binary: bool, conv: bool) -> Read:
    def read(self: _Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
        fields = self.conv(entry, source, rank) if conv else self.linear(entry, source, rank)
        return self.weights(entry, source, fields, binary)

    return read


def _pool(kind: str) -> Read:
    def read(self: _Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
        fields = self.window(entry, source, rank)
        if any(2 * p > k for p, k in zip(fields["padding"], fields["kernel"], strict=True)):
            raise self.error("padding", fields["padding"], "at most half the kernel")
        return fields | {"kind": kind}

    return read


def _same(kind: str) -> Read:
    return lambda self, entry, source, rank: {"kind": kind}


def _affine(self: _Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
    return {"kind": "affine"} | self.scale_shift(entry, source[0])


def _flatten(self: _Reader, entry: dict[str, Any], source: Shape, rank: int) -> dict[str, Any]:
    return {"kind": "flatten", "shape": (math.prod(source), 1, 1), "rank": 1}


READERS: dict[str, Read] = {
    "binary_linear": _layer(binary=True, conv=False),
    "binary_conv": _layer(binary=True, conv=True),
    "real_linear": _layer(binary=False, conv=False),
    "real_conv": _layer(binary=False, conv=True),
    "max_pool": _pool("max_pool"),
    "avg_pool": _pool("avg_pool"),
    "add": _same("add"),
    "affine": _affine,
    "clamp": _same("clamp"),
    "sign": _same("sign"),
    "flatten": _flatten,
}
_CONV = ("channels", "kernel", "stride", "padding", "dilation", "groups")
_POOL = ("kernel", "stride", "padding")
FIELDS: dict[str, tuple[str, ...]] = {
    "binary_linear": ("features", "bits", "activation", "scale", "shift", "clamp"),
    "binary_conv": (*_CONV, "bits", "activation", "scale", "shift", "clamp"),
    "real_linear": ("features", "weight", "scale", "shift", "clamp"),
    "real_conv": (*_CONV, "weight", "scale", "shift", "clamp"),
    "max_pool": _POOL,
    "avg_pool": (*_POOL, "clamp"),
    "add": ("clamp",),
    "affine": ("scale", "shift", "clamp"),
    "clamp": ("clamp",),
    "sign": (),
    "flatten": (),
}


def is_number(value: object) -> bool:
    """Whether a decoded JSON value is a finite number that fits float32."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= float(np.finfo(np.float32).max)

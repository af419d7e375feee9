"""The plan of a `.bbnn` file, checked and with every shape worked out: what the engines run.

A plan is a list of operations.  Value 0 is the input; operation k writes value k + 1; the last value is the output.
Inside the engines a value is a (C, H, W) array per input, with H = 1 for sequences and H = W = 1 for vectors.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

from .about import About, check_about
from .container import Container, FormatError, is_int
from .operation import Op, Shape
from .reader import MAX_SIZE, Reader, inner_shape

MAX_OPS, MAX_VALUE, MAX_SAMPLES, MAX_PARTS = 4096, 1 << 28, 4096, 64


@dataclass(frozen=True)
class Program:
    """A checked network: `input_shape` as the user gives it (without batch), the operations, S, the file's size, and
    what the network is for.

    A network of several inputs takes them one after the other as one vector; `input_shapes` has the shape of each, and
    is empty for one input.  `output_shapes` is the same for its outputs.
    """

    input_shape: tuple[int, ...]
    ops: tuple[Op, ...]
    num_samples: int
    num_bytes: int
    producer: str
    about: About = field(default_factory=About)
    input_shapes: tuple[tuple[int, ...], ...] = ()
    output_shapes: tuple[tuple[int, ...], ...] = ()

    def of(self, network: int) -> "Program":
        """The program with the real numbers of one network (0 is the mode), where its operations have several."""
        own = any(op.own for op in self.ops)
        return replace(self, ops=tuple(op.of(network) for op in self.ops)) if own else self

    @property
    def input(self) -> Shape:
        """(C, H, W) of the input."""
        return inner_shape(self.input_shape)

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
    reader = Reader(container.tensors, int(samples or 0))
    inner = inner_shape(tuple(shape))
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
    output_shape = user_shape(*values[-1])
    about = check_about(plan.get("about"), tuple(shape), output_shape)
    inputs, outputs = _parts(plan, "inputs", tuple(shape)), _parts(plan, "outputs", output_shape)
    producer = str(plan.get("producer", ""))
    return Program(tuple(shape), tuple(ops), reader.samples, container.num_bytes, producer, about, inputs, outputs)


def _parts(plan: dict[str, Any], name: str, whole: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The shapes of several inputs or outputs, which are one vector together."""
    found = plan.get(name)
    if found is None:
        return ()
    shapes = found if isinstance(found, list) and 2 <= len(found) <= MAX_PARTS else []
    if not shapes or not all(
        isinstance(s, list) and 1 <= len(s) <= 3 and all(is_int(n, 1, MAX_SIZE) for n in s) for s in shapes
    ):
        raise FormatError(f"{name} must be 2 to {MAX_PARTS} shapes of 1 to 3 positive sizes, found {found!r}")
    if whole != (sum(math.prod(s) for s in shapes),):
        raise FormatError(f"{name} {found!r} do not fit the shape {whole}")
    return tuple(tuple(s) for s in shapes)


def _check_size(shape: Shape, where: str) -> None:
    if math.prod(shape) > MAX_VALUE:
        raise FormatError(f"{where}: {math.prod(shape)} values for one input, at most {MAX_VALUE} are allowed")

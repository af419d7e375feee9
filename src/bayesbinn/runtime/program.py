"""The plan of a `.bbnn` file, checked and with every shape worked out: what the engines run.

A plan is a list of operations.  Value 0 is the input; operation k writes value k + 1; the last value is the output.
Inside the engines a value is a (C, H, W) array per input, with H = 1 for sequences and H = W = 1 for vectors.
"""

import math
from dataclasses import dataclass, field

from .about import About, check_about
from .container import Container, FormatError, is_int
from .operation import Op, Shape
from .reader import MAX_SIZE, Reader, inner_shape

MAX_OPS, MAX_VALUE, MAX_SAMPLES = 4096, 1 << 28, 4096


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
    about = check_about(plan.get("about"), tuple(shape), user_shape(*values[-1]))
    return Program(tuple(shape), tuple(ops), reader.samples, container.num_bytes, str(plan.get("producer", "")), about)


def _check_size(shape: Shape, where: str) -> None:
    if math.prod(shape) > MAX_VALUE:
        raise FormatError(f"{where}: {math.prod(shape)} values for one input, at most {MAX_VALUE} are allowed")

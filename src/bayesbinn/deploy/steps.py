"""The operations of a plan before they are bytes, and where the network shows their results."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from torch import Tensor

from .values import Sizes


class UnsupportedError(ValueError):
    """The network uses something that a `.bbnn` file cannot hold; the message lists every such place."""


class Point(NamedTuple):
    """Where the network shows a value: what a module reads or gives, in its k-th call (from 0)."""

    module: str
    call: int
    side: Literal["reads", "gives"]


class Shown(NamedTuple):
    """A point of the network, and which numbers of the value it shows, in its order (None: all as they are stored)."""

    point: Point
    own: Tensor | None


@dataclass
class Step:
    """One operation of the plan while it is being built.

    Attributes:
        entry: its JSON fields, without tensors, inputs and activation.
        inputs: indices of values (0 is the network's input, k + 1 the output of step k).
        layer: name of the binary layer whose signs it uses.
        weight: real weights (O, I/groups, kH, kW), float32.  value: of a constant, float32.
        scale, shift: (O,) float64, per output channel; rounded to float32 when written.
        size: (O,) float64, the absolute values that `shift` is the sum of: what its rounding error is relative to.
        parts: names of the modules and functions that it computes.
        own: whether scale, shift, weight and value have a first size more, a row for each network of the file.
    """

    entry: dict[str, Any]
    inputs: list[int]
    layer: str | None = None
    weight: Tensor | None = None
    value: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    size: Tensor | None = None
    parts: list[str] = field(default_factory=list)
    own: bool = False

    @property
    def kind(self) -> str:
        return str(self.entry["op"])


def joint_shape(shapes: tuple[Sizes, ...]) -> Sizes:
    """The shape of one input, or of the vector that several make together."""
    return shapes[0] if len(shapes) == 1 else (sum(map(math.prod, shapes)),)

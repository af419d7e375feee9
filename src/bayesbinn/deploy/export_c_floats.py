"""How the C export calls its functions on float values: their arguments."""

import math
from collections.abc import Callable

import numpy as np

from ..runtime.numpy_engine import channels_last, view_indices
from ..runtime.operation import FUNCTIONS, Op, Shape
from .values import strided


def float_call(
    op: Op, shapes: list[Shape], arrays: dict[str, str], place: int, constants: list[str]
) -> tuple[str, list[str]]:
    """The function of the template for step `place`, and its arguments between what it reads and the sink.

    Args:
        op: a kind of `FLOATS`, or an "add" of unequal shapes.
        shapes: of the program's values.
        arrays: names of the constants that hold its scale, shift and value.
        constants: lines of C, to which it adds what it needs.
    """
    if op.kind == "view":
        return _view(op, place, constants)
    if op.kind == "constant":
        return "pass", [arrays["value"], str(math.prod(op.shape))]
    return ("broadcast" if op.kind in ("add", "multiply") else op.kind), FLOATS[op.kind](op, shapes, arrays)


def _function(op: Op, shapes: list[Shape], arrays: dict[str, str]) -> list[str]:
    return [str(math.prod(op.shape)), str(FUNCTIONS.index(op.function)), number(op.parameter)]


def _softmax(op: Op, shapes: list[Shape], arrays: dict[str, str]) -> list[str]:
    return [str(op.shape[0]), str(op.shape[1] * op.shape[2])]


def _normalize(op: Op, shapes: list[Shape], arrays: dict[str, str]) -> list[str]:
    settings = [op.groups, int(op.center), int(op.whole)]
    numbers = [number(op.parameter), arrays["scale"], arrays["shift"], number(op.low), number(op.high)]
    return [*_softmax(op, shapes, arrays), *map(str, settings), *numbers]


def _matmul(op: Op, shapes: list[Shape], arrays: dict[str, str]) -> list[str]:
    return [str(n) for n in (*op.source, op.shape[0], int(op.transposed))]


def _broadcast(op: Op, shapes: list[Shape], arrays: dict[str, str]) -> list[str]:
    other = shapes[op.inputs[1]]
    steps = [math.prod(other[i + 1 :]) if other[i] > 1 else 0 for i in range(3)]
    return [*map(str, (*op.shape, *steps, int(op.kind == "multiply"))), number(op.low), number(op.high)]


def _concat(op: Op, shapes: list[Shape], arrays: dict[str, str]) -> list[str]:
    return [str(math.prod(op.shape[: op.axis])), *(str(math.prod(shapes[i][op.axis :])) for i in op.inputs)]


def _view(op: Op, place: int, constants: list[str]) -> tuple[str, list[str]]:
    """Sizes and strides with the channels first; where there are none, a table of places."""
    numbers = np.arange(math.prod(op.source)).reshape(op.source)
    of_memory = numbers.transpose(1, 2, 0).reshape(-1)[view_indices(op)]
    places = of_memory.reshape(channels_last(op.shape)).transpose(2, 0, 1).reshape(-1)
    found = strided(places)

    def table(name: str, values: tuple[int, ...]) -> str:
        constants.append(f"static const int {name}{place}[] = {{{', '.join(map(str, values))}}};\n")
        return f"{name}{place}"

    if found is None:
        return "gather", [str(len(places)), table("places", tuple(places.tolist()))]
    sizes, strides = table("sizes", found.sizes), table("strides", found.strides)
    return "view", [str(len(places)), str(found.offset), str(len(found.sizes)), sizes, strides]


FLOATS: dict[str, Callable[[Op, list[Shape], dict[str, str]], list[str]]] = {
    "function": _function,
    "softmax": _softmax,
    "normalize": _normalize,
    "matmul": _matmul,
    "add": _broadcast,
    "multiply": _broadcast,
    "concat": _concat,
    **dict.fromkeys(("view", "constant"), lambda op, shapes, arrays: []),
}


def number(value: float) -> str:
    """A float32 as a C constant, exactly."""
    value = float(np.float32(value))
    if math.isinf(value):
        return "-INF" if value < 0 else "INF"
    return f"{value!r}f" if "." in repr(value) or "e" in repr(value) else f"{value!r}.0f"

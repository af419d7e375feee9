"""The plan while it is being built: its steps, and how each is joined to those before it."""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Literal, NamedTuple

from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from ..runtime.program import FIELDS


class UnsupportedError(ValueError):
    """The network uses something that a `.bbnn` file cannot hold; the message lists every such place."""


class Point(NamedTuple):
    """Where the network shows a value: what a module reads or gives, in its k-th call (from 0)."""

    module: str
    call: int
    side: Literal["reads", "gives"]


@dataclass
class Step:
    """One operation of the plan while it is being built.

    Attributes:
        entry: its JSON fields, without tensors, inputs and activation.
        inputs: indices of values (0 is the network's input, k + 1 the output of step k).
        layer: name of the binary layer whose signs it uses.
        weight: real weights (O, I/groups, kH, kW), float32.
        scale, shift: (O,) float64, per output channel; rounded to float32 when written.
        size: (O,) float64, the absolute values that `shift` is the sum of: what its rounding error is relative to.
        parts: names of the modules and functions that it computes.
    """

    entry: dict[str, Any]
    inputs: list[int]
    layer: str | None = None
    weight: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    size: Tensor | None = None
    parts: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return str(self.entry["op"])


class Builder:
    """Visits the nodes of a graph in order, and asks a handler for the steps of each.

    Attributes:
        handlers: by module type, function, or name of a method.
        values: (index of its value, its shape without batch) of every node that has one.  Nodes with the same index
            are the same tensor, or one that nothing reads any more.
        memory: per value, the first value that shares its memory.
        points: per value, where the network shows it.
    """

    def __init__(
        self,
        net: nn.Module,
        modules: dict[str, nn.Module],
        input_shape: tuple[int, ...],
        handlers: "Mapping[Any, Handler]",
    ) -> None:
        self.net, self.modules, self.input_shape, self.handlers = net, modules, input_shape, handlers
        self.steps: list[Step] = []
        self.values: dict[fx.Node, tuple[int, tuple[int, ...]]] = {}
        self.memory: list[int] = [0]
        self.points: list[list[Point]] = [[]]
        self.calls: dict[str, int] = {}
        self.constants: dict[fx.Node, Any] = {}
        self.problems: list[str] = []
        self.output: int | None = None

    def visit(self, node: fx.Node) -> None:
        known = all(n in self.values or n in self.constants for n in node.all_input_nodes)
        try:
            match node.op:
                case "placeholder":
                    if self.values:
                        raise UnsupportedError("more than one input")
                    self.values[node] = (0, self.input_shape)
                case "get_attr":
                    self.constants[node] = attrgetter(str(node.target))(self.net)
                case "call_module":
                    module = self.modules[str(node.target)]
                    handler = self.handlers.get(plain_type(module))
                    if handler is None:
                        raise UnsupportedError(f"module {node.target!r} ({type(module).__name__})")
                    if known:  # else it follows something unsupported, which has been listed
                        self._call(node, module, handler)
                case "call_function" | "call_method":
                    handler = self.handlers.get(node.target)
                    if handler is None:
                        raise UnsupportedError(f"{getattr(node.target, '__name__', node.target)}(), node {node.name!r}")
                    if known:
                        self._handle(node, None, handler)
                case "output" if known:
                    (result,) = node.args
                    if not isinstance(result, fx.Node) or result not in self.values:
                        raise UnsupportedError("an output that is not one tensor")
                    self.output = self.values[result][0]
        except UnsupportedError as error:
            self.problems.append(str(error))

    def _call(self, node: fx.Node, module: nn.Module, handler: "Handler") -> None:
        name = str(node.target)
        call = self.calls[name] = self.calls.get(name, -1) + 1
        self.points[self.source(node)[0]].append(Point(name, call, "reads"))
        self._handle(node, module, handler)
        self.points[self.values[node][0]].append(Point(name, call, "gives"))

    def _handle(self, node: fx.Node, module: nn.Module | None, handler: "Handler") -> None:
        """The handler; where the operation writes into its first argument, other names of that tensor follow."""
        handler(self, node, module)
        if not _in_place(node, module):
            return
        before, after = self.source(node)[0], self.values[node]
        if after[0] == before:  # joined to a step that nothing else reads, or dropout, which does nothing
            return
        root, later = self.memory[before], set(_following(node))
        for other, (index, _) in self.values.items():
            if index != before and self.memory[index] == root and other is not node and later & other.users.keys():
                raise UnsupportedError(f"{node.name!r} changes {other.name!r} in place, through a view of it")
        for other, (index, _) in self.values.items():
            if index == before:
                self.values[other] = after
        self.memory[after[0]] = root

    # what handlers use

    def source(self, node: fx.Node) -> tuple[int, tuple[int, ...]]:
        """Value index and shape of the node's first argument."""
        first = node.args[0] if node.args else node.kwargs.get("input")
        if not isinstance(first, fx.Node) or first not in self.values:
            raise UnsupportedError(f"{node.name!r}: its first argument is not a value of the network")
        return self.values[first]

    def alias(self, node: fx.Node) -> None:
        self.values[node] = self.source(node)

    def append(self, node: fx.Node, step: Step, shape: tuple[int, ...]) -> None:
        step.parts.append(_label(node))
        self.steps.append(step)
        self.points.append([])
        self.values[node] = (len(self.steps), shape)
        self.memory.append(self.memory[step.inputs[0]] if step.kind == "flatten" else len(self.steps))

    def fold(self, node: fx.Node, index: int, field: str) -> Step | None:
        """The step that made a value, if the node in hand can join it: alone reads it, with no clamp in between.

        Args:
            node: what is to join.
            index: of the value that it reads.
            field: that the step's operation must have, "scale" or "clamp".
        """
        same = [n for n, (i, _) in self.values.items() if i == index]  # the step's node, and identities after it
        if index == 0 or sum(len(n.users) for n in same) != len(same):
            return None
        step = self.steps[index - 1]
        if field not in FIELDS[step.kind] or "clamp" in step.entry:
            return None
        step.parts.append(_label(node))
        self.points[index].clear()  # the network showed what has just been replaced
        return step

    def clamp(self, node: fx.Node, low: float | None, high: float | None) -> None:
        index, shape = self.source(node)
        step = self.fold(node, index, "clamp")
        if step is not None:
            step.entry["clamp"] = [low, high]
            self.values[node] = (index, shape)
        else:
            self.append(node, Step({"op": "clamp", "clamp": [low, high]}, [index]), shape)

    def affine(
        self, node: fx.Node, scale: Tensor, shifts: Sequence[Tensor], name: str, source: fx.Node | None = None
    ) -> None:
        """y = scale · x + sum of shifts per channel: folded into the layer before it, or an operation of its own."""
        index, shape = self.source(node) if source is None else self.values[source]
        channels = shape[0]
        if {scale.numel(), *(t.numel() for t in shifts)} - {1, channels}:
            raise UnsupportedError(f"{node.name!r}: {scale.numel()} scales for {channels} channels")
        scale, *terms = (t.detach().cpu().double().reshape(-1).expand(channels) for t in (scale, *shifts))
        shift, size = sum(terms, scale.new_zeros(())), sum((t.abs() for t in terms), scale.new_zeros(()))
        step = self.fold(node, index, "scale")
        if step is not None:
            assert step.scale is not None
            assert step.shift is not None
            assert step.size is not None
            step.scale, step.shift = step.scale * scale, step.shift * scale + shift
            step.size = step.size * scale.abs() + size
            self.values[node] = (index, shape)
        else:
            entry = {"op": "affine", "name": name}
            self.append(node, Step(entry, [index], scale=scale, shift=shift, size=size), shape)

    def finish(self) -> list[Step]:
        """The steps, ending with the one that makes the output."""
        if not self.output:
            raise UnsupportedError("the network returns its input unchanged")
        return self.steps[: self.output]


Handler = Callable[[Builder, fx.Node, Any], Any]


def plain_type(module: nn.Module) -> type[nn.Module]:
    """The module's type, without what parametrisations (spectral norm, ...) made of it: they only compute weights."""
    return type(module).__mro__[1] if parametrize.is_parametrized(module) else type(module)


def _label(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name


def _following(node: fx.Node) -> Iterator[fx.Node]:
    while (node := node.next).op != "root":
        yield node


def _in_place(node: fx.Node, module: nn.Module | None) -> bool:
    """Whether the node writes into its first argument: relu_, +=, or the setting `inplace`."""
    if module is not None:
        return bool(getattr(module, "inplace", False))
    name = str(getattr(node.target, "__name__", node.target))
    if name.endswith("_") or name in ("iadd", "isub", "imul", "itruediv"):
        return True
    try:
        bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
    except (TypeError, ValueError):  # a method, or a function of torch in C, whose in-place twin ends in _
        return False
    return bool(bound.arguments.get("inplace", False))

"""The plan while it is being built: its steps, and how each is joined to those before it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from torch import Tensor, fx, nn

# operations with a scale and shift per channel, into which batch norm and the like are folded
FOLDING = ("binary_linear", "binary_conv", "real_linear", "real_conv", "affine")


class UnsupportedError(ValueError):
    """The network uses something that a `.bbnn` file cannot hold; the message lists every such place."""


@dataclass
class Step:
    """One operation of the plan while it is being built.

    Attributes:
        entry: its JSON fields, without tensors, inputs and activation.
        inputs: indices of values (0 is the network's input, k + 1 the output of step k).
        layer: name of the binary layer whose signs it uses.
        weight: real weights (O, I/groups, kH, kW), float32.
        scale, shift: (O,) float64, per output channel; rounded to float32 when written.
    """

    entry: dict[str, Any]
    inputs: list[int]
    layer: str | None = None
    weight: Tensor | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None

    @property
    def kind(self) -> str:
        return str(self.entry["op"])


class Builder:
    """Visits the nodes of a graph in order, and asks a handler for the steps of each.

    Attributes:
        handlers: by module type, function, or name of a method.
        values: (index of its value, its shape without batch) of every node that has one.
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
                    handler = self.handlers.get(type(module))
                    if handler is None:
                        raise UnsupportedError(f"module {node.target!r} ({type(module).__name__})")
                    if known:  # else it follows something unsupported, which has been listed
                        handler(self, node, module)
                case "call_function" | "call_method":
                    handler = self.handlers.get(node.target)
                    if handler is None:
                        raise UnsupportedError(f"{getattr(node.target, '__name__', node.target)}(), node {node.name!r}")
                    if known:
                        handler(self, node, None)
                case "output" if known:
                    (result,) = node.args
                    if not isinstance(result, fx.Node) or result not in self.values:
                        raise UnsupportedError("an output that is not one tensor")
                    self.output = self.values[result][0]
        except UnsupportedError as error:
            self.problems.append(str(error))

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
        self.steps.append(step)
        self.values[node] = (len(self.steps), shape)

    def last(self, index: int, *kinds: str) -> Step | None:
        """The step that made a value, if it is of these kinds and the node in hand alone reads it."""
        same = [n for n, (i, _) in self.values.items() if i == index]  # the step's node, and identities after it
        if index == 0 or sum(len(n.users) for n in same) != len(same) or self.steps[index - 1].kind not in kinds:
            return None
        return self.steps[index - 1]

    def clamp(self, node: fx.Node, low: float | None, high: float | None) -> None:
        index, shape = self.source(node)
        step = self.last(index, *FOLDING, "add", "avg_pool")
        if step is not None and "clamp" not in step.entry:
            step.entry["clamp"] = [low, high]
            self.values[node] = (index, shape)
        else:
            self.append(node, Step({"op": "clamp", "clamp": [low, high]}, [index]), shape)

    def affine(self, node: fx.Node, scale: Tensor, shift: Tensor, name: str, source: fx.Node | None = None) -> None:
        """y = scale · x + shift per channel: folded into the layer before it, or an operation of its own."""
        index, shape = self.source(node) if source is None else self.values[source]
        channels = shape[0]
        if {scale.numel(), shift.numel()} - {1, channels}:
            raise UnsupportedError(f"{node.name!r}: {scale.numel()} scales for {channels} channels")
        scale, shift = (t.detach().cpu().double().reshape(-1).expand(channels) for t in (scale, shift))
        step = self.last(index, *FOLDING)
        if step is not None and "clamp" not in step.entry:
            assert step.scale is not None
            assert step.shift is not None
            step.scale, step.shift = step.scale * scale, step.shift * scale + shift
            self.values[node] = (index, shape)
        else:
            self.append(node, Step({"op": "affine", "name": name}, [index], scale=scale, shift=shift), shape)

    def finish(self) -> list[Step]:
        """The steps, ending with the one that makes the output."""
        if not self.output:
            raise UnsupportedError("the network returns its input unchanged")
        return self.steps[: self.output]


Handler = Callable[[Builder, fx.Node, Any], Any]

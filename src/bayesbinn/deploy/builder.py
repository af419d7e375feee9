"""The plan while it is being built: its steps, and how each is joined to those before it."""

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..runtime.reader import FIELDS
from . import values
from .nodes import following, in_place, label, plain_type
from .steps import Point, Shown, Step, UnsupportedError, joint_shape
from .values import BATCH, Sizes, Value


class Builder:
    """Visits the nodes of a graph in order, and asks a handler for the steps of each.

    Attributes:
        handlers: by module type, function, or name of a method.
        values: of every node that is a tensor of the plan.  Nodes with the same index are the same tensor or views of
            it, or ones that nothing reads any more.
        constants: of every node that is something else: a number, a shape, a weight, a tuple of any of these.
        shapes: per value, as it is stored.
        memory: per value, the first value that shares its memory.
        points: per value, where the network shows it.
    """

    def __init__(
        self,
        net: nn.Module,
        modules: dict[str, nn.Module],
        input_shapes: tuple[Sizes, ...],
        handlers: "Mapping[Any, Handler]",
    ) -> None:
        self.net, self.modules, self.input_shapes, self.handlers = net, modules, input_shapes, handlers
        self.steps: list[Step] = []
        self.values: dict[fx.Node, Value] = {}
        self.shapes: list[Sizes] = [joint_shape(input_shapes)]
        self.output_shapes: tuple[Sizes, ...] = ()
        self.memory: list[int] = [0]
        self.points: list[list[Shown]] = [[]]
        self.moved: dict[tuple[int, Sizes, bytes], int] = {}  # views that are operations by now
        self.calls: dict[str, int] = {}
        self.constants: dict[fx.Node, Any] = {}
        self.problems: list[str] = []
        self.output: int | None = None

    def visit(self, node: fx.Node) -> None:
        known = all(n in self.values or n in self.constants for n in node.all_input_nodes)
        self.node = node
        try:
            match node.op:
                case "placeholder":
                    self._input(node)
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
                    if known and self._fixed(node):
                        return
                    handler = self.handlers.get(node.target)
                    if handler is None:
                        raise UnsupportedError(f"{getattr(node.target, '__name__', node.target)}(), node {node.name!r}")
                    if known:
                        self._handle(node, None, handler)
                case "output" if known:
                    self._output(self.resolve(node.args[0]))
        except UnsupportedError as error:
            self.problems.append(str(error))

    def _input(self, node: fx.Node) -> None:
        place = len(self.values)
        if place < len(self.input_shapes):
            begin, size = sum(map(math.prod, self.input_shapes[:place])), math.prod(self.input_shapes[place])
            whole = Value(0, self.shapes[0])
            if len(self.input_shapes) > 1:
                part = whole.seen[:, begin : begin + size].reshape(BATCH, *self.input_shapes[place])
                whole = replace(whole, view=part)
            self.values[node] = whole
        elif node.args:
            self.constants[node] = node.args[0]
        else:
            raise UnsupportedError(
                f"more inputs than one: give calibration=(x, y) or the input_shape of each ({node.name!r})"
            )

    def _output(self, result: Any) -> None:
        """One tensor, or several side by side as one vector."""
        found = list(result.values()) if isinstance(result, dict) else result
        found = list(found) if isinstance(found, (tuple, list)) else [found]
        if not found or not all(isinstance(value, Value) for value in found):
            raise UnsupportedError("an output that is not a tensor, or several")
        placed = [self.first(value) for value in found]
        if len(placed) == 1 and not isinstance(result, (tuple, list, dict)):
            self.output = placed[0].index
            return
        self.output_shapes = tuple(value.stored for value in placed)
        vectors = [self.first(value.viewed(lambda r: r.flatten(1))) for value in placed]
        whole = vectors[0]
        for value in vectors[1:]:
            shape = (whole.size + value.size,)
            whole = self.add(Step({"op": "concat", "axis": 0}, [whole.index, value.index]), shape)
        self.output = whole.index

    def _fixed(self, node: fx.Node) -> bool:
        """Whether the node depends on no tensor of the plan: what it gives is worked out, once and for all."""
        inputs = node.all_input_nodes
        if not inputs or any(n in self.values for n in inputs) or getattr(node.target, "of_layer", False):
            return False
        if node.target is not operator.getitem and any(_holds_value(self.constants[n]) for n in inputs):
            return False
        args, kwargs = self.resolve(node.args), self.resolve(node.kwargs)
        call: Any = getattr(args[0], str(node.target)) if node.op == "call_method" else node.target
        try:
            found = call(*(args[1:] if node.op == "call_method" else args), **kwargs)
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise UnsupportedError(f"{node.name!r}: {error}") from error
        (self.values if isinstance(found, Value) else self.constants)[node] = found
        return True

    def resolve(self, argument: Any) -> Any:
        """An argument of a node with its values and constants in place of nodes."""
        found: Any = fx.node.map_arg(argument, lambda n: self.values.get(n, self.constants.get(n)))  # type: ignore[arg-type, return-value]
        return found

    def _call(self, node: fx.Node, module: nn.Module, handler: "Handler") -> None:
        name = str(node.target)
        call = self.calls[name] = self.calls.get(name, -1) + 1
        first = node.args[0] if node.args else None
        if isinstance(first, fx.Node) and first in self.values:
            self._show(self.values[first], Point(name, call, "reads"))
        self._handle(node, module, handler)
        given = self.values.get(node, self.constants.get(node))
        given = given[0] if isinstance(given, tuple) and given else given
        if isinstance(given, Value):
            self._show(given, Point(name, call, "gives"))

    def _show(self, value: Value, point: Point) -> None:
        own = None if value.view is None else value.own
        if value.view is None or own is not None:
            self.points[value.index].append(Shown(point, own))

    def _handle(self, node: fx.Node, module: nn.Module | None, handler: "Handler") -> None:
        """The handler; where the operation writes into its first argument, other names of that tensor follow."""
        written = in_place(node, module)
        before = self.source(node) if written else None
        handler(self, node, module)
        if before is None:
            return
        after = self.values[node]
        if after.index == before.index:  # joined to a step that nothing else reads, or dropout, which does nothing
            return
        root, later = self.memory[before.index], set(following(node))
        alike = after.stored == before.stored and before.whole()
        for other, value in self.values.items():
            shares = value.index != before.index or not alike
            if shares and self.memory[value.index] == root and other is not node and later & other.users.keys():
                raise UnsupportedError(f"{node.name!r} changes {other.name!r} in place, through a view of it")
        for other, value in self.values.items():
            if value.index == before.index:
                self.values[other] = Value(after.index, value.stored, value.view)
        self.memory[after.index] = root

    # what handlers use: tensors of the plan

    def source(self, node: fx.Node) -> Value:
        """The node's first argument."""
        return self.value(node.args[0] if node.args else node.kwargs.get("input"))

    def value(self, argument: Any) -> Value:
        """An argument that must be a tensor of the plan."""
        if isinstance(argument, Value):
            return argument
        constant = self.constants.get(argument) if isinstance(argument, fx.Node) else argument
        if isinstance(constant, Tensor) and constant.is_floating_point() and constant.ndim:
            return self.spread(constant)
        if not isinstance(argument, fx.Node) or argument not in self.values:
            raise UnsupportedError(f"{self.node.name!r}: its first argument is not a value of the network")
        return self.values[argument]

    def first(self, value: Value) -> Value:
        """The tensor stored as it is seen, channels first: (C,), (C, L) or (C, H, W)."""
        if value.view is None:
            return value
        own = value.own
        if own is None:
            raise UnsupportedError(f"{self.node.name!r}: its input mixes the batch with other sizes")
        if own.ndim == 0:
            own = own.reshape(1)
        if own.ndim > 3:
            raise UnsupportedError(f"{self.node.name!r}: an input with more than three sizes, {tuple(own.shape)}")
        return self._stored(value, own)

    def rows(self, value: Value) -> tuple[Value, Callable[[int, Sizes], Value]]:
        """The tensor (..., D) stored with its last axis as channels, and what makes a tensor of a value stored so."""
        found = values.batch_first(value.seen, value.size)
        if found is None or found[0].ndim < 2:
            raise UnsupportedError(f"{self.node.name!r}: its input mixes the batch with other sizes")
        moved, restore = found
        like = tuple(moved.shape[1:])

        def tensor(index: int, shape: Sizes) -> Value:
            view = restore(values.from_rows(shape, like))
            return Value(index, shape, None if len(shape) == 1 and view.ndim == 2 else view)

        return self._stored(value, values.as_rows(moved[0])), tensor

    def _stored(self, value: Value, own: Tensor) -> Value:
        """The numbers `own` of each input as a value of that shape: the one that they are of, or a view of it."""
        shape = tuple(own.shape)
        straight = own.numel() == value.size and torch.equal(own.flatten(), torch.arange(value.size))
        if straight and shape == value.stored:
            return Value(value.index, shape)
        key = (value.index, shape, own.numpy().tobytes())
        if key not in self.moved:
            self.moved[key] = self._move(value, own, straight)
        return Value(self.moved[key], shape)

    def _move(self, value: Value, own: Tensor, straight: bool) -> int:
        shape = tuple(own.shape)
        if straight and len(shape) == 1:
            return self.add(Step({"op": "flatten"}, [value.index]), shape).index
        places = values.in_memory(value.stored)
        found = values.strided(places[values.memory_order(own)])
        if found is not None:
            entry = {"op": "view", "shape": list(shape), "sizes": list(found.sizes), "strides": list(found.strides)}
            return self.add(Step({**entry, "offset": found.offset}, [value.index]), shape).index
        flat = Value(value.index, value.stored)
        if len(value.stored) > 1:  # by way of a vector, whose memory is in the order of torch
            vector = self._stored(flat, torch.arange(value.size))
            return self._stored(vector, own).index
        if len(shape) > 1:
            vector = self._stored(flat, own.flatten())
            return self._stored(vector, torch.arange(own.numel()).reshape(shape)).index
        raise UnsupportedError(f"{self.node.name!r}: its input is put into an order that has no regular steps")

    def add(self, step: Step, shape: Sizes) -> Value:
        """A new operation whose output is stored in this shape."""
        if len(shape) > 3:
            raise UnsupportedError(f"{self.node.name!r}: a tensor with more than three sizes, {shape}")
        step.parts.append(label(self.node))
        self.steps.append(step)
        self.points.append([])
        self.shapes.append(shape)
        views = step.kind in ("flatten", "view")
        self.memory.append(self.memory[step.inputs[0]] if views else len(self.steps))
        return Value(len(self.steps), shape)

    def pointwise(self, value: Value, entry: dict[str, Any], **tensors: Any) -> Value:
        """A function of each number, done where they are stored."""
        if not value.whole():
            value = self.first(value) if len(value.shape) <= 3 else self.rows(value)[0]
        return replace(value, index=self.add(Step(entry, [value.index], **tensors), value.stored).index)

    def fold(self, index: int, field: str) -> Step | None:
        """The step that made a value, if the node in hand can join it: alone reads it, with no clamp in between.

        Args:
            index: of the value that it reads.
            field: that the step's operation must have, "scale" or "clamp".
        """
        same = [n for n, value in self.values.items() if value.index == index]  # the step's node, and views of it
        if index == 0 or sum(len(n.users) for n in same) != len(same):
            return None
        step = self.steps[index - 1]
        if field not in FIELDS[step.kind] or "clamp" in step.entry or any(index in s.inputs for s in self.steps):
            return None
        step.parts.append(label(self.node))
        self.points[index].clear()  # the network showed what has just been replaced
        return step

    def clamp(self, value: Value, low: float | None, high: float | None) -> Value:
        step = self.fold(value.index, "clamp") if value.whole() else None
        if step is None:
            return self.pointwise(value, {"op": "clamp", "clamp": [low, high]})
        step.entry["clamp"] = [low, high]
        return value

    def affine(self, index: int, scale: Tensor, shifts: Sequence[Tensor], name: str = "") -> int:
        """y = scale · x + sum of shifts per channel of a stored value: folded into the layer before it, or a step."""
        shape = self.shapes[index]
        if {scale.numel(), *(t.numel() for t in shifts)} - {1, shape[0]}:
            raise UnsupportedError(f"{self.node.name!r}: {scale.numel()} scales for {shape[0]} channels")
        scale, *terms = (t.detach().cpu().double().reshape(-1).expand(shape[0]) for t in (scale, *shifts))
        shift, size = sum(terms, torch.zeros_like(scale)), sum((t.abs() for t in terms), torch.zeros_like(scale))
        step = self.fold(index, "scale")
        if step is None:
            entry = {"op": "affine", "name": name or self.node.name}
            return self.add(Step(entry, [index], scale=scale, shift=shift, size=size), shape).index
        assert step.scale is not None
        assert step.shift is not None
        assert step.size is not None
        step.scale, step.shift = step.scale * scale, step.shift * scale + shift
        step.size = step.size * scale.abs() + size
        return index

    def constant(self, value: Tensor) -> Value:
        """A value that is the same for every input: (C,), (C, L) or (C, H, W)."""
        if not bool(torch.isfinite(value).all()):
            value = value.clamp(-1e30, 1e30)  # masks are -inf where a softmax is to see nothing
        found = value.detach().cpu().float()
        if bool(found.isnan().any()):
            raise UnsupportedError(f"{self.node.name!r}: a constant that holds NaN")
        entry = {"op": "constant", "name": f"{self.node.name}.constant"}
        return self.add(Step(entry, [], value=found), tuple(value.shape))

    def spread(self, tensor: Tensor) -> Value:
        """A constant tensor as one of the plan; a first size of 1, or of `BATCH` equal parts, is the batch."""
        batched = tensor.ndim > 1 and len(tensor) in (1, BATCH) and bool((tensor == tensor[:1]).all())
        own = tensor[0] if batched else tensor
        if own.ndim == 1:
            return self.constant(own)
        made = self.constant(values.as_rows(own))
        return Value(made.index, made.stored, values.from_rows(made.stored, tuple(own.shape)))

    def finish(self) -> tuple[list[Step], list[list[Shown]]]:
        """The steps that the output needs, ending with the one that makes it, and the points of each value."""
        if not self.output:
            raise UnsupportedError("the network returns its input unchanged")
        needed = {self.output}
        for index in range(self.output, 0, -1):
            if index in needed:
                needed.update(self.steps[index - 1].inputs)
        kept = [0, *sorted(needed - {0})]
        new = {old: i for i, old in enumerate(kept)}
        steps = [self.steps[old - 1] for old in kept[1:]]
        return [replace(s, inputs=[new[i] for i in s.inputs]) for s in steps], [self.points[old] for old in kept]


Handler = Callable[[Builder, fx.Node, Any], Any]


def argument(build: Builder, node: fx.Node, position: int, name: str, default: Any) -> Any:
    """A function's argument by its place or name, with values and constants in place of nodes."""
    return build.resolve(node.args[position] if len(node.args) > position else node.kwargs.get(name, default))


def _holds_value(constant: Any) -> bool:
    return isinstance(constant, (tuple, list)) and any(isinstance(c, Value) for c in constant)

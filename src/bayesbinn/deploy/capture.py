"""From a trained torch network to the steps of a plan, with batch norm, bias and scales folded in.

The network is traced with `torch.fx`, in evaluation mode; binary layers and torch's own modules are kept whole.
"""

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from .. import bernoulli
from ..nn import BinaryConv1d, BinaryConv2d, BinaryLinear, Twin
from .builder import Builder
from .handlers import EXPANDED, FUNCTIONS, MODULES
from .nodes import plain_type
from .steps import Shown, Step, UnsupportedError
from .values import BATCH

HELP = "docs/deploy.md lists what a file holds; pack the part of the network that fits, or predict with torch"


@dataclass(frozen=True)
class Capture:
    """A captured network.

    Attributes:
        input_shapes: of each input, without batch.
        output_shapes: of each output where there are several, else empty.
        steps: the operations, ending with the one that makes the output.
        points: per value (0 is the input, k + 1 the output of step k), where the network shows it.
    """

    input_shapes: tuple[tuple[int, ...], ...]
    output_shapes: tuple[tuple[int, ...], ...]
    steps: list[Step]
    points: list[list[Shown]]


class _Proxy(fx.Proxy):
    """Records `x += y` and its like as what they are: torch.fx takes them for `x = x + y`.  Its length is `BATCH`."""

    def __len__(self) -> int:
        return BATCH

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.iadd, (self, other), {})

    def __isub__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.isub, (self, other), {})

    def __imul__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.imul, (self, other), {})

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operator.itruediv, (self, other), {})


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__((bernoulli,), (bernoulli.sign,))
        self.failed: nn.Module | None = None

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        known = isinstance(module, Twin) or plain_type(module) in MODULES
        return known or super().is_leaf_module(module, name)

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if m not in (self.submodule_paths or {}):  # made in forward: no part of the network, so it is looked into
            return forward(*args, **kwargs)
        compiled = getattr(m, "_orig_mod", None)  # by torch.compile, a part of the network
        if compiled is not None:
            return compiled(*args, **kwargs)
        expanded = EXPANDED.get(plain_type(m))
        try:
            if expanded is not None:
                return expanded(self, m, *args, **kwargs)
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or m  # the innermost
            raise


def capture(net: nn.Module, input_shapes: Sequence[Sequence[int]]) -> Capture:
    """The operations of `net`, which must be in evaluation mode, take tensors and return tensors.

    Args:
        net: the network.
        input_shapes: of each input, without the batch.

    Raises:
        UnsupportedError: listing every module, function or setting that the format cannot hold.
    """
    modules = dict(net.named_modules(remove_duplicate=False))
    tracer = _Tracer()
    try:
        graph = tracer.trace(net, _left_out(net, len(input_shapes)))
    except Exception as error:  # tracing runs the user's own forward, which can raise anything
        raise UnsupportedError(_untraceable(net, modules, tracer, error)) from error
    builder = Builder(net, modules, tuple(tuple(shape) for shape in input_shapes), MODULES | FUNCTIONS)
    for node in graph.nodes:
        builder.visit(node)
    if builder.problems:
        listed = "\n".join(f"  - {problem}" for problem in dict.fromkeys(builder.problems))
        raise UnsupportedError(f"{type(net).__name__} cannot be packed ({HELP}); not supported:\n{listed}")
    steps, points = builder.finish()
    return Capture(builder.input_shapes, builder.output_shapes, steps, points)


def together(captures: Mapping[Any, Capture], networks: Sequence[Any]) -> Capture:
    """One capture of several networks of one kind, with the real numbers of each where they are not the same.

    Args:
        captures: of each different network, by any key.
        networks: their keys, in the order of the file.

    Raises:
        UnsupportedError: naming the first operation in which they differ otherwise.
    """
    first, *others = captures.values()
    steps = []
    for index, step in enumerate(first.steps):
        each = {net: own.steps[index] if index < len(own.steps) else None for net, own in captures.items()}
        for other in each.values():
            if other is None or (other.entry, other.inputs, other.layer) != (step.entry, step.inputs, step.layer):
                raise UnsupportedError(f"the members of the mixture differ in {step.kind} {step.parts}, beyond numbers")
        steps.append(_joined(step, [each[net] for net in networks if each[net]]))
    if any(len(other.steps) != len(first.steps) for other in others):
        raise UnsupportedError("the members of the mixture have different numbers of operations")
    return replace(first, steps=steps)


def _joined(step: Step, each: list[Any]) -> Step:
    """One step for several networks: as it is if they have the same numbers, else with a row for each."""
    numbers = ("scale", "shift", "weight", "value")
    if all(_same(getattr(step, name), getattr(other, name)) for other in each for name in numbers):
        return step
    rows: dict[str, Any] = {
        name: torch.stack([getattr(s, name) for s in each]) for name in numbers if getattr(step, name) is not None
    }
    size = None if step.size is None else torch.stack([s.size for s in each]).amax(0)
    return replace(step, own=True, size=size, **rows)


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (a is not None and b is not None and torch.equal(a, b))


def _left_out(net: nn.Module, given: int) -> dict[str, Any]:
    """Arguments of forward behind those that are given, with the values that they have when they are left out."""
    parameters = [*inspect.signature(net.forward).parameters.values()][given:]
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def guess_input_shape(net: nn.Module) -> tuple[int, ...]:
    """(in_features,) of a network whose first layer is linear.

    Raises:
        ValueError: for any other network.
    """
    for module in net.modules():
        if isinstance(module, (BinaryLinear, nn.Linear)):
            return (int(module.in_features),)  # type: ignore[arg-type]
        if isinstance(module, (nn.Conv1d, nn.Conv2d, BinaryConv1d, BinaryConv2d)):
            break
    raise ValueError("the input shape is not known: give calibration=x, a few typical inputs, or input_shape=(C, H, W)")


def _untraceable(net: nn.Module, modules: dict[str, nn.Module], tracer: _Tracer, error: Exception) -> str:
    """One sentence: where tracing stopped and why, what else does not fit, and what can be done."""
    failed = [f"module {name!r} ({type(m).__name__})" for name, m in modules.items() if m is tracer.failed]
    reason = str(error).strip().split("\n", 1)[0].split(". ", 1)[0].rstrip(".")
    others: dict[str, str] = {}
    for name, m in modules.items():  # the outermost first
        whole = tracer.is_leaf_module(m, name) and type(m).forward is not nn.Module.forward and name
        if whole and plain_type(m) not in MODULES and not any(name.startswith(f"{other}.") for other in others):
            others[name] = f"{name!r} ({type(m).__name__})"
    more = f"; besides, a file has no operation for {', '.join(others.values())}" if others else ""
    return (
        f"{type(net).__name__} cannot be packed: {failed[0] if failed else 'its forward'} cannot be traced ({reason}), "
        f"for it may not branch on values or shapes{more}; {HELP}"
    )

"""From a trained torch network to a plan: which operations, with batch norm, bias and scales folded in.

The network is traced with `torch.fx`, in evaluation mode; binary layers and torch's own modules are kept whole.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import fx, nn

from .. import bernoulli
from ..nn import BinaryConv1d, BinaryConv2d, BinaryLayer, BinaryLinear
from .builder import Builder, Step, UnsupportedError
from .handlers import FUNCTIONS, MODULES


@dataclass
class Capture:
    """A captured network: its input shape (without batch) and steps."""

    input_shape: tuple[int, ...]
    steps: list[Step] = field(default_factory=list)


class _Tracer(fx.Tracer):
    def __init__(self) -> None:
        super().__init__((math, bernoulli), (bernoulli.sign,))  # type: ignore[arg-type]

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        return isinstance(module, BinaryLayer) or type(module) in MODULES or super().is_leaf_module(module, name)


def capture(net: nn.Module, input_shape: Sequence[int] | None = None) -> Capture:
    """The operations of `net` in evaluation mode.

    Args:
        net: the network; it must be in evaluation mode, take one tensor and return one.
        input_shape: without the batch; may be left out for a network that starts with a linear layer.

    Raises:
        UnsupportedError: listing every module, function or setting that the format cannot hold.
        ValueError: if the input shape is needed and not given.
    """
    try:
        graph = _Tracer().trace(net)
    except Exception as error:  # tracing runs the user's own forward, which can raise anything
        raise UnsupportedError(
            f"{type(net).__name__} cannot be traced ({error}): forward may not branch on values or shapes"
        ) from error
    modules = dict(net.named_modules(remove_duplicate=False))
    if input_shape is None:
        input_shape = _guess_input_shape(graph, modules)
    builder = Builder(net, modules, tuple(input_shape), MODULES | FUNCTIONS)
    for node in graph.nodes:
        builder.visit(node)
    if builder.problems:
        listed = "\n".join(f"  - {problem}" for problem in dict.fromkeys(builder.problems))
        raise UnsupportedError(f"{type(net).__name__} cannot be packed; not supported:\n{listed}")
    return Capture(builder.input_shape, builder.finish())


def _guess_input_shape(graph: fx.Graph, modules: dict[str, nn.Module]) -> tuple[int, ...]:
    for node in graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, (BinaryLinear, nn.Linear)):
            return (int(module.in_features),)  # type: ignore[arg-type]
        if isinstance(module, (nn.Conv1d, nn.Conv2d, BinaryConv1d, BinaryConv2d)):
            break
    raise ValueError("the input shape is not known: give calibration data, or input_shape=(C, H, W)")

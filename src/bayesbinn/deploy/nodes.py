"""What the builder asks of a node of a traced graph, or of its module."""

import inspect
from collections.abc import Iterator

from torch import fx, nn
from torch.nn.utils import parametrize


def plain_type(module: nn.Module) -> type[nn.Module]:
    """The module's type, without what parametrisations (spectral norm, ...) made of it: they only compute weights."""
    return type(module).__mro__[1] if parametrize.is_parametrized(module) else type(module)


def label(node: fx.Node) -> str:
    """What a message calls a node."""
    return str(node.target) if node.op == "call_module" else node.name


def following(node: fx.Node) -> Iterator[fx.Node]:
    """The nodes behind one, in order."""
    while (node := node.next).op != "root":
        yield node


def in_place(node: fx.Node, module: nn.Module | None) -> bool:
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

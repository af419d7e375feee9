"""Make a float network binary in place, and tell its binary parameters from its real ones."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn

from ..binarizers import Binarizer
from .layers import SCALE, BinaryConv1d, BinaryConv2d, BinaryLayer, BinaryLinear, Init, Scale

TWINS: dict[type[nn.Module], type[BinaryLayer]] = {
    twin.float_type: twin for twin in (BinaryLinear, BinaryConv1d, BinaryConv2d)
}

M = TypeVar("M", bound=nn.Module)


def binarize_(
    net: M,
    *,
    binarizer: Binarizer | None = None,
    include: str | Iterable[str] = "*",
    exclude: str | Iterable[str] = (),
    init: Init = "signs",
    magnitude: float = 1.0,
    scale: Scale = SCALE,
) -> M:
    """Replace the Linear, Conv1d and Conv2d layers of `net` by their binary twins, in place.

    Modules that appear twice, and weights shared between layers, stay shared; hooks stay on their layer.  Subclasses
    of these layers are left alone: their own code may use the weight in ways a twin does not know.

    Args:
        net: the network; must not itself be one of these layers.
        binarizer: for every new layer (one object, so that its settings can be scheduled); default
            `StraightThroughSample()`.
        include, exclude: glob pattern(s) on the layers' names, as in `net.named_modules()`; a layer is converted if
            an include pattern matches its name (one of its names) and no exclude pattern does, e.g.
            `exclude=["conv1", "head.*"]`.
        init, magnitude: where λ starts, see `initial_natural`; `init="weights"` converts a trained network.
        scale: what each output channel is multiplied by: "learned" (from 1/√fan-in on, or from the mean size of a
            trained network's weights), "fan_in" (1/√fan-in) or "none" (1).

    Returns:
        `net` itself.

    Raises:
        TypeError: if `net` is itself a Linear or Conv layer (nothing holds it that could be changed).
        ValueError: if a pattern matches no convertible layer, nothing is left to convert, or a hook computes the
            weight of a layer (weight norm, pruning), or a layer shares its weight with a module that stays real.

    >>> net = binarize_(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), exclude="2")
    >>> [type(module).__name__ for module in net]
    ['BinaryLinear', 'ReLU', 'Linear']
    """
    if type(net) in TWINS:
        twin = TWINS[type(net)].__name__
        raise TypeError(f"binarize_ changes the layers inside a network, got a bare {type(net).__name__}: use {twin}")
    include, exclude = _patterns(include), _patterns(exclude)
    names: dict[nn.Module, list[str]] = {}  # a module that is reachable under two names must be converted once
    for name, module in net.named_modules(remove_duplicate=False):
        if type(module) in TWINS:
            names.setdefault(module, []).append(name)
    known = [name for aliases in names.values() for name in aliases]
    for pattern in include + exclude:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise ValueError(f"{pattern!r} matches none of the layers that can be converted: {', '.join(known) or '-'}")
    chosen = [m for m, aliases in names.items() if _any_match(aliases, include) and not _any_match(aliases, exclude)]
    if not chosen:
        raise ValueError(f"nothing to convert: {exclude} excludes every layer that {include} includes")

    _refuse_ties(net, chosen, names)
    naturals: dict[int, nn.Parameter] = {}
    twins = [(old, TWINS[type(old)].from_float(old, binarizer, init, magnitude, scale)) for old in chosen]
    for old, new in twins:  # none was refused
        new.natural = naturals.setdefault(id(old.weight), new.natural)
        for name in names[old]:
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, new)
    return net


def _refuse_ties(net: nn.Module, chosen: list[nn.Module], names: dict[nn.Module, list[str]]) -> None:
    """A weight that a module outside of `chosen` shares would stop being shared.

    Raises:
        ValueError: naming both.
    """
    weights = {id(module.weight): module for module in chosen}
    for name, module in net.named_modules():
        for own, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in weights and module not in chosen:
                layer = names[weights[id(parameter)]][0]
                raise ValueError(
                    f"layer {layer!r} shares its weight with {name}.{own}, which stays real: keep both real by "
                    f"exclude={layer!r}, or give the layer a weight of its own"
                )


def binary_layers(net: nn.Module) -> Iterator[tuple[str, BinaryLayer]]:
    """Name and layer of every binary layer in `net`, each once, in the order of `named_modules`."""
    return ((name, m) for name, m in net.named_modules() if isinstance(m, BinaryLayer))


def split_parameters(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(binary, real): the λ tensors for a binary optimizer, and all other parameters for an ordinary one.

    >>> binary, real = split_parameters(binarize_(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))))
    >>> len(binary), len(real)
    (1, 3)
    """
    binary = list({id(layer.natural): layer.natural for _, layer in binary_layers(net)}.values())
    naturals = {id(p) for p in binary}
    return binary, [p for p in net.parameters() if id(p) not in naturals]


def _patterns(patterns: str | Iterable[str]) -> list[str]:
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _any_match(names: list[str], patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)

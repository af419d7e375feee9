"""Make a float network binary in place, and tell its binary parameters from its real ones."""

import sys
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TypeVar

from torch import nn
from torch.nn.parameter import is_lazy

from ..binarizers import Binarizer
from .layers import MAGNITUDE, SCALE, BinaryLayer, Init, Scale, Twin
from .overview import summary
from .table import ON_REQUEST, TWINS

M = TypeVar("M", bound=nn.Module)
Pattern = str | type[nn.Module]
Patterns = Pattern | Iterable[Pattern]


def binarize_(
    net: M,
    *,
    binarizer: Binarizer | None = None,
    include: Patterns = "*",
    exclude: Patterns = (),
    real_ends: bool = False,
    init: Init = "signs",
    magnitude: float = MAGNITUDE,
    scale: Scale = SCALE,
    quiet: bool = False,
) -> M:
    """Replace the layers of `net` by their binary twins, in place, and say on stderr what was done.

    Linear, Conv, ConvTranspose (1d to 3d), Bilinear, MultiheadAttention, RNN, LSTM, GRU and their cells have a twin; so
    have networks of these, such as torch's Transformer.  An Embedding is converted if `include` has its name or type.
    Modules that appear twice, and weights shared between layers, stay shared; hooks stay on their layer.  Subclasses
    of these layers are left alone: their own code may use the weight in ways a twin does not know.

    Args:
        net: the network; must not itself be one of these layers.
        binarizer: for every new layer (one object, so that its settings can be scheduled); default
            `StraightThroughSample()`.
        include, exclude: glob pattern(s) on the layers' names, as in `net.named_modules()`, or types, of the layer
            or of a module around it; a layer is converted if an include pattern matches it (under one of its names)
            and no exclude pattern does, e.g. `exclude=["conv1", "head.*", nn.MultiheadAttention]`.
        real_ends: keep the first and the last layer real, in the order of `net.named_modules()`.
        init, magnitude: where λ starts, see `initial_natural`; `init="weights"` converts a trained network.
        scale: what each output channel is multiplied by: "learned" (from 1/√fan-in on, or from the mean size of a
            trained network's weights), "fan_in" (1/√fan-in) or "none" (1).
        quiet: say nothing; `summary(net)` has the same.

    Returns:
        `net` itself.

    Raises:
        TypeError: if `net` is itself such a layer (nothing holds it that could be changed).
        ValueError: if a pattern matches no convertible layer, nothing is left to convert, or a hook computes the
            weight of a layer (weight norm, pruning), or a layer shares its weight with a module that stays real, or
            a lazy layer has no weight yet.

    >>> net = binarize_(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), exclude="2", quiet=True)
    >>> [type(module).__name__ for module in net]
    ['BinaryLinear', 'ReLU', 'Linear']
    """
    _refuse_bare(net)
    names: dict[nn.Module, list[str]] = {}  # a module that is reachable under two names must be converted once
    around: dict[nn.Module, list[nn.Module]] = {}
    for name, module in net.named_modules(remove_duplicate=False):
        if any(is_lazy(p) for p in module._parameters.values()):
            raise ValueError(
                f"layer {name!r} ({type(module).__name__}) has no weight yet: run a batch through it first"
            )
        if type(module) in TWINS:
            names.setdefault(module, []).append(name)
            around.setdefault(module, []).extend(_path(net, name))
    if not names and any(isinstance(m, Twin) for m in net.modules()):
        raise ValueError(f"every layer of {type(net).__name__} that has a binary twin is binary already: call it once")

    def matches(pattern: Pattern, layer: nn.Module) -> bool:
        if isinstance(pattern, str):
            return any(fnmatchcase(name, pattern) for name in names[layer])
        return any(isinstance(m, pattern) for m in around[layer])

    included, excluded = _listed(include), _listed(exclude)
    known = ", ".join(name for aliases in names.values() for name in aliases) or "-"
    for pattern in included + excluded:
        if not any(matches(pattern, layer) for layer in names):
            shown = repr(pattern) if isinstance(pattern, str) else pattern.__name__
            raise ValueError(f"{shown} matches none of the layers that can be converted: {known}")
    wanted = [m for m in names if type(m) not in ON_REQUEST or _asked_for(m, names[m], included)]
    ends = {id(wanted[0]), id(wanted[-1])} if real_ends and wanted else set()
    chosen = [
        m
        for m in wanted
        if id(m) not in ends
        and any(matches(pattern, m) for pattern in included)
        and not any(matches(pattern, m) for pattern in excluded)
    ]
    if not chosen:
        raise ValueError(_nothing(known, excluded, included, real_ends))
    _replace(net, chosen, names, lambda old: TWINS[type(old)].from_float(old, binarizer, init, magnitude, scale))
    if not quiet:
        print(summary(net), file=sys.stderr)
    return net


def _replace(
    net: nn.Module, chosen: list[nn.Module], names: dict[nn.Module, list[str]], twin_of: Callable[[nn.Module], Twin]
) -> None:
    _refuse_ties(net, chosen, names)
    naturals: dict[object, nn.Parameter] = {}
    for old, new in [(old, twin_of(old)) for old in chosen]:  # none was refused
        for key, layer in new.sources(old):
            layer.natural = naturals.setdefault(key, layer.natural)
        for name in names[old]:
            parent, _, child = name.rpartition(".")
            setattr(net.get_submodule(parent), child, new)
    for module in net.modules():  # torch's fused kernels read weights, and not through the layers
        if any(isinstance(m, Twin) for m in module.modules()):
            if isinstance(module, nn.TransformerEncoderLayer):
                module.activation_relu_or_gelu = 0  # torch's own sign for "not the fused kernel"
            elif isinstance(module, nn.TransformerEncoder):
                module.use_nested_tensor = False


def _refuse_bare(net: nn.Module) -> None:
    if type(net) in TWINS:
        twin = TWINS[type(net)].__name__
        raise TypeError(
            f"binarize_ changes the layers inside a network, got a bare {type(net).__name__}: use {twin}, for this one "
            f"bayesbinn.nn.{twin}.from_float(layer)"
        )
    if isinstance(net, Twin):
        raise TypeError(f"{type(net).__name__} is binary already: binarize_ takes a network of float layers")


def _path(net: nn.Module, name: str) -> list[nn.Module]:
    """The modules on the way to `name`, and the one of that name."""
    parts = name.split(".")
    return [net.get_submodule(".".join(parts[: i + 1])) for i in range(len(parts))]


def _asked_for(layer: nn.Module, aliases: list[str], included: list[Pattern]) -> bool:
    return any(pattern in aliases or pattern is type(layer) for pattern in included)


def _nothing(known: str, excluded: list[Pattern], included: list[Pattern], real_ends: bool) -> str:
    ends = " and real_ends keeps the first and the last" if real_ends else ""
    return f"nothing to convert: of the layers {known}, include={included} and exclude={excluded} leave none{ends}"


def _refuse_ties(net: nn.Module, chosen: list[nn.Module], names: dict[nn.Module, list[str]]) -> None:
    """A weight that a module outside of `chosen` shares would stop being shared.

    Raises:
        ValueError: naming both.
    """
    inside = {id(m) for module in chosen for m in module.modules()}
    weights = {id(p): module for module in chosen for p in module.parameters() if p.ndim > 1}
    for name, module in net.named_modules():
        for own, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in weights and id(module) not in inside:
                layer = names[weights[id(parameter)]][0]
                also = f", make both binary by include=['*', {name!r}]" if type(module) in ON_REQUEST else ""
                raise ValueError(
                    f"layer {layer!r} shares its weight with {name}.{own}, which stays real: keep both real by "
                    f"exclude={layer!r}{also}, or give the layer a weight of its own"
                )


def binary_layers(net: nn.Module) -> Iterator[tuple[str, BinaryLayer]]:
    """Name and layer of every binary layer in `net`, each once, in the order of `named_modules`."""
    return ((name, m) for name, m in net.named_modules() if isinstance(m, BinaryLayer))


def split_parameters(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(binary, real): the λ tensors for a binary optimizer, and all other parameters for an ordinary one.

    >>> binary, real = split_parameters(binarize_(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), quiet=True))
    >>> len(binary), len(real)
    (1, 4)
    """
    binary = list({id(layer.natural): layer.natural for _, layer in binary_layers(net)}.values())
    naturals = {id(p) for p in binary}
    return binary, [p for p in net.parameters() if id(p) not in naturals]


def _listed(patterns: Patterns) -> list[Pattern]:
    return [patterns] if isinstance(patterns, str | type) else list(patterns)

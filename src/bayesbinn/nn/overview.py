"""What `binarize_` has made of a network: what is binary, what stays real and why, and how large it is."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrize

from .layers import BinaryLayer, Twin
from .table import ON_REQUEST, TWINS

ASKED = "kept real as asked"
SHOWN = 4  # names of layers in a line of the summary


@dataclass(frozen=True)
class Real:
    """A module whose weights stay real, or a weight of one without a twin: its name, the module's type, and why."""

    name: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Summary:
    """What is binary in a network; `str()` is a few lines.

    Attributes:
        layers: number of binary layers by type; attention and recurrent modules count as one.
        real: modules with weights (of two or more dimensions) that stay real.
        num_binary, num_real: numbers of ±1 weights and of real parameters, those that are shared once.
        float_bytes: of the parameters of the float network.
        binary_bytes: of the network with a bit for each ±1 weight; scales and real parameters keep their type.
    """

    layers: dict[str, int]
    real: list[Real]
    num_binary: int
    num_real: int
    float_bytes: int
    binary_bytes: int

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.layers.items()) or "none"
        share = self.num_binary / max(self.num_binary + self.num_real, 1)
        lines = [
            f"binary: {kinds}; {share:.1%} of {self.num_binary + self.num_real:,} parameters, "
            f"{_size(self.float_bytes)} → {_size(self.binary_bytes)}"
        ]
        groups: dict[tuple[str, str], list[str]] = {}
        for own in self.real:
            groups.setdefault((own.kind, own.reason), []).append(own.name)
        for (kind, reason), names in groups.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            lines.append(f"  real: {', '.join(names[:SHOWN])}{more} ({kind}: {reason})")
        return "\n".join(lines)


def summary(net: nn.Module) -> Summary:
    """What is binary in `net`, what stays real and why, and how large it is.

    >>> from bayesbinn.nn import binarize_
    >>> print(summary(binarize_(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 8)), exclude="1", quiet=True)))
    binary: 1 Linear; 86.3% of 4,744 parameters, 18.7 kB → 3.1 kB
      real: 1 (Linear: kept real as asked)
    """
    inside = [m for m in net.modules() if isinstance(m, BinaryLayer)]
    naturals = {id(m.natural): m.natural for m in inside}
    scales = {id(m.scale) for m in inside if m.scale is not None}
    others = {id(p): p for p in net.parameters() if id(p) not in naturals}
    num_binary = sum(p.numel() for p in naturals.values())
    real_bytes = sum(p.numel() * p.element_size() for p in others.values())
    scale_bytes = sum(others[i].numel() * others[i].element_size() for i in scales)
    constant = sum(4 * len(m.scales) for m in inside if m.scale is None)
    return Summary(
        layers=dict(Counter(m.float_type.__name__ for _, m in _twins(net))),
        real=list(_real(net)),
        num_binary=num_binary,
        num_real=sum(p.numel() for p in others.values()),
        float_bytes=sum(p.numel() * max(p.element_size(), 4) for p in naturals.values()) + real_bytes - scale_bytes,
        binary_bytes=(num_binary + 7) // 8 + real_bytes + constant,
    )


def _twins(net: nn.Module, name: str = "") -> Iterator[tuple[str, Twin]]:
    """The outermost twins, each once."""
    inner = {id(child) for m in net.modules() if isinstance(m, Twin) for child in m.modules() if child is not m}
    return ((name, m) for name, m in net.named_modules() if isinstance(m, Twin) and id(m) not in inner)


def _real(net: nn.Module) -> Iterator[Real]:
    whole = [m for m in net.modules() if isinstance(m, Twin) or type(m) in TWINS or parametrize.is_parametrized(m)]
    told = {id(child) for m in whole for child in m.modules() if child is not m or isinstance(m, Twin)}
    for name, module in net.named_modules():
        if id(module) in told:
            continue
        computed, reason = parametrize.is_parametrized(module), _reason(module)
        kind = (type(module).__mro__[1] if computed else type(module)).__name__
        matrices = [own for own, p in module._parameters.items() if p is not None and p.ndim > 1]
        if reason is None:
            yield from (Real(f"{name}.{own}".lstrip("."), kind, "no binary twin") for own in matrices)
        elif computed or matrices or type(module) in TWINS:
            yield Real(name, kind, reason)


def _reason(module: nn.Module) -> str | None:
    if type(module) in ON_REQUEST:
        return "real unless it is included by its name or type"
    if type(module) in TWINS:
        return ASKED
    if parametrize.is_parametrized(module):
        return "its weight is computed by a parametrization"
    base = next((kind for kind in type(module).__mro__ if kind in TWINS), None)
    return f"a subclass of {base.__name__}, whose own code a twin does not know" if base else None


def _size(count: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"

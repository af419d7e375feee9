"""Draw networks from the posterior, and describe it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from . import bernoulli, shards
from .nn import BinaryLayer, binary_layers
from .optim import BayesBiNN, NetworkOptimizer


def draw(net: nn.Module, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """One network from the posterior: {layer name: ±1 weight}, drawn independently per weight, P(w = +1) = σ(2λ).

    Layers whose binarizer has no posterior (such as `SignSTE`) give their mode; λ shared by two layers is drawn once.
    Where FSDP2 splits λ over processes, every process draws the whole network (the same one from the same seed).

    Args:
        net: a network with binary layers.
        generator: source of randomness, on the device of the parameters; torch's global generator if None.

    Raises:
        ValueError: if `net` has no binary layer.

    >>> from bayesbinn.nn import BinaryLinear
    >>> draw(nn.Sequential(BinaryLinear(2, 2)), torch.Generator().manual_seed(0))["0"].shape
    torch.Size([2, 2])
    """
    drawn: dict[int, Tensor] = {}
    weights = {}
    for name, layer in _layers(net):
        natural = layer.natural
        if id(natural) not in drawn:
            with torch.no_grad():
                full = shards.whole(natural)
                drawn[id(natural)] = (
                    bernoulli.sample(full, None, generator) if layer.binarizer.has_posterior else bernoulli.sign(full)
                )
        weights[name] = drawn[id(natural)]
    return weights


@contextmanager
def sampled_weights(
    net: nn.Module, seed: int | torch.Generator | None = None, *, weights: dict[str, Tensor] | None = None
) -> Iterator[nn.Module]:
    """Fix one posterior draw for everything inside: each binary layer computes with it, in either mode.

    On exit, also through an exception, the layers are as before.  λ receives no gradient inside.  Batch norm uses the
    statistics of the draws inside, where the mode has its own (`outputs.calibrate_mode_`).

    Args:
        net: a network with binary layers.
        seed: seed of the draw, or a generator to draw from; torch's global generator if None.
        weights: use these weights (as from `draw`) instead of drawing.

    Yields:
        `net`.

    Raises:
        ValueError: if `net` has no binary layer, or `weights` does not fit its layers.

    >>> from bayesbinn.nn import BinaryLinear
    >>> net, x = nn.Sequential(BinaryLinear(2, 2)), torch.ones(1, 2)
    >>> with sampled_weights(net, seed=0):
    ...     same = bool((net(x) == net(x)).all())
    >>> same
    True
    """
    layers = dict(_layers(net))
    if weights is None:
        generator = generator_for(net, seed) if isinstance(seed, int) else seed
        weights = draw(net, generator)
    _check_weights(layers, weights)
    before = {name: layer._draw for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer._draw = weights[name]
        with drawn_statistics(net):
            yield net
    finally:
        for name, layer in layers.items():
            layer._draw = before[name]


@contextmanager
@torch.no_grad()
def drawn_statistics(net: nn.Module) -> Iterator[nn.Module]:
    """Inside, batch norm has the statistics that training collected, where `calibrate_mode_` gave the mode others.

    A calibration from before further training is out of date, and ignored.
    """
    norms = [m for m in net.modules() if "drawn_mean" in m._buffers and _calibrated(m)]
    mode = [{name: m.get_buffer(f"running_{name}").clone() for name in ("mean", "var")} for m in norms]
    for m in norms:
        for name in ("mean", "var"):
            m.get_buffer(f"running_{name}").copy_(m.get_buffer(f"drawn_{name}"))
    try:
        yield net
    finally:
        for m, own in zip(norms, mode, strict=True):
            if _calibrated(m):  # nothing was trained inside
                for name, statistic in own.items():
                    m.get_buffer(f"running_{name}").copy_(statistic)


def _calibrated(norm: nn.Module) -> bool:
    return bool(norm.get_buffer("drawn_batches") == norm.get_buffer("num_batches_tracked"))


def generator_for(net: nn.Module, seed: int) -> torch.Generator:
    """A generator seeded with `seed`, on the device of the binary parameters of `net`."""
    device = next(layer.natural.device for _, layer in _layers(net))
    return torch.Generator(device).manual_seed(seed)


def has_posterior(net: nn.Module) -> bool:
    """Whether drawing from `net` means something: some binary layer's binarizer has a posterior."""
    return any(layer.binarizer.has_posterior for _, layer in binary_layers(net))


@dataclass(frozen=True)
class LayerPosterior:
    """The posterior of one layer, or of all (`name` "total").

    Attributes:
        num_weights: number of ±1 weights.
        entropy: mean entropy per weight, in nats (log 2 = undecided, 0 = certain).
        kl: KL(q‖q₀) summed over the weights, in nats.
        saturated: share of weights with |μ| > 0.99.
        undecided: share of weights with |λ| < 1.
        flip_rate: share of weights whose mode changed sign since `previous`; None without one.
    """

    name: str
    num_weights: int
    entropy: float
    kl: float
    saturated: float
    undecided: float
    flip_rate: float | None


@dataclass(frozen=True)
class PosteriorSummary:
    """`layers`, in network order, and their `total`; `str()` is a table.  See `posterior_summary`."""

    layers: list[LayerPosterior]
    total: LayerPosterior
    signs: dict[str, Tensor] = field(repr=False, compare=False)

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [
            ("layer", "weights", "entropy", "KL (nats)", "saturated", "undecided", "flip rate")
        ]
        for p in [*self.layers, self.total]:
            flips = "-" if p.flip_rate is None else f"{p.flip_rate:.2%}"
            kl, saturated, undecided = f"{p.kl:,.1f}", f"{p.saturated:.1%}", f"{p.undecided:.1%}"
            rows.append((p.name, f"{p.num_weights:,}", f"{p.entropy:.4f}", kl, saturated, undecided, flips))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(
                cell.rjust(width) if i else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        )


@torch.no_grad()
def posterior_summary(
    net: nn.Module, optimizer: BayesBiNN | NetworkOptimizer | None = None, previous: PosteriorSummary | None = None
) -> PosteriorSummary:
    """Entropy, KL, saturation and flip rate of the posterior, per layer and in total.

    Where FSDP2 splits λ over processes, every process must call this, and gets the figures of the whole.

    Args:
        net: a network with binary layers.
        optimizer: the KL is taken to its prior; to the uniform prior if None.
        previous: an earlier summary of the same network, to count the flips since.

    Raises:
        ValueError: if `net` has no binary layer, or `previous` is of another network.
        KeyError: if `optimizer` does not hold the λ of every layer.

    >>> from bayesbinn.nn import BinaryLinear
    >>> print(posterior_summary(nn.Sequential(BinaryLinear(2, 2, init="zeros"))))
    layer  weights  entropy  KL (nats)  saturated  undecided  flip rate
    0            4   0.6931        0.0       0.0%     100.0%          -
    total        4   0.6931        0.0       0.0%     100.0%          -
    """
    layers, signs, distinct = [], {}, {}
    for name, layer in _layers(net):
        natural = layer.natural
        signs[name] = natural >= 0
        flip_rate = None
        if previous is not None:
            before = previous.signs.get(name)
            if before is None or before.shape != natural.shape:
                raise ValueError(f"previous summary has no layer {name!r} of shape {tuple(natural.shape)}")
            flip_rate = shards.mean(shards.local(before) != shards.local(signs[name]), like=natural)
        own = bernoulli.wide(shards.local(natural))
        prior = 0.0 if optimizer is None else shards.local(optimizer.prior_of(natural))
        layers.append(
            LayerPosterior(
                name=name,
                num_weights=natural.numel(),
                entropy=shards.mean(bernoulli.entropy(own), like=natural),
                kl=float(shards.total(bernoulli.kl_divergence(own, prior).sum(dtype=torch.float64), like=natural)),
                saturated=shards.mean(bernoulli.mean(own).abs() > 0.99, like=natural),
                undecided=shards.mean(own.abs() < 1, like=natural),
                flip_rate=flip_rate,
            )
        )
        distinct[id(natural)] = layers[-1]  # λ shared by two layers counts once in the total
    num_weights = sum(p.num_weights for p in distinct.values())

    def average(attribute: str) -> float:
        return float(sum(getattr(p, attribute) * p.num_weights for p in distinct.values()) / num_weights)

    total = LayerPosterior(
        name="total",
        num_weights=num_weights,
        entropy=average("entropy"),
        kl=sum(p.kl for p in distinct.values()),
        saturated=average("saturated"),
        undecided=average("undecided"),
        flip_rate=None if previous is None else average("flip_rate"),
    )
    return PosteriorSummary(layers, total, signs)


def _layers(net: nn.Module) -> list[tuple[str, BinaryLayer]]:
    layers = list(binary_layers(net))
    if not layers:
        raise ValueError(f"{type(net).__name__} has no binary layer: make it binary with binarize_(net)")
    return layers


def _check_weights(layers: dict[str, BinaryLayer], weights: dict[str, Tensor]) -> None:
    if weights.keys() != layers.keys():
        raise ValueError(f"weights are for layers {sorted(weights)}, the network has {sorted(layers)}")
    for name, layer in layers.items():
        if weights[name].shape != layer.natural.shape:
            found, need = tuple(weights[name].shape), tuple(layer.natural.shape)
            raise ValueError(f"weights of layer {name!r} have shape {found}, the layer needs {need}")

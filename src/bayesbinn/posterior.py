"""Draw networks from the posterior, and describe it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from . import bernoulli, shards
from .nn.batch_norm import in_force, statistics_of
from .nn.draws import draw as draw
from .nn.draws import fixed_weights, generator_for, some_binary_layers
from .nn.draws import has_posterior as has_posterior
from .optim import BayesBiNN, NetworkOptimizer


@contextmanager
def sampled_weights(
    net: nn.Module, seed: int | torch.Generator | None = None, *, weights: dict[str, Tensor] | None = None
) -> Iterator[nn.Module]:
    """Fix one posterior draw for everything inside: each binary layer computes with it, in either mode.

    On exit, also through an exception, the layers are as before.  λ receives no gradient inside.  Batch norm uses the
    statistics of the draws inside, where `calibrate_` has made some.

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
    own = seed if weights is None and isinstance(seed, int) else None
    if weights is None:
        weights = draw(net, generator_for(net, seed) if isinstance(seed, int) else seed)
    with fixed_weights(net, weights), in_force(statistics_of(net, "draws", own)(0)):
        yield net


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
    for name, layer in some_binary_layers(net):
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

"""The statistics of batch norm: those of the mode beside those of drawn networks.

Training collects running statistics while the weights change and, for most estimators, are drawn anew at every step.
They are the average network's: the mode loses accuracy with them (docs/uncertainty.md).  `calibrate_` gives the mode
and each draw its own.  The mode's become the running statistics, so that every torch tool sees them.  The draws' are
kept beside λ, in the binary layers, with a fingerprint of all that they belong to: λ, and the running statistics beside
which they were made.  They count while both are as they were.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import shards
from .convert import binary_layers
from .draws import draw, fixed_weights, generator_for, has_posterior
from .inputs import Inputs, active_dropouts, as_inputs, evaluating, seeded, warn_without_standardising
from .layers import BinaryLayer, Drawn
from .mixture import members_of

M = TypeVar("M", bound=nn.Module)
Groups = list[tuple[BinaryLayer, list[_BatchNorm]]]

SHARE = 1024  # inputs that each drawn network sees, where there are as many (docs/design/batch-norm.md)
DRAWS = 32  # networks that get statistics of their own: as many as `predict` draws


class UncalibratedWarning(UserWarning):
    """The statistics of batch norm are not those of the weights that a prediction or a file is made with."""


class Statistics(NamedTuple):
    """Mean and variance (C,) of the inputs of one batch norm."""

    mean: Tensor
    var: Tensor


@torch.no_grad()
def calibrate_(
    net: M,
    data: Any,
    *,
    num_samples: int = DRAWS,
    batch_size: int = 1024,
    seed: int = 0,
    turn: tuple[int, int] = (0, 1),
) -> M:
    """Give the mode of `net`, and its drawn networks, batch-norm statistics of their own, in place.

    The mode's are those of all the data.  The draws' are those of the first S networks that `predict` draws with this
    seed, each of its share of the data, or of 1,024 inputs if that is more; further draws, and those of other seeds,
    use their average.  Dropout is on meanwhile, as in training: without it the network gets surer than its calibration
    bears (docs/uncertainty.md).  Both go with the network into its state_dict, and from there into any other.  They
    end with what they belong to: after further training, `update_bn` or loading, draws use the running statistics
    again; if λ alone has changed, the next prediction says so.

    Args:
        net: batch norm that tracks running statistics is calibrated, all else left alone; of a mixture, each member's.
        data: N ≥ 2 training inputs, changed as in training; a few thousand are enough.  A tensor, a numpy array, a
            tuple or dict of them (several inputs), or an iterable such as a DataLoader of batches (inputs, or inputs
            and labels), which is read once, to its end.
        num_samples: S ≥ 1; each takes two numbers per channel.
        batch_size: inputs in one forward pass.
        seed: of the draws.
        turn: (k, K): the network is going to be member k of a mixture of K, so that draws k, k + K, ... are enough.

    Returns:
        `net` itself.

    Raises:
        TypeError, ValueError: for data that are no inputs, fewer than two of them, or a number below 1.

    >>> net = nn.Sequential(nn.BatchNorm1d(1)).eval()
    >>> calibrate_(net, torch.tensor([[1.0], [3.0]]))[0].running_mean
    tensor([2.])
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    warn_without_standardising(net)
    inputs = as_inputs(data, net)
    members = members_of(net)
    turns = [turn] if len(members) == 1 else [(k, len(members)) for k in range(len(members))]
    for (k, count), member in zip(turns, members, strict=True):
        _calibrate(member, inputs, range(k % num_samples, num_samples, count), num_samples, batch_size, seed)
    return net


def _calibrate(net: nn.Module, inputs: Inputs, wanted: range, num_samples: int, batch_size: int, seed: int) -> None:
    draws = has_posterior(net) and bool(_norms(net))
    mode = _collected(net, inputs, batch_size)
    drawn = _statistics_of_each(net, inputs, wanted, num_samples, batch_size, seed) if draws else []
    for norm, own in mode.items():
        for buffer, value in zip(_running(norm), own, strict=True):
            buffer.copy_(value)
    if draws:
        for layer, norms in _groups(net):
            none = torch.empty(0, device=layer.natural.device)
            each = [[of_draw.get(norm, _running(norm)) for norm in norms] for of_draw in drawn]
            mean, var = (torch.stack([torch.cat([none, *(own[i] for own in row)]) for row in each]) for i in (0, 1))
            layer.drawn = Drawn(mean, var, _fingerprint(layer, norms), torch.tensor([seed]))


def statistics_of(
    net: nn.Module, whose: Literal["mode", "draws"], seed: int | None = None
) -> Callable[[int], dict[_BatchNorm, Statistics]]:
    """The statistics of the mode, or of draw i with `seed` where `calibrate_` has made some, for `in_force`.

    What it returns gives the average of all draws for another seed (None: for any draw), or for one that has none.
    Those of the mode are the running ones, so that nothing has to be put in their place.  Those of the draws count
    while λ and the running statistics are as they were then.  Warns (`UncalibratedWarning`) where λ has changed and the
    running statistics have not, so that both are of other weights; and for the mode of a network that was trained
    since, whose running statistics are an average over other weights.
    """
    groups = _groups(net)
    calibrated = _calibrated(groups)
    trained = any(norm.num_batches_tracked for _, norms in groups for norm in norms)  # batches seen
    if calibrated is False and whose == "mode" and trained and has_posterior(net):
        warnings.warn(
            "batch norm has the statistics of training, under other weights than the mode, which loses accuracy with "
            "them: call bb.calibrate_(net, data) after training or conversion",
            UncalibratedWarning,
            stacklevel=4,
        )
    if not calibrated or whose == "mode":
        return lambda i: {}
    average = _drawn(groups, None)
    known = [layer.drawn for layer, norms in groups if norms and layer.drawn]
    own = min((len(drawn.mean) for drawn in known if int(drawn.seed) == seed), default=0)
    return lambda i: _drawn(groups, i) if i < own else average


def _drawn(groups: Groups, i: int | None) -> dict[_BatchNorm, Statistics]:
    """The statistics of draw i, or the average of all."""
    found: dict[_BatchNorm, Statistics] = {}
    for layer, norms in groups:
        assert layer.drawn is not None
        rows = (values.mean(0) if i is None else values[i] for values in layer.drawn[:2])
        parts = (torch.split_with_sizes(row, [norm.num_features for norm in norms]) for row in rows)
        found |= zip(norms, map(Statistics, *parts), strict=True)
    return found


@contextmanager
def own_statistics(net: nn.Module, data: Any, batch_size: int = 1024) -> Iterator[nn.Module]:
    """Inside, batch norm has the statistics of `data` under the weights in force here; on exit the old ones are back.

    Use it inside `sampled_weights` for one draw, or outside for the mode.  Arguments as in `calibrate_`.

    >>> net = nn.Sequential(nn.BatchNorm1d(1)).eval()
    >>> with own_statistics(net, torch.tensor([[1.0], [3.0]])):
    ...     net[0].running_mean.tolist()
    [2.0]
    >>> net[0].running_mean.tolist()
    [0.0]
    """
    with torch.no_grad():
        found = _collected(net, as_inputs(data, net), batch_size)
    with in_force(found):
        yield net


@contextmanager
def in_force(statistics: Mapping[_BatchNorm, Statistics]) -> Iterator[None]:
    """Inside, batch norm has these statistics; on exit those from before, unless it was trained inside."""
    before = {norm: _running(norm) for norm in statistics}
    for norm, own in statistics.items():  # other tensors, not other values: a graph may have saved these for backward
        norm.running_mean, norm.running_var = (
            value.to(old, copy=True) for value, old in zip(own, before[norm], strict=True)
        )
    try:
        yield
    finally:
        for norm, old in before.items():
            now = _running(norm)
            norm.running_mean, norm.running_var = old
            pairs = zip(now, statistics[norm], strict=True)
            if not all(torch.allclose(a, b.to(a), 0, 0, equal_nan=True) for a, b in pairs):  # it was trained inside
                for buffer, value in zip(old, now, strict=True):
                    buffer.copy_(value)


def _collected(net: nn.Module, inputs: Inputs, batch_size: int) -> dict[_BatchNorm, Statistics]:
    """Mean and unbiased variance of what each batch norm sees, over all of `inputs` together."""
    if len(inputs) < 2:
        raise ValueError(f"batch-norm statistics need at least 2 inputs, got {len(inputs)}")
    moments = {norm: _Moments() for norm in _norms(net)}
    hooks = [norm.register_forward_pre_hook(own.add) for norm, own in moments.items()]
    try:
        with evaluating(net), seeded(net, 0):
            for module in active_dropouts(net):
                module.train()
            for norm in moments:
                norm.train()
                norm.track_running_stats = False  # it uses those of each batch, and leaves the running ones alone
            for batch in inputs.batches(batch_size, least=2):
                batch.through(net)
    finally:
        for hook in hooks:
            hook.remove()
        for norm in moments:
            norm.track_running_stats = True
    if moments and not any(own.count for own in moments.values()):
        raise ValueError(
            f"none of the {len(moments)} batch norms has seen the data: give the network itself, not a compiled one"
        )
    return {norm: Statistics(own.mean, own.squares / (own.count - 1)) for norm, own in moments.items() if own.count > 1}


class _Moments:
    """Count, mean and sum of squared deviations per channel over batches of any sizes (Chan, Golub & LeVeque, 1979)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0].double() if args[0].dtype == torch.float64 else args[0].float()
        var, mean = torch.var_mean(x, [d for d in range(x.ndim) if d != 1], correction=0)
        count = x.numel() // len(mean)
        total = self.count + count
        delta = mean - self.mean
        self.mean = self.mean + delta * (count / total)
        self.squares = self.squares + var * count + delta.square() * (self.count * count / total)
        self.count = total


def _statistics_of_each(
    net: nn.Module, inputs: Inputs, wanted: range, num_samples: int, batch_size: int, seed: int
) -> list[dict[_BatchNorm, Statistics]]:
    """Of each draw; of those that are not wanted, the average over the others."""
    generator, found = generator_for(net, seed), dict[int, dict[_BatchNorm, Statistics]]()
    size = max(len(inputs) // num_samples, min(len(inputs), SHARE))
    for i in range(num_samples):
        start = i * (len(inputs) - size) // max(num_samples - 1, 1)
        weights = draw(net, generator)
        if i in wanted:
            with fixed_weights(net, weights):
                found[i] = _collected(net, inputs.part(start, start + size), batch_size)
    first, *_ = found.values()
    average = {
        norm: Statistics(*(torch.stack([own[norm][part] for own in found.values()]).mean(0) for part in (0, 1)))
        for norm in first
    }
    return [found.get(i, average) for i in range(num_samples)]


def _calibrated(groups: Groups) -> bool | None:
    """Whether the statistics that `calibrate_` made belong to the network as it is; None: no, and that was said."""
    if not any(norms for _, norms in groups) or all(layer.drawn is None for layer, _ in groups):
        return False
    same = [layer.drawn.fingerprint.cpu() == _fingerprint(layer, norms) for layer, norms in groups if layer.drawn]
    natural, running = torch.stack(same).all(0).tolist()
    natural = natural and len(same) == len(groups)  # a layer without them is a new one
    if running and not natural:
        warnings.warn(
            "λ has changed since calibrate_ and batch norm has not: its statistics are of other weights; call "
            "bb.calibrate_(net, data) again",
            UncalibratedWarning,
            stacklevel=4,
        )
        return None
    return bool(natural and running)


def _norms(net: nn.Module) -> list[_BatchNorm]:
    return [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def _running(norm: _BatchNorm) -> Statistics:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return Statistics(norm.running_mean, norm.running_var)


def _groups(net: nn.Module) -> Groups:
    """Each binary layer with the batch norms that follow it in the order of `modules()`; the first has earlier ones."""
    groups: Groups = [(layer, []) for _, layer in binary_layers(net)]
    layers = [layer for layer, _ in groups]
    norms, index = set(_norms(net)), 0
    for module in net.modules():
        if isinstance(module, BinaryLayer):
            index = layers.index(module)
        elif groups and module in norms:
            groups[index][1].append(module)
    return groups


def _fingerprint(layer: BinaryLayer, norms: list[_BatchNorm]) -> Tensor:
    """(2,) int64, of λ and of the running statistics: the same on every device and in every floating-point type."""
    running = [_hash(buffer) for norm in norms for buffer in _running(norm)]
    batches = [int(norm.num_batches_tracked) for norm in norms if norm.num_batches_tracked is not None]
    return torch.tensor([_hash(shards.whole(layer.natural)), reduce(_mix, [*running, *batches], 0)])


def _hash(x: Tensor) -> int:
    # of the values rounded to bfloat16, so that a network converted to it keeps its statistics; integers add up exactly
    bits = x.detach().to(torch.bfloat16).contiguous().view(torch.int16).reshape(len(x), -1)
    sums = [bits.sum(d, dtype=torch.int64) for d in (0, 1)]
    return _mix(*(int((s * torch.arange(1, 2 * len(s), 2, device=s.device)).sum()) for s in sums))


def _mix(a: int, b: int) -> int:
    return (a * 1_000_003 + b) % 2**62

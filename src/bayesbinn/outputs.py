"""What several networks say about the same inputs: draws from a posterior, members of an ensemble, dropout masks.

Each function gives the outputs of one network after the other, for all inputs, in evaluation mode; `predict.average`
turns logits into predictions.  Memory does not grow with the number of networks.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .posterior import drawn_statistics, generator_for, has_posterior, sampled_weights


@torch.no_grad()
def posterior_outputs(
    net: nn.Module,
    x: Tensor,
    num_samples: int,
    *,
    seed: int = 0,
    batch_size: int = 1024,
    calibration: Tensor | None = None,
) -> Iterator[Tensor]:
    """The outputs (B, ...) of each of S networks drawn from the posterior; S = 0 gives those of the mode, once.

    Args:
        net: used in evaluation mode; each module's own mode is restored.
        x: (B, ...) inputs; moved to the network's device batch by batch.
        num_samples: S ≥ 0.
        seed: of the draws; the first networks of a larger S are those of a smaller one.
        batch_size: inputs in one forward pass.
        calibration: training inputs on which every network re-estimates its batch-norm statistics first; None keeps
            the running statistics, which training collected under sampled weights.

    Raises:
        ValueError: for a negative `num_samples`, a `batch_size` below 1, an empty `x`, or `num_samples` > 0 for a
            network without a posterior.

    >>> [out.shape for out in posterior_outputs(nn.Linear(4, 3), torch.zeros(2, 4), num_samples=0)]
    [torch.Size([2, 3])]
    """
    if num_samples < 0:
        raise ValueError(f"num_samples must be at least 0 (0 is the mode), got {num_samples}")
    _check_inputs(x, batch_size)
    if num_samples and not has_posterior(net):
        raise ValueError(f"num_samples is {num_samples}, but this network has no posterior to draw from: use 0")
    generator = generator_for(net, seed) if num_samples else None
    with evaluating(net):
        for _ in range(max(num_samples, 1)):
            weights: AbstractContextManager[Any] = sampled_weights(net, generator) if num_samples else nullcontext()
            own = nullcontext() if calibration is None else batch_norm_statistics(net, calibration, batch_size)
            with weights, own:
                output = _forward(net, x, batch_size)
            yield output


@torch.no_grad()
def ensemble_outputs(
    nets: Sequence[nn.Module], x: Tensor, *, batch_size: int = 1024, calibration: Tensor | None = None
) -> Iterator[Tensor]:
    """The outputs of each network of an ensemble (Lakshminarayanan et al., 2017), binary ones at their mode.

    >>> len(list(ensemble_outputs([nn.Linear(4, 3), nn.Linear(4, 3)], torch.zeros(2, 4))))
    2
    """
    for net in nets:
        yield from posterior_outputs(net, x, 0, batch_size=batch_size, calibration=calibration)


@torch.no_grad()
def dropout_outputs(
    net: nn.Module, x: Tensor, num_samples: int, *, seed: int = 0, batch_size: int = 1024
) -> Iterator[Tensor]:
    """The outputs under S ≥ 1 draws of the dropout masks, weights at the mode: Monte-Carlo dropout.

    Every input has masks of its own, so other than drawn networks these depend on `batch_size`.  Torch's global
    generator is left as it was.

    Raises:
        ValueError: for S < 1, a `batch_size` below 1, an empty `x`, or a network without active dropout.

    Source: Gal & Ghahramani (2016).

    >>> net = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))
    >>> len(list(dropout_outputs(net, torch.zeros(2, 4), num_samples=5)))
    5
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1 for Monte-Carlo dropout, got {num_samples}")
    _check_inputs(x, batch_size)
    masks = _dropouts(net)
    if not masks:
        raise ValueError("this network has no active dropout layer: Monte-Carlo dropout would repeat one prediction")
    for i in range(num_samples):
        with evaluating(net), _own_generator(net, seed=(seed << 20) + i):
            for mask in masks:
                mask.train()
            output = _forward(net, x, batch_size)
        yield output


@contextmanager
def evaluating(net: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode inside; on exit every module gets its own mode back."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield net
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def batch_norm_statistics(net: nn.Module, x: Tensor, batch_size: int = 1024) -> Iterator[nn.Module]:
    """Inside, batch norm uses the statistics of `x` under the weights in force here; on exit the old ones are back.

    Use it inside `sampled_weights` for one draw, or outside for the mode, whose own ones `calibrate_mode_` keeps.
    Dropout is on while they are collected, as it was in training: without it the activations vary
    less, and the network gets surer than its calibration bears (measured: docs/uncertainty.md).

    Args:
        net: its batch-norm layers must track running statistics to be affected.
        x: (N, ...) training inputs; a few thousand are enough.
        batch_size: the average over equal batches of at most this size is taken.

    >>> net = nn.Sequential(nn.BatchNorm1d(1)).eval()
    >>> with batch_norm_statistics(net, torch.tensor([[1.0], [3.0]])):
    ...     net[0].running_mean.tolist()
    [2.0]
    >>> net[0].running_mean.tolist()
    [0.0]
    """
    norms = _norms(net)
    before = [({k: v.clone() for k, v in m.named_buffers()}, m.momentum) for m in norms]
    try:
        with evaluating(net), _own_generator(net, seed=0), torch.no_grad():
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # plain average over the batches
                norm.train()
            for mask in _dropouts(net):
                mask.train()
            _forward(net, x, math.ceil(len(x) / math.ceil(len(x) / batch_size)))
        yield net
    finally:
        for norm, (buffers, momentum) in zip(norms, before, strict=True):
            norm.momentum = momentum
            for name, old in buffers.items():
                norm.get_buffer(name).copy_(old)


@torch.no_grad()
def calibrate_mode_(net: nn.Module, x: Tensor, batch_size: int = 1024) -> None:
    """Give the mode batch-norm statistics of its own, in place, at the end of training; draws keep those of training.

    Training collects running statistics under another draw of the weights at every step: they are those of the average
    network, and the mode loses accuracy with them (docs/uncertainty.md).  What they were moves to the buffers
    `drawn_mean` and `drawn_var`, which `sampled_weights` puts in force.  They are part of the state_dict; to load it
    into a new network, calibrate that one first, with any inputs.

    Args:
        net: its batch-norm layers must track running statistics to be affected.
        x: (N, ...) training inputs, N ≥ 2; a few thousand are enough.
        batch_size: as in `batch_norm_statistics`.

    >>> net = nn.Sequential(nn.BatchNorm1d(1)).eval()
    >>> calibrate_mode_(net, torch.tensor([[1.0], [3.0]]))
    >>> net[0].running_mean.tolist(), net[0].drawn_mean.tolist()
    ([2.0], [0.0])
    """
    norms, names = _norms(net), ("running_mean", "running_var", "num_batches_tracked")
    with drawn_statistics(net):
        drawn = [[norm.get_buffer(name).clone() for name in names] for norm in norms]
    with batch_norm_statistics(net, x, batch_size):
        mode = [[norm.get_buffer(name).clone() for name in names[:2]] for norm in norms]
    for norm, buffers, own in zip(norms, drawn, mode, strict=True):
        for name, buffer in zip(("drawn_mean", "drawn_var", "drawn_batches"), buffers, strict=True):
            norm.register_buffer(name, buffer)
        for name, statistic in zip(names, own, strict=False):
            norm.get_buffer(name).copy_(statistic)


@torch.no_grad()
def calibrate_draws_(net: nn.Module, x: Tensor, num_samples: int = 8, *, seed: int = 0) -> None:
    """Give drawn networks batch-norm statistics where training collected none: the average over S of them, in place.

    Needed when training does not draw its weights (`binarizers.MeanWeight`); call it before `calibrate_mode_`.

    Args:
        net: its batch-norm layers must track running statistics to be affected.
        x: (N, ...) training inputs, N ≥ 2 S; each network sees an equal part of them.
        num_samples: S ≥ 1.
        seed: of the draws.

    Raises:
        ValueError: for fewer than two inputs a network.

    >>> from bayesbinn.nn import BinaryLinear
    >>> net = nn.Sequential(BinaryLinear(3, 2, bias=False), nn.BatchNorm1d(2)).eval()
    >>> calibrate_draws_(net, torch.ones(16, 3))
    >>> bool((net[1].running_var == 0).all())
    True
    """
    if num_samples < 1 or len(x) < 2 * num_samples:
        raise ValueError(f"{num_samples} networks need two inputs each and there must be one, got {len(x)} inputs")
    norms, names = _norms(net), ("running_mean", "running_var")
    sums = [{name: torch.zeros_like(norm.get_buffer(name)) for name in names} for norm in norms]
    generator = generator_for(net, seed)
    for part in x.tensor_split(num_samples):
        with sampled_weights(net, generator), batch_norm_statistics(net, part):
            for norm, own in zip(norms, sums, strict=True):
                for name, value in own.items():
                    value += norm.get_buffer(name) / num_samples
    for norm, own in zip(norms, sums, strict=True):
        for name, value in own.items():
            norm.get_buffer(name).copy_(value)


def _norms(net: nn.Module) -> list[_BatchNorm]:
    return [m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]


def _dropouts(net: nn.Module) -> list[nn.Module]:
    return [m for m in net.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]


@contextmanager
def _own_generator(net: nn.Module, seed: int) -> Iterator[None]:
    """Torch's global generators seeded inside, and as they were afterwards."""
    devices = list({p.device for p in net.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def _check_inputs(x: Tensor, batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if len(x) == 0:
        raise ValueError(f"x must hold at least one input, got shape {tuple(x.shape)}")


def _forward(net: nn.Module, x: Tensor, batch_size: int) -> Tensor:
    parameter = next(net.parameters(), None)
    device = x.device if parameter is None else parameter.device
    return torch.cat([net(x[i : i + batch_size].to(device)) for i in range(0, len(x), batch_size)])

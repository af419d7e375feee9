"""What the loop measures: the mode on held-out examples, and the posterior."""

from typing import Any

import torch
from torch import Tensor, nn

from ..continual import Examples, task_logits
from ..data import channels_last
from ..nn import binary_layers, likelihood_of
from ..nn.inputs import evaluating
from ..optim import NetworkOptimizer
from ..posterior import PosteriorSummary
from .distributed import World


@torch.no_grad()
def mode_metrics(
    net: nn.Module,
    examples: Examples,
    batch_size: int = 1024,
    outputs: tuple[int, ...] | None = None,
    world: World | None = None,
) -> dict[str, float]:
    """The likelihood's figure (accuracy, RMSE) and NLL (nats) of the mode; each rank computes for its share.

    Args:
        outputs: of the network that compete; None: all.
    """
    world, device, likelihood = world or World(), next(net.parameters()).device, likelihood_of(net)
    score, nll = 0.0, 0.0
    batch_size = max(1, batch_size * len(examples) // examples.y.numel())  # of text: tokens
    with evaluating(net):
        for start in range(0, len(examples), batch_size):
            # every rank takes part in every batch, be its share empty: the layers of a split network are collective
            own = slice(start + world.rank, start + batch_size, world.size)
            x, y = examples.x[own].to(device), examples.y[own].to(device)
            out: Tensor = task_logits(net(channels_last(x.float())), outputs)
            if len(y):
                score += float(likelihood.score(out, y))
                nll += float(likelihood.nll(out, y)) * len(y)
    sums = torch.tensor([score, nll], dtype=torch.float64)
    world.sum_(sums)
    figure = likelihood.figure_of(float(sums[0]), len(examples))
    return {likelihood.figure: figure, "nll": float(sums[1]) / len(examples)}


def posterior_metrics(
    net: nn.Module, summary: PosteriorSummary, optimizer: NetworkOptimizer, nll: float
) -> dict[str, Any]:
    """Entropy, saturation, KL, and as loss the negative ELBO per example, with the KL weighted as in training."""
    total = summary.total
    line = {"entropy": total.entropy, "undecided": total.undecided, "saturated": total.saturated}
    groups = [group for rule in optimizer.rules for group in rule.param_groups]
    if groups:
        weights = {id(p): group["kl_weight"] / group["num_data"] for group in groups for p in group["params"]}
        layers = zip(binary_layers(net), summary.layers, strict=True)
        weighted = sum(weights[id(layer.natural)] * own.kl for (_, layer), own in layers)
        line |= {"kl": total.kl, "loss": nll + weighted}
    return line

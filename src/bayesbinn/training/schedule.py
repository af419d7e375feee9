"""All that changes in the course of a task: learning rates, the warmth of the posterior, the hardness of weights."""

import math

from torch import nn

from ..optim import NetworkOptimizer
from .config import Config
from .methods import harden_


class Schedule:
    """Sets what a step of the optimizer needs; starts anew with each task.

    Args:
        net: whose binarizers harden, if the method's do.
        optimizer: at its peak rates.
        config: says how they change.
    """

    def __init__(self, net: nn.Module, optimizer: NetworkOptimizer, config: Config) -> None:
        self.net, self.optimizer, self.config = net, optimizer, config
        self.base_rates = [group["lr"] for group in optimizer.param_groups]
        self.cooling = getattr(config.method_options, "cooling", 1.0)

    def set_(self, done: int, total: int, batches_per_epoch: int) -> None:
        """Prepare the step that follows `done` steps of the `total` of a task."""
        c = self.config
        factor, progress = rate_factor(c, done, total, batches_per_epoch), (done + 1) / total
        if c.method_row.hardens:
            harden_(self.net, c.method_options, done / total)
        if self.cooling != 1:
            self.optimizer.temper_(self.cooling ** (-1 / total))
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            # an adaptive step is in units of λ, which grows as the posterior cools; a plain one is a share of λ
            rise = self.cooling ** (progress - 1) if group.get("form", "plain") != "plain" else 1.0
            group["lr"] = base * factor * rise


def rate_factor(config: Config, step: int, total: int, batches_per_epoch: int) -> float:
    """The learning rates at `step` (from 0) of `total`, as a share of their peak: linear warm-up, then the schedule.

    >>> rate_factor(Config(), step=10, total=20, batches_per_epoch=10)
    0.5
    """
    warm = config.warmup * batches_per_epoch
    factor = min(1.0, (step + 1) / warm) if warm else 1.0
    if config.schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * step / total))
    return factor

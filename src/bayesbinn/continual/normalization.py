"""What batch norm remembers of earlier tasks: an explicit choice.

A network with batch norm carries its last task's statistics into every prediction.  That alone can cost more accuracy
on earlier tasks than the weights do, so a continual run says which of these it uses.
"""

import copy
import math
from typing import Literal, TypeVar

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

Statistics = Literal["shared", "task", "layer", "none"]
M = TypeVar("M", bound=nn.Module)


class TaskBatchNorm(nn.Module):
    """A batch norm for each task, with all settings of the one given, and one affine map (if any) for all.

    Needs to be told the task (`set_task`), in training and at prediction.  Statistics of a task freeze when it is
    over, while the weights move on.

    Attributes:
        norms: one per task.
        task: the task in force.

    >>> norm = TaskBatchNorm(nn.BatchNorm1d(3), num_tasks=2)
    >>> norm.task = 1
    >>> import torch
    >>> _ = norm(torch.randn(8, 3) + 5)
    >>> [bool((n.running_mean > 0).all()) for n in norm.norms]
    [False, True]
    """

    def __init__(self, norm: _BatchNorm, num_tasks: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(copy.deepcopy(norm) for _ in range(num_tasks))
        for own in self.norms:
            own.weight, own.bias = norm.weight, norm.bias
        self.train(norm.training)
        self.task = 0

    def forward(self, x: Tensor) -> Tensor:
        normalized: Tensor = self.norms[self.task](x)
        return normalized

    def extra_repr(self) -> str:
        return f"task={self.task}"


class FixedScale(nn.Module):
    """Multiply by `scale`: keeps outputs of one size through the layers without any statistics."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

    def extra_repr(self) -> str:
        return f"{self.scale:.4g}"


def normalize_(net: M, statistics: Statistics, num_tasks: int, output_gain: float = 1.0) -> M:
    """Replace the batch norms of `net`, in place, by what is to be remembered of each task.

    * `"shared"`: batch norm as it is: one set of running statistics, those of the latest data.
    * `"task"`: a set of running statistics for each task (`TaskBatchNorm`).
    * `"layer"`: no statistics: each example is normalized over its own units (layer norm), its outputs apart.
    * `"none"`: no normalization: hidden layers are multiplied by √2.

    The last two leave the size of the outputs to the scale of the layers.

    Args:
        net: a network whose batch norms follow Linear or Conv layers, float or binary.
        statistics: one of the above.
        num_tasks: T, for `"task"`.
        output_gain: factor on the network's outputs, behind the last normalization: how confident they can be.

    Raises:
        ValueError: for another `statistics`.

    Source: layer norm: Ba, Kiros & Hinton (2016); √2: He et al. (2015).

    >>> normalize_(nn.Sequential(nn.Linear(16, 4), nn.BatchNorm1d(4)), "none", num_tasks=1, output_gain=0.25)[1]
    FixedScale(0.25)
    """
    if statistics not in ("shared", "task", "layer", "none"):
        raise ValueError(f"statistics must be 'shared', 'task', 'layer' or 'none', got {statistics!r}")
    norms = [name for name, m in net.named_modules() if isinstance(m, _BatchNorm)]
    for name, module in list(net.named_modules()):
        if not isinstance(module, _BatchNorm):
            continue
        last = name == norms[-1]
        parent, _, child = name.rpartition(".")
        setattr(net.get_submodule(parent), child, _replacement(module, statistics, num_tasks, last, output_gain))
    return net


def _replacement(norm: _BatchNorm, statistics: Statistics, num_tasks: int, last: bool, gain: float) -> nn.Module:
    if statistics in ("shared", "task"):
        kept = norm if statistics == "shared" else TaskBatchNorm(norm, num_tasks)
        return nn.Sequential(kept, FixedScale(gain)) if last and gain != 1.0 else kept
    if statistics == "layer" and not last:
        layer = nn.GroupNorm(1, norm.num_features, norm.eps, norm.affine)  # over all units (and pixels) of an example
        layer.weight, layer.bias = norm.weight, norm.bias
        return layer.train(norm.training)
    return FixedScale(gain if last else math.sqrt(2.0))  # half of a ReLU's inputs are lost


def set_task(net: nn.Module, task: int) -> None:
    """Tell every `TaskBatchNorm` of `net` which task it is in; without any, nothing happens."""
    for module in net.modules():
        if isinstance(module, TaskBatchNorm):
            module.task = task

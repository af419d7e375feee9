"""A network whose logits are divided by a temperature, which `metrics.fit_temperature` finds."""

import math

import torch
from torch import Tensor, nn

from .mixture import Mixture


class Temperature(nn.Module):
    """z / T, the last layer of a classifier: softmax(z / T) is softer for T above 1, sharper below.

    Args:
        temperature: T > 0, a buffer.

    Raises:
        ValueError: for a temperature that is not a finite number above 0.

    Source: Guo et al. (2017).

    >>> Temperature(2.0)(torch.tensor([1.0, 3.0]))
    tensor([0.5000, 1.5000])
    """

    inverse: Tensor

    def __init__(self, temperature: float) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be a finite number above 0, got {temperature}")
        self.register_buffer("inverse", torch.tensor(1 / temperature))

    def forward(self, logits: Tensor) -> Tensor:
        return logits * self.inverse


def at_temperature(net: nn.Module, temperature: float) -> nn.Module:
    """`net` with `Temperature` behind it, its layers shared; of a mixture, behind each member.

    Everything that takes a network takes it: `predict`, `deploy.save` and the exports, where the temperature is part of
    the last scale and costs nothing.

    Raises:
        ValueError: as `Temperature`.

    >>> at_temperature(nn.Linear(4, 3), 2.0)(torch.zeros(1, 4)).shape
    torch.Size([1, 3])
    """
    if isinstance(net, Mixture):
        return Mixture(at_temperature(member, temperature) for member in net.members).train(net.training)
    return nn.Sequential(net, Temperature(temperature)).train(net.training)

"""Several posteriors of one network, whose predictions are averaged: q(w) = 1/K Σ_k q_k(w)."""

from collections.abc import Iterable

from torch import Tensor, nn


class Mixture(nn.Module):
    """K networks of one kind, each with a posterior around a solution of its own.

    `predict`, `calibrate_` and `deploy.save` know it: draw s is that of member s mod K.  Called itself, it is
    the last member, and so its mode is the mode of that one.  `bayesbinn train --modes K` learns one at the cost of a
    single run; networks that were trained apart make one too.

    Args:
        members: K ≥ 1 networks of the same inputs and outputs.

    Raises:
        ValueError: for none.

    Source: several solutions differ more than draws around one: Fort, Hu & Lakshminarayanan (2019); from one run:
    Huang et al. (2017).

    >>> import torch
    >>> net = Mixture([nn.Linear(4, 3), nn.Linear(4, 3)])
    >>> x = torch.zeros(2, 4)
    >>> torch.equal(net(x), net.members[1](x))
    True
    """

    def __init__(self, members: Iterable[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        if not self.members:
            raise ValueError("a mixture needs at least one network, got none")

    def forward(self, *args: Tensor, **kwargs: Tensor) -> Tensor:
        out: Tensor = self.members[-1](*args, **kwargs)
        return out


def members_of(net: nn.Module) -> list[nn.Module]:
    """The networks of a mixture; a network that is none, alone.

    >>> len(members_of(nn.Linear(4, 3)))
    1
    """
    return list(net.members) if isinstance(net, Mixture) else [net]

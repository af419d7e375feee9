"""Several posteriors from one run: the schedules start anew K times, and what each cycle ends with is kept."""

import copy
from typing import Any

from torch import Tensor, nn

from ..continual import Strategy
from ..examples import Examples
from ..nn import calibrate_
from ..nn.mixture import Mixture
from ..optim import NetworkOptimizer


class Modes(Strategy):
    """Keeps a copy of the network at the end of each of K cycles, calibrated, and warms the posterior for the next.

    Args:
        optimizer: whose posterior becomes `cooling` times warmer, as it was at the start of the cycle.
        modes: K.
        cooling: by how much a cycle cools it.
        calibration: training inputs for the batch norm of the copies; None where there is none.

    Source: Huang et al. (2017), snapshots of a cyclic learning rate; Zhang et al. (2020), for posteriors.
    """

    def __init__(self, optimizer: NetworkOptimizer, modes: int, cooling: float, calibration: Tensor | None) -> None:
        self.optimizer, self.modes, self.cooling, self.calibration = optimizer, modes, cooling, calibration
        self.kept: list[dict[str, Tensor]] = []

    def after_task(self, net: nn.Module, train: Examples, outputs: tuple[int, ...] | None) -> None:
        member = copy.deepcopy(net)
        if self.calibration is not None:
            calibrate_(member, self.calibration, turn=(len(self.kept), self.modes))
        self.kept.append({name: value.detach().cpu().clone() for name, value in member.state_dict().items()})
        if len(self.kept) < self.modes and self.cooling != 1:
            self.optimizer.temper_(self.cooling)

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{k}.{name}": value for k, state in enumerate(self.kept) for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.kept = _states(state)

    @staticmethod
    def mixture(net: nn.Module, training: dict[str, Any]) -> nn.Module:
        """The posteriors that a checkpoint holds, of networks like `net`; `net` alone while there is none."""
        prefix = "strategy."
        states = _states({n.removeprefix(prefix): v for n, v in training.items() if n.startswith(prefix)})
        members = []
        for state in states:
            member = copy.deepcopy(net)
            member.load_state_dict(state)
            members.append(member.eval())
        return Mixture(members) if members else net


def _states(state: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """The state_dicts of the members, from that of the strategy."""
    parts = [(int(k), name, value) for (k, _, name), value in ((n.partition("."), v) for n, v in state.items())]
    count = 1 + max((k for k, _, _ in parts), default=-1)
    return [{name: value for i, name, value in parts if i == k} for k in range(count)]

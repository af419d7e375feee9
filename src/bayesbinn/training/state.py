"""The state of training: where it stands, and all that a checkpoint holds, put together from all ranks and put back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import shards
from ..continual import Strategy
from ..nn import binary_layers
from ..optim import NetworkOptimizer
from ..posterior import PosteriorSummary, posterior_summary
from .checkpoint import flatten_optimizer, unflatten_optimizer
from .distributed import World
from .restore import compare_threads, load_state, random_states, set_random_states, split_state, whole


@dataclass
class Progress:
    """Where training stands.

    Attributes:
        epoch, batch: done so far, `epoch` of all tasks; `batch` within the epoch.
        seconds: spent in training steps.
        log: the lines of metrics.jsonl.
        tasks: what was measured before the first task and after each.
        seen, score, nll_sum: sums over the batches of this epoch, of all ranks.
    """

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    seen: int = 0
    nll_sum: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    score: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))

    def to(self, device: torch.device) -> "Progress":
        """The same, its sums where the losses are, so that adding one up waits for nothing."""
        self.nll_sum, self.score = self.nll_sum.to(device), self.score.to(device)
        return self

    def start_epoch(self) -> None:
        """Count the epoch as done, and its sums from 0."""
        self.epoch, self.batch, self.seen = self.epoch + 1, 0, 0
        self.nll_sum, self.score = torch.zeros_like(self.nll_sum), torch.zeros_like(self.score)


SUMS = ("nll_sum", "score")  # the tensors of `Progress`


class State:
    """A network and all that changes while it is trained, on this rank.

    Attributes:
        summary: of the posterior at the start of the epoch; None for a network without binary layers.
    """

    def __init__(self, net: nn.Module, optimizer: NetworkOptimizer, strategy: Strategy, world: World) -> None:
        self.net, self.optimizer, self.strategy, self.world = net, optimizer, strategy, world
        self.device = next(net.parameters()).device
        self.progress = Progress().to(self.device)
        self.summary = self.summarise()

    def summarise(self, previous: PosteriorSummary | None = None) -> PosteriorSummary | None:
        """The posterior now, with the weights flipped since `previous`."""
        if not any(True for _ in binary_layers(self.net)):
            return None
        return posterior_summary(self.net, next(iter(self.optimizer.rules), None), previous)

    def pack(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
        """(model, training, state) as `save_checkpoint` takes them: on rank 0 the whole, from all ranks."""
        tensors, optimizer = flatten_optimizer("optimizer", self.optimizer)
        training = tensors | random_states(self.device, self.world)
        training |= {f"strategy.{name}": value for name, value in self.strategy.state_dict().items()}
        if self.summary is not None:
            training |= {f"signs.{name}": signs for name, signs in self.summary.signs.items()}
        model, training = whole(self.net.state_dict(), self.world), whole(training, self.world)
        training |= {f"sums.{name}": getattr(self.progress, name) for name in SUMS}
        progress = {name: value for name, value in vars(self.progress).items() if name not in SUMS}
        return model, training, {"progress": progress, "optimizer": optimizer, "threads": torch.get_num_threads()}

    def unpack_(
        self, model: dict[str, Tensor], training: dict[str, Tensor], state: dict[str, Any], run: Path, seed: int
    ) -> None:
        """Continue from what `pack` gave on any number of ranks: bit for bit if it is the same number.

        On another number the ranks' random streams start anew, decided by the seed, the number and the step.

        Raises:
            UserError: if it is of another network than `run` needs.
            KeyError: if it lacks a part.
        """
        compare_threads(state["threads"], run)
        load_state(self.net, model, run)
        packed = unflatten_optimizer("optimizer", training, state["optimizer"])
        self.optimizer.load_state_dict(split_state(self.optimizer, packed))
        self.strategy.load_state_dict(_named("strategy.", training))
        self.progress = Progress(**state["progress"], **_named("sums.", training)).to(self.device)
        if self.summary is not None:
            found = _named("signs.", training)
            signs = {
                name: shards.split(found[name].to(self.device), like=now) for name, now in self.summary.signs.items()
            }
            self.summary = PosteriorSummary(self.summary.layers, self.summary.total, signs)
        if not set_random_states(training, self.device, self.world):
            self.world.seed(seed, self.world.size, self.progress.epoch, self.progress.batch)


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

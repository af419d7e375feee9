"""Strategies: what is done at the end of a task, and to a batch, so that earlier tasks are not forgotten.

A strategy is called at four points of any training loop and keeps its state in `state_dict` (tensors only):

    x, y = strategy.batch(x, y)                    # may add remembered examples
    (loss + strategy.penalty()).backward()         # may pull towards earlier parameters
    strategy.after_step(x_new, y_new)              # may remember the new examples
    strategy.after_task(net, train, outputs)       # may consolidate; needs the task's boundary
"""

import torch
from torch import Tensor, nn

from ..examples import Examples
from ..optim import BayesBiNN, NetworkOptimizer


class Strategy:
    """Does nothing: the base of the others, and naive fine-tuning."""

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """The examples of the next step, given the new ones: x (B, ...), y (B,)."""
        return x, y

    def penalty(self) -> Tensor | float:
        """A term of the loss, in nats per example."""
        return 0.0

    def after_step(self, x: Tensor, y: Tensor) -> None:
        """Called with the new examples once they have been learned."""

    def after_task(self, net: nn.Module, train: Examples, outputs: tuple[int, ...] | None) -> None:
        """Called when a task is over, with its training examples and the outputs that compete in it."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that must survive, as tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from `state_dict`."""


class Naive(Strategy):
    """Fine-tuning: each task simply follows the one before."""


class PosteriorToPrior(Strategy):
    """λ₀ ← strength · λ when a task is over: the posterior of the past is the prior of the future.

    Args:
        optimizer: holds the prior; a `BayesBiNN` or a `NetworkOptimizer`.
        strength: 1 is Bayes' rule; above 1 the past counts more than its own data.

    Source: Meng, Bachmann & Khan (2020), Sec. 3.4; Nguyen et al. (2018).

    >>> natural = torch.tensor([1.0, 20.0], requires_grad=True)
    >>> optimizer = BayesBiNN([natural], lr=0.1, num_data=1)
    >>> PosteriorToPrior(optimizer, strength=2.0).after_task(nn.Identity(), None, None)
    >>> optimizer.prior_of(natural).tolist()
    [2.0, 40.0]
    """

    def __init__(self, optimizer: BayesBiNN | NetworkOptimizer, strength: float = 1.0) -> None:
        self.optimizer, self.strength = optimizer, strength

    def after_task(self, net: nn.Module, train: Examples | None, outputs: tuple[int, ...] | None) -> None:
        self.optimizer.set_prior_to_posterior(self.strength)


class Replay(Strategy):
    """A small buffer of earlier examples, a uniform sample of everything seen so far, mixed into every batch.

    Boundary-free.  The buffer is filled by reservoir sampling: each of the n examples seen is in it with probability
    size/n.

    Args:
        size: examples in the buffer, at least 1.
        share: of a batch that is replayed, in (0, 1]: round(share · B) examples are added to the B new ones.
        seed: decides what is kept and what is drawn.

    Raises:
        ValueError: for a size or a share out of range.

    Source: Vitter (1985); Chaudhry et al. (2019).

    >>> replay = Replay(size=4, share=1.0)
    >>> replay.after_step(torch.zeros(2, 3), torch.tensor([5, 5]))
    >>> replay.batch(torch.ones(2, 3), torch.tensor([7, 7]))[1].tolist()
    [7, 7, 5, 5]
    """

    def __init__(self, size: int, share: float = 1.0, seed: int = 0) -> None:
        if size < 1:
            raise ValueError(f"the buffer must hold at least 1 example, got size {size}")
        if not 0.0 < share <= 1.0:
            raise ValueError(f"share must be in (0, 1], got {share}")
        self.size, self.share, self.seen = size, share, 0
        self.generator = torch.Generator().manual_seed(seed)
        self.x: Tensor | None = None
        self.y = torch.zeros(size, dtype=torch.long)

    def batch(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        count = round(self.share * len(y))
        if self.x is None or count == 0:
            return x, y
        chosen = torch.randint(min(self.seen, self.size), (count,), generator=self.generator)
        old = self.x[chosen].to(x.device, x.dtype), self.y[chosen].to(y.device)
        return torch.cat([x, old[0]]), torch.cat([y, old[1]])

    def after_step(self, x: Tensor, y: Tensor) -> None:
        if self.x is None:
            self.x = torch.zeros((self.size, *x.shape[1:]), dtype=x.dtype)
        # example number n (from 0) takes the place r ~ U{0, ..., n}, if there is one; while filling, its own
        numbers = torch.arange(self.seen, self.seen + len(y))
        places = (torch.rand(len(y), generator=self.generator, dtype=torch.float64) * (numbers + 1)).long()
        places = torch.where(numbers < self.size, numbers, places)
        for i in torch.nonzero(places < self.size).flatten().tolist():  # few, once the buffer is full; later ones win
            self.x[places[i]], self.y[places[i]] = x[i].cpu(), y[i].cpu()
        self.seen += len(y)

    def state_dict(self) -> dict[str, Tensor]:
        state = {"seen": torch.tensor(self.seen), "generator": self.generator.get_state(), "y": self.y}
        return state if self.x is None else {**state, "x": self.x}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.seen, self.y, self.x = int(state["seen"]), state["y"].clone(), state.get("x")
        self.x = None if self.x is None else self.x.clone()
        self.generator.set_state(state["generator"])

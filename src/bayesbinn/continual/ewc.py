"""Elastic weight consolidation: the rival for networks of real weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..examples import Examples
from ..nn.inputs import evaluating
from .heads import task_logits
from .strategies import Strategy


class EWC(Strategy):
    """Elastic weight consolidation: loss + ½ Σ_i Ω_i (θ_i − θ*_i)², Ω ← Ω + strength · F after each task.

    For networks of real weights.  F is the diagonal of the Fisher information, from `num_examples` training examples
    with labels drawn from the network's own prediction; θ* are the parameters after the latest task (the online form,
    one penalty for all earlier tasks).

    Args:
        net: its parameters are consolidated.
        strength: weight of one task's Fisher information, > 0; `num_data`-like (1 nat per example of mean loss).
        num_examples: examples for F.
        decay: factor on Ω before a new task's F is added; below 1 old tasks fade.
        seed: of the labels drawn.

    Raises:
        ValueError: for a value out of range, or a network that has nothing to learn.

    Source: Kirkpatrick et al. (2017); Huszár (2018); Schwarz et al. (2018).

    >>> net = nn.Linear(2, 2)
    >>> ewc = EWC(net, strength=1.0, num_examples=4)
    >>> ewc.after_task(net, Examples(torch.randn(4, 2), torch.tensor([0, 1, 0, 1])), None)
    >>> ewc.penalty().item()
    0.0
    """

    def __init__(
        self, net: nn.Module, strength: float, num_examples: int = 1000, decay: float = 1.0, seed: int = 0
    ) -> None:
        if not 0.0 < strength < float("inf"):
            raise ValueError(f"strength must be a finite number above 0, got {strength}")
        if num_examples < 1:
            raise ValueError(f"num_examples must be at least 1, got {num_examples}")
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay must be in [0, 1], got {decay}")
        self.params = {name: p for name, p in net.named_parameters() if p.requires_grad}
        if not self.params:
            raise ValueError("the network has no parameters that learn: there is nothing for EWC to hold")
        self.strength, self.num_examples, self.decay = strength, num_examples, decay
        self.generator = torch.Generator().manual_seed(seed)
        self.weights: dict[str, Tensor] = {}  # Ω
        self.anchors: dict[str, Tensor] = {}  # θ*

    def penalty(self) -> Tensor | float:
        if not self.weights:
            return 0.0
        terms = [(self.weights[n] * (p - self.anchors[n]).square()).sum() for n, p in self.params.items()]
        return 0.5 * torch.stack(terms).sum()

    def after_task(self, net: nn.Module, train: Examples, outputs: tuple[int, ...] | None) -> None:
        fisher = self._fisher(net, train, outputs)
        for name, p in self.params.items():
            before = self.weights.get(name, torch.zeros_like(p))
            self.weights[name] = self.decay * before + self.strength * fisher[name]
            self.anchors[name] = p.detach().clone()

    def _fisher(self, net: nn.Module, train: Examples, outputs: tuple[int, ...] | None) -> dict[str, Tensor]:
        """Mean of the squared gradients of log p(y|x), y ~ p(y|x), one example at a time."""
        count = min(self.num_examples, len(train))
        chosen = torch.randperm(len(train), generator=self.generator)[:count].to(train.y.device)
        total = {name: torch.zeros_like(p) for name, p in self.params.items()}
        like = next(iter(total.values()))  # the network's device and number format
        with evaluating(net):
            for i in chosen:
                logits = task_logits(net(train.x[i : i + 1].to(like)), outputs)
                label = torch.multinomial(logits.detach().softmax(-1).cpu(), 1, generator=self.generator)[:, 0]
                loss = F.cross_entropy(logits, label.to(logits.device))
                grads = torch.autograd.grad(loss, list(self.params.values()), allow_unused=True)
                for name, grad in zip(self.params, grads, strict=True):
                    if grad is not None:
                        total[name] += grad.square() / count
        return total

    def state_dict(self) -> dict[str, Tensor]:
        state = {f"weights.{name}": value for name, value in self.weights.items()}
        state |= {f"anchors.{name}": value for name, value in self.anchors.items()}
        return {**state, "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.generator.set_state(state["generator"])
        for kind, own in (("weights.", self.weights), ("anchors.", self.anchors)):
            own.clear()
            own |= {n: state[kind + n].clone().to(p.device) for n, p in self.params.items() if kind + n in state}

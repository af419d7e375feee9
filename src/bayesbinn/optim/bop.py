"""Flip a weight when the moving average of its gradient says so: no latent real weight at all."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .. import bernoulli
from .base import Ranges, Rule


class Bop(Rule):
    """m ← (1 − γ) m + γ g, with g = ∂loss/∂w; then w ← −w where |m| > threshold and sign m = sign w.

    Changes step 3 of the frame (and makes step 1 trivial): λ only carries the sign of the weight.  The first step sets
    it to ±1, later ones negate it, so the two conditions are the one inequality m · λ > threshold.  Pair it with
    `SignSTE(clip=float("inf"))`, whose gradient is g itself.

    Args:
        params: the λ tensors (`split_parameters(net)[0]`), or parameter groups; every option below can differ
            between groups and be scheduled.
        gamma: γ in [0, 1], the share of m that each gradient replaces.  The authors decay it during training.
        threshold: at least 0, in units of the gradient; larger means fewer flips.
        lr: a factor on γ with lr · γ ≤ 1, for torch's schedulers, which decay an option of this name.

    Raises:
        ValueError: for a value outside the ranges above.

    Source: Helwegen et al. (2019), Algorithm 1.

    >>> natural = torch.tensor([1.0, 1.0, -1.0], requires_grad=True)
    >>> optimizer = Bop([natural], gamma=0.5, threshold=0.1)
    >>> natural.grad = torch.tensor([0.4, 0.1, 0.4])  # m is 0.2, 0.05, 0.2
    >>> optimizer.step()
    >>> natural.tolist()
    [-1.0, 1.0, -1.0]
    """

    def __init__(self, params: Iterable[Any], gamma: float = 1e-4, *, threshold: float = 1e-8, lr: float = 1.0) -> None:
        super().__init__(params, {"gamma": gamma, "threshold": threshold, "lr": lr})

    def _ranges(self, group: dict[str, Any]) -> Ranges:
        return {
            "gamma": (0.0 <= group["gamma"] <= 1.0, "in [0, 1]"),
            "threshold": (0.0 <= group["threshold"] < float("inf"), "a finite number of at least 0"),
            "lr": (0.0 <= group["lr"] * group["gamma"] <= 1.0, "at least 0, with lr · gamma ≤ 1"),
        }

    def _update(self, group: dict[str, Any], natural: Tensor, grad: Tensor) -> None:
        state = self.state[natural]
        if not state:
            natural.copy_(bernoulli.sign(natural))
            state["momentum"] = torch.zeros_like(natural, memory_format=torch.preserve_format)
        momentum = state["momentum"].lerp_(grad, group["lr"] * group["gamma"])
        natural.copy_(torch.where(momentum * natural > group["threshold"], -natural, natural))

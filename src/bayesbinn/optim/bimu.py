"""Bayesian learning with a memory window that needs no task boundaries: BiMU."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from .. import bernoulli
from .base import Ranges, Rule, replace_


class BiMU(Rule):
    """λ ← λ − η (lr·a·g + k λ/window), a metaplastic rule that forgets towards λ = 0.

    Changes step 3 of the frame.  With g = ∂ℓ/∂λ, the gains a (`gradient_gain`) and c (`kl_gain`), and μ = tanh λ:

        k = c (1 − μ²),    1/η = k + 2 a g μ + 2 a |g| + 1/max_step

    A decided weight (μ near ±1) moves little, and less towards 0 (g μ > 0) than away from it; the pull k λ/window lets
    evidence older than about `window` steps fade, so that λ does not saturate however long the stream.

    The binarizers leave the gradient in μ in `.grad`; the chain rule dμ/dλ = 1 − μ² makes it g here.

    Args:
        params: the λ tensors, or parameter groups; every option can differ between groups and be scheduled.
        lr: scale of the gradient term, ≥ 0.
        window: memory in steps, > 0; `float("inf")` never forgets.
        gradient_gain: a > 0, as large as gradients are small; about the number of examples behind ℓ.
        kl_gain: c > 0.
        max_step: bound on η, > 0.

    Raises:
        ValueError: for a value outside the ranges above.

    Source: Cottart et al. (2026), BiMU; metaplasticity: Laborieux et al. (2021).

    >>> import torch
    >>> natural = torch.zeros(2, requires_grad=True)
    >>> optimizer = BiMU([natural], lr=1.0, window=100.0, max_step=1.0)
    >>> natural.grad = torch.tensor([0.5, -0.5])
    >>> optimizer.step()
    >>> natural.tolist()  # η = 1/(1 + 0 + 1 + 1)
    [-0.1666666716337204, 0.1666666716337204]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        window: float,
        gradient_gain: float = 1.0,
        kl_gain: float = 1.0,
        max_step: float = 1.0,
    ) -> None:
        defaults = {
            "lr": lr,
            "window": window,
            "gradient_gain": gradient_gain,
            "kl_gain": kl_gain,
            "max_step": max_step,
        }
        super().__init__(params, defaults)

    def _ranges(self, group: dict[str, Any]) -> Ranges:
        inf = float("inf")
        positive = {
            name: (group[name] > 0.0 and (name == "window" or group[name] < inf), "a finite number above 0")
            for name in ("window", "gradient_gain", "kl_gain", "max_step")
        }
        return {"lr": (0.0 <= group["lr"] < inf, "a finite number of at least 0"), **positive}

    def _update(self, group: dict[str, Any], natural: Tensor, grad: Tensor) -> None:
        wide = bernoulli.wide(natural)
        mean, variance = bernoulli.mean(wide), bernoulli.variance(wide)
        gradient = group["gradient_gain"] * variance * grad
        k = group["kl_gain"] * variance
        rate: Tensor = 1 / (k + 2 * gradient * mean + 2 * gradient.abs() + 1 / group["max_step"])
        replace_(natural, wide - rate * (group["lr"] * gradient + k * wide / group["window"]))

"""The adaptive straight-through estimator: a double well around ±1, and a gradient that looks into the other well."""

from typing import Any

import torch
from torch import Tensor

from .. import bernoulli
from .base import Binarizer, positive


class _ScaledByDirection(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(natural: Tensor, weight: Tensor, inward: Tensor, outward: Tensor, small: float) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        natural, _, inward, outward, ctx.small = inputs
        ctx.save_for_backward(natural, inward, outward)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        natural, inward, outward = ctx.saved_tensors
        (grad,) = grads
        # descent moves against the gradient: equal signs drive λ toward 0, and the weight toward a flip
        scale = torch.where(bernoulli.sign(natural) * grad > 0, inward, outward)
        if ctx.small > 0:
            scale = scale.masked_fill(grad.abs() <= ctx.small, 1.0)
        return grad * scale, None, None, None, None


class AdaSTE(Binarizer):
    """w = clamp((λ + β(1 + α) sign λ)/(1 + β), −1, 1); the gradient depends on where it drives the weight.

    w is the minimiser in [−1, 1] of ½(w − λ)² + ½β(|w| − 1 − α)²: a double well of strength β that pulls the weight to
    ±1, fully for β ≥ 1/α.  With g = ∂loss/∂w the gradient is the change of the minimiser under a step of λ along −g:

        outward, λ g ≤ 0:  g · dw/dλ, which is g / (1 + β) where |w| < 1, and 0 where w = ±1
        inward,  λ g > 0:  g · min(½, |w − w₀|/|λ|), the difference quotient over the shortest step that flips the
                           weight, to w₀ = −sign λ · min(1, β(1 + α)/(1 + β)), the minimiser just across 0

    Changes steps 1 and 2 of the frame.  The cap ½ is the authors'.  Their code also passes gradients up to 1e−3 on
    without this rule; `small=1e-3` does that, which matters late in training, but the result then depends on how the
    loss is scaled (accumulation, `GradScaler`).  In |w − w₀| it has −λ in place of λ where |w| < 1, and 1 in place of
    2 for β ≥ 1/α; here it is the difference.

    Args:
        beta: β > 0; the authors start at 0.01 and multiply it by 1.05 every epoch.
        alpha: α ≥ 0, how far the wells lie beyond ±1.
        small: gradients up to this size pass unchanged, in the units of the loss as it is scaled.

    Raises:
        ValueError: for a beta that is not above 0, or an alpha or small below 0.

    Source: Le, Høier, Lin & Zach (2022), and the code they published.

    >>> natural = torch.tensor([5.0, -5.0, -0.5], requires_grad=True)
    >>> AdaSTE(beta=1.0, alpha=0.0).binarize(natural).sum().backward()
    >>> natural.grad  # inward: (1 + ½)/5; outward at w = −1, and inside
    tensor([0.3000, 0.0000, 0.5000])
    """

    has_posterior = False

    def __init__(self, beta: float = 0.01, alpha: float = 0.01, small: float = 0.0) -> None:
        super().__init__()
        self.beta = positive("beta", beta)
        for name, value in (("alpha", alpha), ("small", small)):
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
        self.alpha = float(alpha)
        self.small = float(small)

    def binarize(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            pull = self.beta * (1 + self.alpha)
            magnitude = ((natural.abs() + pull) / (1 + self.beta)).clamp(max=1)  # |w|
            across = min(1.0, pull / (1 + self.beta))  # |w₀|
            inward = ((magnitude + across) / natural.abs()).clamp(max=0.5)
            outward = (magnitude < 1) / torch.full_like(natural, 1 + self.beta)
            weight = bernoulli.sign(natural) * magnitude
        apply: Any = _ScaledByDirection.apply
        out: Tensor = apply(natural, weight, inward, outward, self.small)
        return out

"""The adaptive straight-through estimator: a double well around ±1, and a gradient that helps flips only."""

from typing import Any

import torch
from torch import Tensor

from .. import bernoulli
from .base import Binarizer, positive


class _AdaptiveStraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, natural: Tensor, weight: Tensor, small: float) -> Tensor:
        ctx.save_for_backward(natural)
        ctx.small = small
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (natural,) = ctx.saved_tensors
        (grad,) = grads
        toward_flip = natural * grad > 0  # descent moves against the gradient
        scale = torch.where(toward_flip, natural.abs().reciprocal().clamp(max=0.5), 0.0)
        unchanged = (natural == 0) | (grad.abs() <= ctx.small)
        return torch.where(unchanged, grad, grad * scale), None, None


class AdaSTE(Binarizer):
    """w = clamp((λ + β(1 + α) sign λ)/(1 + β), −1, 1); the gradient depends on where it drives the weight.

    w is the minimiser in [−1, 1] of ½(w − λ)² + ½β(|w| − 1 − α)²: a double well of strength β that pulls the weight to
    ±1, fully for β ≥ 1/α.  The gradient stands for the change of this minimiser under a finite step along g = ∂loss/∂w:

        g · min(½, 1/|λ|)   where descent drives λ toward 0 and the weight toward a flip (λ g > 0)
        0                   where it drives λ further out (λ g < 0)
        g                   where λ = 0 or |g| ≤ `small`

    1/|λ| is the difference quotient between λ and its mirror image −λ at a saturated weight.  This is the rule of the
    authors' published code, which pairs it with momentum and with decay of λ toward 0; as there, `small` is in absolute
    units of the gradient, so that it matters how the loss is scaled.  Changes steps 1 and 2 of the frame.

    Args:
        beta: β > 0; the authors start at 0.01 and multiply it by 1.05 every epoch.
        alpha: α ≥ 0, how far the wells lie beyond ±1.
        small: gradients up to this size pass unchanged; 0 applies the rule to all.

    Raises:
        ValueError: for a beta that is not above 0, or an alpha or small below 0.

    Source: Le, Høier, Lin & Zach (2022), and their code.

    >>> natural = torch.tensor([4.0, -4.0, 1.0], requires_grad=True)
    >>> AdaSTE().binarize(natural).sum().backward()
    >>> natural.grad
    tensor([0.2500, 0.0000, 0.5000])
    """

    has_posterior = False

    def __init__(self, beta: float = 0.01, alpha: float = 0.01, small: float = 1e-3) -> None:
        super().__init__()
        self.beta = positive("beta", beta)
        for name, value in (("alpha", alpha), ("small", small)):
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
        self.alpha = float(alpha)
        self.small = float(small)

    def binarize(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            pull = self.beta * (1 + self.alpha) * bernoulli.sign(natural)
            weight = ((natural + pull) / (1 + self.beta)).clamp(-1, 1)
        out: Tensor = _AdaptiveStraightThrough.apply(natural, weight, self.small)  # type: ignore[no-untyped-call]
        return out

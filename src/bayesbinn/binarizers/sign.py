"""The deterministic straight-through estimator (no posterior)."""

from typing import Any

import torch
from torch import Tensor

from .. import bernoulli
from .base import Binarizer


class _ClippedStraightThrough(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(natural: Tensor, clip: float) -> Tensor:
        return bernoulli.sign(natural)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        natural, ctx.clip = inputs
        ctx.save_for_backward(natural)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[no-untyped-def]
        (natural,) = ctx.saved_tensors
        # descent moves against the gradient: opposite signs drive |λ| further out
        outward = (natural.abs() > ctx.clip) & (natural * grad < 0)
        return grad.masked_fill(outward, 0.0), None


class SignSTE(Binarizer):
    """w = sign(λ); gradient g where |λ| ≤ clip, beyond it only if it drives λ back.

    The `ste` step 1 and 2 of the frame.  Dropping the outward gradient beyond `clip` is projected descent on
    [−clip, clip]: it has the fixed points of clipping the latent weight after each step, without a hook into the
    optimizer.

    Args:
        clip: bound on |λ|, above 0; `float("inf")` turns clipping off.

    Raises:
        ValueError: for a clip that is not above 0.

    Source: Hinton (2012); Bengio et al. (2013); Courbariaux, Bengio & David (2015), who clip the latent weight.

    >>> natural = torch.tensor([-2.0, 0.5], requires_grad=True)
    >>> weight = SignSTE().binarize(natural)
    >>> weight.sum().backward()  # descent would drive -2 further out
    >>> weight.tolist(), natural.grad.tolist()
    ([-1.0, 1.0], [0.0, 1.0])
    """

    has_posterior = False

    def __init__(self, clip: float = 1.0) -> None:
        super().__init__()
        if not clip > 0:
            raise ValueError(f"clip must be above 0, got {clip}")
        self.clip = float(clip)

    def binarize(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        out: Tensor = _ClippedStraightThrough.apply(natural, self.clip)  # type: ignore[no-untyped-call]
        return out

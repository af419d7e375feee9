"""What a binarizer is: step 1 of the frame (latent → weight) together with its gradient rule."""

from typing import Any, Protocol

import torch
from torch import Tensor


class Op(Protocol):
    """The linear map of a layer with a given weight, before its scale and bias."""

    def __call__(self, x: Tensor, weight: Tensor) -> Tensor: ...


class Binarizer:
    """Turns the latent parameter λ into the weight a layer computes with, and says how the gradient comes back.

    A layer calls `binarizer(op, x, natural)` in training, where `op(x, weight)` is its linear map; what `backward`
    leaves in `natural.grad` is what the paired optimizer expects (for the Bayesian rule: an estimate of ∂loss/∂μ).
    A subclass implements `binarize`, or overrides `__call__` when it does not work through a weight.

    Attributes:
        has_posterior: True when λ parametrises a distribution, so that drawing weights from it means something.
        generator: source of randomness; None is torch's global generator, the only one that activation checkpointing
            and `torch.compile` can replay.
    """

    has_posterior = True

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def binarize(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        """The weight for this forward pass, of the shape of `natural` and differentiable in it.

        Args:
            natural: λ, any shape.
            noise: δ of the same shape in place of a random draw.
        """
        raise NotImplementedError

    def __call__(self, op: Op, x: Tensor, natural: Tensor) -> Tensor:
        return op(x, self.binarize(natural))

    def __repr__(self) -> str:
        settings = (f"{k}={v!r}" for k, v in vars(self).items() if k != "generator")
        return f"{type(self).__name__}({', '.join(settings)})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # settings can be scheduled, so a binarizer is mutable


class _WithGradient(torch.autograd.Function):
    generate_vmap_rule = True  # with setup_context, what torch.func needs

    @staticmethod
    def forward(natural: Tensor, weight: Tensor, scale: Tensor | None) -> Tensor:
        return weight.view_as(weight)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (scale,) = ctx.saved_tensors
        (grad,) = grads
        return grad if scale is None else grad * scale, None, None


def with_gradient(natural: Tensor, weight: Tensor, scale: Tensor | None = None) -> Tensor:
    """`weight` in the forward pass; in the backward pass `natural` receives ∂loss/∂weight · `scale` (None: 1)."""
    out: Tensor = _WithGradient.apply(natural, weight, scale)  # type: ignore[no-untyped-call]
    return out


def positive(name: str, value: float) -> float:
    """`value` as a float.

    Raises:
        ValueError: naming the setting, unless it is a finite number above 0.
    """
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name} must be a finite number above 0, got {value}")
    return float(value)

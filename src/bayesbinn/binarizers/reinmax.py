"""A hard Bernoulli draw with the second-order straight-through gradient."""

import torch
from torch import Tensor

from .. import bernoulli
from .base import Binarizer, with_gradient


class ReinMax(Binarizer):
    """w = sign(λ + δ), an exact draw from q; gradient ĝ_μ = g / (2 q(w)), with q(w) = σ(2λw).

    Changes step 2 of the frame.  For one weight, ∂E[ℓ]/∂μ = ½ (ℓ(+1) − ℓ(−1)) is half the integral of ∂ℓ/∂w from −1
    to +1, and the trapezoidal (Heun's) rule replaces it by ½ (g(−1) + g(+1)); dividing g by 2 q(w) estimates that sum
    from the one end that was drawn.  So it is unbiased when the loss is quadratic in each weight, where
    `StraightThroughSample` needs a linear one.  The price is variance: the factor is (1 + exp(∓2λ))/2, large for the
    improbable sign of a decided weight.

    Source: Liu, Dong, Liu, Yu & Gao (2023); this is their estimator for two categories, written in μ.

    >>> natural = torch.tensor([0.0, 0.0], requires_grad=True)
    >>> ReinMax().binarize(natural, noise=torch.tensor([-1.0, 1.0])).sum().backward()
    >>> natural.grad  # an undecided weight: 2 q(w) = 1
    tensor([1., 1.])
    """

    def binarize(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            weight = bernoulli.sample(natural, noise, self.generator)
            scale = (1 + torch.exp(-2 * natural * weight)) / 2
        return with_gradient(natural, weight, scale)

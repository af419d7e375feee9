"""A hard Bernoulli draw with the straight-through gradient: the default."""

import torch
from torch import Tensor

from .. import bernoulli
from .base import Binarizer, with_gradient


class StraightThroughSample(Binarizer):
    """w = sign(λ + δ), an exact draw from q; gradient ĝ_μ = g = ∂loss/∂w.

    Changes step 1 of the frame.  Since E[w] = μ, moving μ moves w one for one on average; the estimate is exact when
    the loss is linear in each weight along the segment from −1 to +1, and has low variance always.

    Source: Bengio, Léonard & Courville (2013), applied to the mean parameter of Meng, Bachmann & Khan (2020).

    >>> natural = torch.tensor([-9.0, 9.0], requires_grad=True)
    >>> weight = StraightThroughSample().binarize(natural, noise=torch.zeros(2))
    >>> (weight * torch.tensor([2.0, 3.0])).sum().backward()
    >>> weight.tolist(), natural.grad.tolist()
    ([-1.0, 1.0], [2.0, 3.0])
    """

    def binarize(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            weight = bernoulli.sample(natural, noise, self.generator)
        return with_gradient(natural, weight)

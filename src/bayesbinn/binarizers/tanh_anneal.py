"""A soft weight that hardens as training goes on: proximal mean-field, and its mirror-descent form."""

import torch
from torch import Tensor

from .base import Binarizer, positive, with_gradient


class TanhAnneal(Binarizer):
    """w = tanh(βλ), where a schedule raises β until the weights are ±1 (no posterior, no noise).

    * `mirror=False`, proximal mean-field (`pmf`): the ordinary gradient, g · β (1 − w²).
    * `mirror=True`, stable mirror descent (`md-tanh`): λ receives g = ∂loss/∂w itself, as the dual variable of w.
      At β = 1, with plain descent, it is the Bayesian rule at the mean weight, without noise and KL.

    Changes steps 1 and 2 of the frame.  Training is over only when β is so large that tanh(βλ) ≈ sign λ: evaluation
    uses sign λ whatever β is.

    Args:
        beta: β > 0; the authors multiply it by a constant every epoch or few hundred steps.
        mirror: which gradient.

    Raises:
        ValueError: for a beta that is not above 0.

    Source: Ajanthan et al. (2019), PMF; Ajanthan et al. (2021), MD-tanh-S.

    >>> for mirror in (False, True):
    ...     natural = torch.tensor([0.0, 9.0], requires_grad=True)
    ...     weight = TanhAnneal(beta=2.0, mirror=mirror).binarize(natural)
    ...     weight.sum().backward()
    ...     weight.tolist(), natural.grad.tolist()
    ([0.0, 1.0], [2.0, 0.0])
    ([0.0, 1.0], [1.0, 1.0])
    """

    has_posterior = False

    def __init__(self, beta: float = 1.0, mirror: bool = False) -> None:
        super().__init__()
        self.beta = positive("beta", beta)
        self.mirror = mirror

    def binarize(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        if self.mirror:
            return with_gradient(natural, torch.tanh(self.beta * natural.detach()))
        return torch.tanh(self.beta * natural)

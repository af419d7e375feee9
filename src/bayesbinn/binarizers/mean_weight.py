"""No draw at all: the weight is the posterior mean, which hardens as the posterior cools."""

from torch import Tensor

from .. import bernoulli
from .base import Binarizer, with_gradient


class MeanWeight(Binarizer):
    """w = μ = tanh λ, the mean of q; gradient ĝ_μ = g = ∂loss/∂w at it.

    Changes steps 1 and 2 of the frame: the delta method, E_q[ℓ(w)] ≈ ℓ(E_q[w]), in place of a draw.  Without noise, and
    with real-valued weights for as long as the posterior is warm, a network that can barely fit its data learns
    faster; ±1 is reached only when the posterior is cold, so cool it over the run (`BayesBiNN.temper_`).  λ stays
    the natural parameter of q: drawing from it afterwards means what it always does.

    Source: Khan & Rue (2023), the delta method in the Bayesian learning rule; for binary weights the forward pass is
    that of Ajanthan et al. (2021).

    >>> import torch
    >>> natural = torch.tensor([0.0, 20.0], requires_grad=True)
    >>> weight = MeanWeight().binarize(natural)
    >>> (weight * torch.tensor([2.0, 3.0])).sum().backward()
    >>> weight.tolist(), natural.grad.tolist()
    ([0.0, 1.0], [2.0, 3.0])
    """

    def binarize(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        return with_gradient(natural, bernoulli.mean(natural.detach()))

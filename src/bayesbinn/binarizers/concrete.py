"""The paper's binary concrete relaxation: exact, and as the 2020 code computed it."""

import math

import torch
from torch import Tensor

from .. import bernoulli
from .base import Binarizer, positive, with_gradient


class Concrete(Binarizer):
    """w_r = tanh((λ + δ)/τ); gradient ĝ_μ = g · s with s = (1 − w_r²) / (τ (1 − μ²)).

    Changes step 1 of the frame.  s is computed in the log domain, so it is exact in float32 at any λ.  As τ → 0 the
    draw becomes ±1 and s almost surely 0 (with rare huge values): use `StraightThroughSample` for small τ.

    Args:
        temperature: τ > 0.
        generator: source of δ.

    Raises:
        ValueError: for a temperature that is not above 0.

    Source: Meng, Bachmann & Khan (2020), Eqs. 7 and 9; Maddison et al. (2017).

    >>> Concrete(temperature=1.0).binarize(torch.zeros(2), noise=torch.zeros(2))
    tensor([0., 0.])
    """

    def __init__(self, temperature: float = 1.0, generator: torch.Generator | None = None) -> None:
        super().__init__(generator)
        self.temperature = positive("temperature", temperature)

    def binarize(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            noise = bernoulli.logistic_noise(natural, self.generator) if noise is None else noise
            weight = bernoulli.relaxed_sample(natural, self.temperature, noise)
            log_scale = bernoulli.log_variance((natural + noise) / self.temperature) - bernoulli.log_variance(natural)
            scale = torch.exp(log_scale - math.log(self.temperature))
        return with_gradient(natural, weight, scale)


class Reference2020(Concrete):
    """The relaxation with the scale of the code published in 2020: s = (1 − w_r² + ε) / (τ (1 − μ² + ε)), ε = 1e−10.

    For rerunning the published configurations.  At their τ = 1e−10 the formula does not estimate ∂loss/∂μ: both
    differences cancel in floating point, s becomes 1/(1 − μ² + ε), and λ saturates, so that every draw equals the
    mode.  Prefer `Concrete` or `StraightThroughSample` for everything else.

    >>> natural = torch.tensor([10.0], requires_grad=True)
    >>> Reference2020(temperature=1e-10).binarize(natural, noise=torch.zeros(1)).sum().backward()
    >>> f"{natural.grad.item():.0e}"
    '1e+10'
    """

    epsilon = 1e-10

    def binarize(self, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            weight = bernoulli.relaxed_sample(natural, self.temperature, noise, self.generator)
            mean = bernoulli.mean(natural)
            scale = (1 - weight * weight + self.epsilon) / self.temperature / (1 - mean * mean + self.epsilon)
        return with_gradient(natural, weight, scale)

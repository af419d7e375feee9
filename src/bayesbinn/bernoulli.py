"""The Bernoulli family over weights w in {-1, +1}, in its natural parameter.

With λ = `natural`, every quantity of the family is a short function of λ (Meng, Bachmann & Khan, 2020, Sec. 3.1):

    p = P(w = +1) = σ(2λ)        μ = E[w] = tanh λ        Var[w] = 1 − μ² = sech² λ

All functions are element-wise on tensors of any shape, keep the dtype, and are differentiable.  They work in the log
domain, so they stay exact for |λ| up to 1e4 in float32, where `1 - tanh(λ)**2` has long cancelled to 0.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

from . import _ops


def wide(natural: Tensor) -> Tensor:
    """λ in at least float32: what its functions need when λ is kept in half precision.

    >>> wide(torch.zeros(2, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return natural.to(torch.promote_types(natural.dtype, torch.float32))


def mean(natural: Tensor) -> Tensor:
    """Mean parameter μ = E[w] = tanh λ, same shape as `natural`.

    >>> mean(torch.tensor([0.0, 20.0]))
    tensor([0., 1.])
    """
    return torch.tanh(natural)


def prob(natural: Tensor) -> Tensor:
    """Probability p = P(w = +1) = σ(2λ), same shape as `natural`.

    >>> prob(torch.tensor([0.0, 20.0]))
    tensor([0.5000, 1.0000])
    """
    return torch.sigmoid(2 * natural)


def log_variance(natural: Tensor) -> Tensor:
    """log Var[w] = log(1 − μ²) = log 4 + log p + log(1 − p), without cancellation.

    >>> log_variance(torch.tensor([0.0, 100.0]))
    tensor([   0.0000, -198.6137])
    """
    return math.log(4.0) + logsigmoid(2 * natural) + logsigmoid(-2 * natural)


def variance(natural: Tensor) -> Tensor:
    """Variance Var[w] = 1 − μ² = 4p(1 − p), which is also the Fisher information of λ.

    >>> variance(torch.tensor([0.0, 20.0]))
    tensor([1.0000e+00, 1.6993e-17])
    """
    return 4 * torch.sigmoid(2 * natural) * torch.sigmoid(-2 * natural)


def entropy(natural: Tensor) -> Tensor:
    """Entropy H = −p log p − (1 − p) log(1 − p) per weight, in nats (at most log 2).

    >>> entropy(torch.tensor([0.0, 100.0]))
    tensor([0.6931, 0.0000])
    """
    gap = 2 * natural.abs()  # |logit p|; H is even in λ, and this side has no cancellation
    return softplus(-gap) + gap * torch.sigmoid(-gap)


def kl_divergence(natural: Tensor, prior: Tensor | float = 0.0) -> Tensor:
    """KL(q‖q₀) = p log(p/p₀) + (1 − p) log((1 − p)/(1 − p₀)) per weight, in nats.

    Equal to μ(λ − λ₀) − log cosh λ + log cosh λ₀ (Meng et al., 2020, Sec. 3.1), in a form that keeps its digits when
    both distributions are nearly certain.

    Args:
        natural: λ of q, any shape.
        prior: λ₀ of q₀, broadcastable to `natural`; 0 is the uniform prior.

    >>> kl_divergence(torch.tensor([0.0, 50.0]))
    tensor([0.0000, 0.6931])
    """
    prior = torch.as_tensor(prior, dtype=natural.dtype, device=natural.device)
    plus = torch.sigmoid(2 * natural) * (logsigmoid(2 * natural) - logsigmoid(2 * prior))
    minus = torch.sigmoid(-2 * natural) * (logsigmoid(-2 * natural) - logsigmoid(-2 * prior))
    return (plus + minus).clamp(min=0)


def sign(x: Tensor) -> Tensor:
    """The sign of x as −1 or +1, never 0: sign(0) = +1, as bit 1 stands for +1.

    >>> sign(torch.tensor([-2.0, 0.0, 3.0]))
    tensor([-1.,  1.,  1.])
    """
    return (x >= 0).to(x.dtype).mul_(2).sub_(1)


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    # half precision has too few values in [0, 1) for exact probabilities
    dtype = like.dtype if like.dtype == torch.float64 else torch.float32
    return torch.rand(like.shape, dtype=dtype, device=like.device, generator=generator)


def logistic_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Noise δ = ½ log(u / (1 − u)) with u ~ U(0, 1), of the shape, dtype and device of `like`.

    sign(λ + δ) is an exact draw from Bernoulli(σ(2λ)) on {−1, +1} (Maddison et al., 2017; Meng et al., 2020, Eq. 7).

    >>> logistic_noise(torch.zeros(2, 3)).shape
    torch.Size([2, 3])
    """
    u = _uniform(like, generator)
    # rand() can return 0 exactly; half a unit in its last place keeps δ finite without moving any other value
    return torch.logit(u.clamp_(min=torch.finfo(u.dtype).eps / 4)).mul_(0.5).to(like.dtype)


def sample(natural: Tensor, noise: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
    """Draw w = sign(λ + δ): exactly ±1, with P(w = +1) = σ(2λ).

    Without `noise` the draw compares the chance of w ≠ sign λ, to 2⁻³¹, with a counter-based random number, seeded by
    one integer from the generator: the same weights on any device and any number of threads (docs/design/draw.md).

    Args:
        natural: λ, any shape.
        noise: δ of the same shape, to make the draw repeatable; drawn from `generator` if None.
        generator: source of δ; torch's global generator if None.

    >>> sample(torch.tensor([-9.0, 9.0]), noise=torch.zeros(2))
    tensor([-1.,  1.])
    """
    if noise is not None:
        return sign(natural + noise)
    natural = natural.detach()
    return _ops.draw(natural, _ops.new_seed(generator, natural.device), natural.dtype)


def relaxed_sample(
    natural: Tensor, temperature: float, noise: Tensor | None = None, generator: torch.Generator | None = None
) -> Tensor:
    """Draw w_r = tanh((λ + δ)/τ) in (−1, 1), the binary concrete relaxation; τ → 0 gives `sample`.

    Source: Maddison et al. (2017); Meng et al. (2020), Eq. 7.  Arguments as in `sample`; `temperature` τ > 0.

    >>> relaxed_sample(torch.tensor([0.0, 9.0]), temperature=1.0, noise=torch.zeros(2))
    tensor([0.0000, 1.0000])
    """
    noise = logistic_noise(natural, generator) if noise is None else noise
    return torch.tanh((natural + noise) / temperature)

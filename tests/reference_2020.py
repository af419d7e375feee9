"""One step of the rule as the authors' 2020 code computes it, written out from its formulas: slow and obvious.

All in float32, one parameter at a time, with the noise δ given:

    w_r = tanh((λ + δ)/τ)                                        g = ∂loss/∂w at w_r
    s   = (1 − w_r² + 1e-10) / τ / (1 − μ² + 1e-10),  μ = tanh λ
    m   ← β m + (1 − β) (N s g + k (λ − λ₀))
    λ   ← λ − lr · m / (1 − βᵗ)
"""

import torch

EPSILON = 1e-10


def step(naturals, moments, loss_of_weights, noises, t, *, lr, num_data, kl_weight, momentum, prior, temperature):
    """New (λ, m) lists after step t = 1, 2, ...; `loss_of_weights(list of w)` is the mini-batch mean loss."""
    weights = [torch.tanh((lam + delta) / temperature) for lam, delta in zip(naturals, noises, strict=True)]
    leaves = [w.clone().requires_grad_() for w in weights]
    grads = torch.autograd.grad(loss_of_weights(leaves), leaves)
    new_naturals, new_moments = [], []
    for lam, m, w, g in zip(naturals, moments, weights, grads, strict=True):
        mu = torch.tanh(lam)
        s = (1 - w**2 + EPSILON) / temperature / (1 - mu**2 + EPSILON)
        m = momentum * m + (1 - momentum) * (num_data * s * g + kl_weight * (lam - prior))
        new_moments.append(m)
        new_naturals.append(lam - lr * m / (1 - momentum**t))
    return new_naturals, new_moments

"""The mean of each gradient estimator against the enumerated ∂E[ℓ]/∂μ: unbiased where the theory says so.

A Monte-Carlo mean is compared within five standard errors; `biased` cases must lie outside, so that the test has power.
How large the others' bias is stands in docs/estimators.md.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bayesbinn import bernoulli
from bayesbinn.binarizers import Concrete, MeanWeight, StraightThroughSample
from tests.exact.tiny import Tiny

NUM_DRAWS = 3000


class Chain(nn.Module):
    """A deep linear network: its output is linear in each single weight (multilinear), not in all of them together."""

    def __init__(self, width=2):
        super().__init__()
        self.first = nn.Linear(2, width, bias=False)
        self.second = nn.Linear(width, width, bias=False)
        self.last = nn.Linear(width, 1, bias=False)

    def forward(self, x):
        return self.last(self.second(self.first(x)))


def signed_output(tiny, logits):
    """A loss that is linear in the output: −mean of (2y − 1) · f(x)."""
    return -((2 * tiny.y - 1) * logits).mean((-2, -1))


def mean_and_error(tiny, loss, num_draws=NUM_DRAWS):
    """Mean of the estimate over real forward and backward passes, and its standard error, both (n,)."""
    torch.manual_seed(1)
    tiny.net.train()
    estimates = []
    for _ in range(num_draws):
        tiny.net.zero_grad()
        loss(tiny.net(tiny.x)).backward()
        estimates.append(tiny.grad)
    estimates = torch.stack(estimates)
    return estimates.mean(0), estimates.std(0) / num_draws**0.5


def deviation(tiny, loss, exact):
    """Largest deviation from `exact` in standard errors."""
    mean, error = mean_and_error(tiny, loss)
    return ((mean - exact).abs() / error.clamp(min=1e-12)).max()


@pytest.mark.parametrize("spread", [0.3, 0.7, 2.0])
def test_straight_through_is_unbiased_for_a_multilinear_loss(spread):
    tiny = Tiny(Chain(), spread, StraightThroughSample())
    exact = tiny.exact_gradient(signed_output(tiny, tiny.outputs()))
    assert exact.norm() > 1e-4
    assert deviation(tiny, lambda out: signed_output(tiny, out), exact) < 5


def test_straight_through_is_exact_for_a_linear_loss():
    """One linear layer, linear loss: no variance either, every draw gives the gradient."""
    tiny = Tiny(nn.Sequential(nn.Linear(2, 1, bias=False)), 1.0, StraightThroughSample())
    exact = tiny.exact_gradient(signed_output(tiny, tiny.outputs()))
    mean, error = mean_and_error(tiny, lambda out: signed_output(tiny, out), num_draws=10)
    torch.testing.assert_close(mean, exact)
    assert error.max() < 1e-12


@pytest.mark.parametrize("spread", [0.3, 0.7, 2.0])
def test_the_mean_weight_is_exact_for_a_multilinear_loss(spread):
    """With independent weights E[ℓ(w)] = ℓ(E[w]) then: the delta method leaves nothing out, and has no variance."""
    tiny = Tiny(Chain(), spread, MeanWeight())
    exact = tiny.exact_gradient(signed_output(tiny, tiny.outputs()))
    mean, error = mean_and_error(tiny, lambda out: signed_output(tiny, out), num_draws=3)
    torch.testing.assert_close(mean, exact)
    assert error.max() < 1e-12


def test_the_mean_weight_is_biased_for_the_logistic_loss():
    tiny = Tiny(Chain(), 0.3, MeanWeight())
    exact = tiny.exact_gradient(F.softplus(-(2 * tiny.y - 1) * tiny.outputs()).mean((-2, -1)))
    mean, _ = mean_and_error(tiny, lambda out: F.softplus(-(2 * tiny.y - 1) * out).mean(), num_draws=2)
    assert (mean - exact).norm() > 0.01 * exact.norm()


def test_straight_through_is_biased_when_the_loss_bends_along_a_weight():
    """ℓ = f² with f = w·x: g = 2 f x is not the secant, as w² is constant on ±1 but not between."""
    tiny = Tiny(nn.Sequential(nn.Linear(2, 1, bias=False)), 1.0, StraightThroughSample())
    exact = tiny.exact_gradient(tiny.outputs().square().mean((-2, -1)))
    assert deviation(tiny, lambda out: out.square().mean(), exact) > 20
    # the bias is known: the term 2 mean(xᵢ²) E[wᵢ] of the squares
    expected = 2 * tiny.x.square().mean(0) * torch.tanh(tiny.natural)
    mean, error = mean_and_error(tiny, lambda out: out.square().mean())
    assert ((mean - exact - expected).abs() < 5 * error).all()


def relaxed_expectation(loss, mean, temperature, points=161, reach=12.0):
    """E_δ[ℓ(tanh((atanh μ + δ)/τ))] for two weights, by the trapezium rule over both δ (logistic density)."""
    delta = torch.linspace(-reach, reach, points, dtype=torch.float64)
    density = 2 * torch.sigmoid(2 * delta) * torch.sigmoid(-2 * delta) * (delta[1] - delta[0])
    first, second = (torch.tanh((torch.atanh(m) + delta) / temperature) for m in mean)
    weights = torch.stack([first[:, None].expand(-1, points), second[None].expand(points, -1)], -1)
    return (density[:, None] * density * loss(weights)).sum()


@pytest.mark.parametrize(("temperature", "num_draws"), [(1.0, NUM_DRAWS), (0.5, 3 * NUM_DRAWS)])
def test_concrete_is_unbiased_for_its_relaxed_objective_and_not_for_the_binary_one(temperature, num_draws):
    tiny = Tiny(nn.Sequential(nn.Linear(2, 1, bias=False)), 0.7, Concrete(temperature))

    def loss(weights):  # (..., 2) -> (...)
        logits = (weights @ tiny.x.T)[..., None]
        return tiny.loss(3 * logits)

    def of_output(out):
        return F.binary_cross_entropy_with_logits(3 * out, tiny.y)

    mean = torch.tanh(tiny.natural).requires_grad_()
    (relaxed,) = torch.autograd.grad(relaxed_expectation(loss, mean, temperature), mean)
    found, error = mean_and_error(tiny, of_output, num_draws)
    assert ((found - relaxed).abs() < 5 * error).all()
    binary = tiny.exact_gradient(loss(tiny.weights))
    assert ((found - binary).abs() > 5 * error).any()


def test_concrete_is_unbiased_for_the_binary_objective_of_a_linear_loss_only_as_temperature_falls():
    """E[w_r] is not μ at τ = 1, so even a linear loss is biased; the bias shrinks with τ."""
    biases = []
    for temperature in (1.0, 0.3, 0.1):
        natural = torch.full((400_000,), 2.5, dtype=torch.float64, requires_grad=True)
        torch.manual_seed(0)
        Concrete(temperature).binarize(natural).sum().backward()
        biases.append((natural.grad.mean() - 1).abs().item())  # ∂μ/∂μ = 1
    assert biases[0] > 1
    assert 0.05 < biases[1] < 0.3
    assert biases[2] < 0.1


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_at_zero_variance_of_the_loss_all_estimates_agree(temperature):
    """A constant loss has gradient 0, whatever the estimator."""
    for binarizer in (StraightThroughSample(), Concrete(temperature)):
        tiny = Tiny(Chain(), 1.0, binarizer)
        mean, _ = mean_and_error(tiny, lambda out: (out * 0).sum(), num_draws=3)
        assert mean.abs().max() == 0


def test_draws_of_the_net_are_those_of_the_posterior():
    tiny = Tiny(Chain(), 1.0, StraightThroughSample())
    losses, probs = tiny.loss(tiny.outputs()), tiny.probs()
    torch.manual_seed(0)
    with torch.no_grad():
        found = torch.stack([tiny.loss(tiny.net(tiny.x)) for _ in range(NUM_DRAWS)])
    expected = probs @ losses
    error = ((probs @ (losses - expected) ** 2) / NUM_DRAWS).sqrt()
    assert abs(found.mean() - expected) < 5 * error
    assert bernoulli.entropy(tiny.natural).min() > 0

"""The gradient that each binarizer leaves in λ, against its equation."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesbinn import bernoulli
from bayesbinn.binarizers import Concrete, MeanWeight, Reference2020, SignSTE, StraightThroughSample, TanhAnneal

GRID = torch.linspace(-9, 9, 37)


def scale_of(binarizer, natural, noise):
    natural = natural.clone().requires_grad_()
    weight = binarizer.binarize(natural, noise=noise)
    weight.sum().backward()
    return natural.grad, weight.detach()


def test_straight_through_passes_the_gradient_of_the_weight():
    natural, upstream = GRID.clone().requires_grad_(), torch.randn(len(GRID))
    weight = StraightThroughSample().binarize(natural)
    assert set(weight.tolist()) == {-1.0, 1.0}
    weight.backward(upstream)
    assert torch.equal(natural.grad, upstream)


def test_the_mean_weight_is_the_mean_and_passes_its_gradient():
    natural, upstream = GRID.clone().requires_grad_(), torch.randn(len(GRID))
    weight = MeanWeight().binarize(natural)
    draws = torch.stack([bernoulli.sample(GRID) for _ in range(4000)])
    assert float((draws.mean(0) - weight.detach()).abs().max()) < 5 / 4000**0.5
    weight.backward(upstream)
    assert torch.equal(natural.grad, upstream)


def test_the_mean_weight_is_mirror_descent_at_beta_1():
    for ours, theirs in zip(
        scale_of(MeanWeight(), GRID, None), scale_of(TanhAnneal(beta=1.0, mirror=True), GRID, None), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("temperature", [2.0, 1.0, 0.1, 1e-2])
def test_concrete_scale_is_the_papers(temperature):
    natural, noise = GRID, bernoulli.logistic_noise(GRID)
    scale, weight = scale_of(Concrete(temperature), natural, noise)
    x = (natural.double() + noise.double()) / temperature
    expected = (torch.cosh(natural.double()) / torch.cosh(x)) ** 2 / temperature  # sech² = 1 - tanh²
    torch.testing.assert_close(weight.double(), torch.tanh(x), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scale.double(), expected, rtol=2e-4, atol=1e-30)


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_concrete_is_the_reparameterised_gradient_in_the_mean(temperature):
    """Autograd through tanh((atanh μ + δ)/τ) gives the same ∂/∂μ."""
    mean = torch.linspace(-0.95, 0.95, 21, dtype=torch.float64, requires_grad=True)
    noise = bernoulli.logistic_noise(mean.detach())
    upstream = torch.randn_like(mean)
    torch.tanh((torch.atanh(mean) + noise) / temperature).backward(upstream)
    natural = torch.atanh(mean.detach()).requires_grad_()
    Concrete(temperature).binarize(natural, noise=noise).backward(upstream)
    torch.testing.assert_close(natural.grad, mean.grad, rtol=1e-9, atol=1e-12)


@given(st.floats(-1e4, 1e4, width=32), st.floats(-8.5, 8.5, width=32), st.sampled_from([1.0, 0.1, 1e-2, 1e-10]))
def test_concrete_scale_is_finite_and_right_at_any_lambda(natural, noise, temperature):
    natural, noise = torch.tensor([natural]), torch.tensor([noise])
    scale, _ = scale_of(Concrete(temperature), natural, noise)
    x = (natural + noise) / temperature  # the rounded sum: what float32 can know of λ + δ
    log_cosh = [y.double().abs() + torch.log1p(torch.exp(-2 * y.double().abs())) for y in (natural, x)]
    expected = torch.exp(2 * (log_cosh[0] - log_cosh[1])) / temperature
    # log s is a difference of numbers up to 2e4, and of up to 2e14 (where s is 0) at the smallest temperature
    torch.testing.assert_close(scale.double(), expected, rtol=1e-2, atol=1e-30)


def test_concrete_at_the_papers_start_has_no_cancellation():
    """At |λ| = 10 and τ = 1 the 2020 formula inflates the scale about 100 times; the log domain does not."""
    natural, noise = torch.full((1,), 10.0), torch.zeros(1)
    exact, _ = scale_of(Concrete(1.0), natural, noise)
    torch.testing.assert_close(exact, torch.ones(1))
    noise = torch.full((1,), -3.0)
    exact, _ = scale_of(Concrete(1.0), natural, noise)
    published, _ = scale_of(Reference2020(1.0), natural, noise)
    assert published > 50 * exact


def test_reference_2020_agrees_with_concrete_where_nothing_cancels():
    natural = torch.linspace(-2, 2, 41)
    noise = bernoulli.logistic_noise(natural).clamp(-2, 2)
    published, _ = scale_of(Reference2020(1.0), natural, noise)
    exact, _ = scale_of(Concrete(1.0), natural, noise)
    torch.testing.assert_close(published, exact, rtol=1e-3, atol=0)


def test_reference_2020_at_the_published_temperature_is_one_over_the_rounded_variance():
    scale, weight = scale_of(Reference2020(1e-10), torch.tensor([10.0, -10.0, 1.0]), torch.zeros(3))
    assert weight.tolist() == [1.0, -1.0, 1.0]
    variance = 1 - torch.tanh(torch.tensor([10.0, -10.0, 1.0])) ** 2
    torch.testing.assert_close(scale, 1 / (variance + 1e-10))
    assert scale[0] == pytest.approx(1e10)


def test_sign_ste_keeps_the_gradient_inside_and_the_inward_one_outside():
    natural = torch.tensor([-2.0, -2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 2.0], requires_grad=True)
    upstream = torch.tensor([3.0, -3.0, 3.0, 3.0, 3.0, -3.0, -3.0, -3.0, 3.0])
    weight = SignSTE().binarize(natural)
    weight.backward(upstream)
    assert weight.tolist() == [-1, -1, -1, -1, 1, 1, 1, 1, 1]
    assert natural.grad.tolist() == [0.0, -3.0, 3.0, 3.0, 3.0, -3.0, -3.0, 0.0, 3.0]


def test_sign_ste_descent_stays_within_one_step_of_the_clip():
    natural = torch.empty(100).uniform_(-0.5, 0.5).requires_grad_()
    upstream = torch.randn(100)
    for _ in range(100):
        natural.grad = None
        SignSTE(clip=0.5).binarize(natural).backward(upstream)
        with torch.no_grad():
            natural -= 0.1 * natural.grad
    assert (natural.abs() <= 0.5 + 0.1 * upstream.abs() + 1e-6).all()
    assert (natural.abs() > 0.5).any()
    assert (natural.detach()[upstream > 0.5] < 0).all()


def test_sign_ste_without_clipping_and_bad_clip():
    natural = torch.tensor([-100.0, 100.0], requires_grad=True)
    SignSTE(clip=float("inf")).binarize(natural).backward(torch.tensor([1.0, -1.0]))
    assert natural.grad.tolist() == [1.0, -1.0]
    for clip in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=f"clip must be above 0, got {clip}"):
            SignSTE(clip=clip)

import pytest
import torch

from bayesbinn.binarizers import TanhAnneal


@pytest.mark.parametrize("beta", [0.5, 1.0, 7.0])
def test_pmf_has_the_slope_of_tanh(beta):
    natural = torch.linspace(-2, 2, 21, dtype=torch.float64, requires_grad=True)
    step = 1e-6
    slope = (torch.tanh(beta * (natural + step)) - torch.tanh(beta * (natural - step))) / (2 * step)
    weight = TanhAnneal(beta).binarize(natural)
    weight.sum().backward()
    torch.testing.assert_close(weight, torch.tanh(beta * natural))
    torch.testing.assert_close(natural.grad, slope.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("beta", [0.5, 1.0, 7.0])
def test_mirror_descent_passes_the_gradient_of_the_weight(beta):
    natural = torch.linspace(-2, 2, 21, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(21, dtype=torch.float64)
    weight = TanhAnneal(beta, mirror=True).binarize(natural)
    weight.backward(upstream)
    torch.testing.assert_close(weight.detach(), torch.tanh(beta * natural.detach()))
    assert torch.equal(natural.grad, upstream)


def test_a_schedule_that_raises_beta_hardens_the_weights():
    binarizer, natural = TanhAnneal(), torch.tensor([-0.1, 0.01])
    softness = []
    for _ in range(5):
        softness.append((1 - binarizer.binarize(natural).abs()).max().item())
        binarizer.beta *= 10
    assert softness == sorted(softness, reverse=True)
    assert binarizer.binarize(natural).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("beta", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_beta_is_refused(beta):
    with pytest.raises(ValueError, match="beta must be a finite number above 0"):
        TanhAnneal(beta)

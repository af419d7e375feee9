import pytest
import torch

from bayesbinn.binarizers import AdaSTE


@pytest.mark.parametrize(("beta", "alpha"), [(0.01, 0.01), (0.5, 0.01), (2.0, 0.3)])
def test_the_weight_is_the_minimiser_of_the_double_well(beta, alpha):
    natural = torch.linspace(-3, 3, 41, dtype=torch.float64)  # 0 itself is a tie, resolved to +
    natural = natural[natural != 0]
    grid = torch.linspace(-1, 1, 20_001, dtype=torch.float64)
    energy = (grid - natural[:, None]) ** 2 / 2 + beta / 2 * (grid.abs() - 1 - alpha) ** 2
    expected = grid[energy.argmin(1)]
    torch.testing.assert_close(AdaSTE(beta, alpha).binarize(natural), expected, rtol=0, atol=1.01e-4)


def test_a_strong_well_makes_every_weight_plus_minus_one():
    weight = AdaSTE(beta=100.0, alpha=0.01).binarize(torch.linspace(-0.5, 0.5, 11))
    assert set(weight.tolist()) == {-1.0, 1.0}


def obvious_scale(natural, grad, small):
    if natural == 0 or abs(grad) <= small:
        return 1.0
    if natural * grad < 0:
        return 0.0
    return min(0.5, 1 / abs(natural))


@pytest.mark.parametrize("small", [0.0, 1e-3, 0.5])
def test_the_gradient_is_the_rule(small):
    natural = torch.cat([torch.zeros(2), torch.randn(200) * 3]).double().requires_grad_()
    upstream = torch.cat([torch.tensor([1.0, -1.0]), torch.randn(200)]).double()
    AdaSTE(small=small).binarize(natural).backward(upstream)
    expected = [g * obvious_scale(n, g, small) for n, g in zip(natural.tolist(), upstream.tolist(), strict=True)]
    torch.testing.assert_close(natural.grad, torch.tensor(expected, dtype=torch.float64))


def test_one_over_lambda_is_the_difference_quotient_to_the_mirror_image():
    """A step t along g with λ − t g = −λ moves the minimiser from w to −w, so (w − (−w)) / t = g w / λ."""
    natural = torch.linspace(3, 9, 7, dtype=torch.float64).requires_grad_()
    binarizer, upstream = AdaSTE(), torch.rand(7, dtype=torch.float64) + 0.1
    binarizer.binarize(natural).backward(upstream)
    with torch.no_grad():
        step = 2 * natural / upstream
        quotient = (binarizer.binarize(natural) - binarizer.binarize(natural - step * upstream)) / step
    torch.testing.assert_close(natural.grad, quotient)


@pytest.mark.parametrize(("name", "value"), [("beta", 0.0), ("alpha", -1.0), ("small", float("nan"))])
def test_bad_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a finite number"):
        AdaSTE(**{name: value})

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


def minimiser(natural, beta, alpha):
    """w for one number."""
    sign = 1 if natural >= 0 else -1
    return max(-1, min(1, (natural + beta * (1 + alpha) * sign) / (1 + beta)))


def obvious_gradient(natural, grad, beta, alpha, small):
    if abs(grad) <= small:
        return grad
    tiny = 1e-7
    if natural * grad > 0:  # the shortest step of λ along −g that lands on the other side of 0
        step = (abs(natural) + tiny) / abs(grad)
        quotient = (minimiser(natural, beta, alpha) - minimiser(natural - step * grad, beta, alpha)) / step
        return max(-abs(grad) / 2, min(abs(grad) / 2, quotient))
    step = tiny / abs(grad)
    return (minimiser(natural, beta, alpha) - minimiser(natural - step * grad, beta, alpha)) / step


@pytest.mark.parametrize("small", [0.0, 0.5])
@pytest.mark.parametrize(("beta", "alpha"), [(0.01, 0.01), (1.0, 0.0), (2.0, 0.3), (200.0, 0.01)])
def test_the_gradient_is_the_change_of_the_minimiser(beta, alpha, small):
    natural = (torch.randn(300, dtype=torch.float64) * 3).requires_grad_()
    upstream = torch.randn(300, dtype=torch.float64)
    AdaSTE(beta, alpha, small).binarize(natural).backward(upstream)
    pairs = zip(natural.tolist(), upstream.tolist(), strict=True)
    expected = [obvious_gradient(n, g, beta, alpha, small) for n, g in pairs]
    torch.testing.assert_close(natural.grad, torch.tensor(expected, dtype=torch.float64), rtol=1e-5, atol=1e-6)


def test_a_weight_at_zero_can_flip():
    for upstream, expected in ((2.0, 1.0), (-2.0, 0.0)):  # w = +1: g > 0 is inward, g < 0 has nowhere to go
        natural = torch.zeros(1, requires_grad=True)
        AdaSTE(beta=1000.0).binarize(natural).backward(torch.tensor([upstream]))
        assert natural.grad.item() == expected


def test_by_default_the_rule_does_not_see_the_scale_of_the_loss():
    natural, upstream = torch.randn(100), torch.randn(100) * 1e-3
    grads = []
    for scale in (1.0, 1024.0):
        leaf = natural.clone().requires_grad_()
        AdaSTE().binarize(leaf).backward(upstream * scale)
        grads.append(leaf.grad / scale)
    assert torch.equal(*grads)


@pytest.mark.parametrize(("name", "value"), [("beta", 0.0), ("alpha", -1.0), ("small", float("nan"))])
def test_bad_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be a finite number"):
        AdaSTE(**{name: value})

import pytest
import torch

from bayesbinn.binarizers import ReinMax, StraightThroughSample
from tests.enumeration import all_weights, exact_gradient, noise_for


def expected_estimate(binarizer, loss, natural):
    """E[ĝ_μ], by running the binarizer once for each of the 2ⁿ weights."""
    total = torch.zeros_like(natural)
    for weight, probability in all_weights(natural):
        leaf = natural.clone().requires_grad_()
        drawn = binarizer.binarize(leaf, noise=noise_for(natural, weight))
        assert torch.equal(drawn.detach(), weight)
        loss(drawn).backward()
        total += probability * leaf.grad
    return total


def test_is_unbiased_for_a_loss_quadratic_in_each_weight():
    natural = torch.randn(6, dtype=torch.float64) * 2
    x, y = torch.randn(5, 6, dtype=torch.float64), torch.randn(5, dtype=torch.float64)

    def loss(weight):
        return (x @ weight - y).square().mean()

    exact = exact_gradient(loss, natural)
    torch.testing.assert_close(expected_estimate(ReinMax(), loss, natural), exact)
    straight = expected_estimate(StraightThroughSample(), loss, natural)
    bias = 2 * x.square().mean(0) * torch.tanh(natural)  # E[g_i] − exact: what w_i² hides from a two-point difference
    torch.testing.assert_close(straight, exact + bias)


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_is_closer_than_straight_through_on_a_network(spread):
    natural = torch.randn(8, dtype=torch.float64) * spread
    x, y = torch.randn(5, 2, dtype=torch.float64), torch.randn(5, dtype=torch.float64)

    def loss(weight):
        return (torch.tanh(x @ weight[:6].view(2, 3)) @ weight[5:] - y).square().mean()

    exact = exact_gradient(loss, natural)
    errors = [
        (expected_estimate(binarizer, loss, natural) - exact).norm()
        for binarizer in (ReinMax(), StraightThroughSample())
    ]
    assert errors[0] < 0.5 * errors[1]


def test_scale_is_one_over_twice_the_probability_of_the_draw():
    natural = torch.randn(1000, dtype=torch.float64).requires_grad_()
    weight = ReinMax().binarize(natural)
    weight.sum().backward()
    assert set(weight.tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(natural.grad, 1 / (2 * torch.sigmoid(2 * natural * weight)).detach())


def test_scale_is_finite_at_any_lambda():
    natural = torch.tensor([-1e4, -50.0, 0.0, 50.0, 1e4], requires_grad=True)
    ReinMax().binarize(natural).sum().backward()
    assert natural.grad.tolist() == [0.5, 0.5, 1.0, 0.5, 0.5]

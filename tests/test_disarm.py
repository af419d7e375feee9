"""DisARM is exactly unbiased: its expectation over all pairs of draws is ∂E[loss]/∂μ."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bayesbinn import BinaryLinear, binarize_, disarm_loss, split_parameters
from bayesbinn.binarizers import SignSTE
from bayesbinn.disarm import antithetic_gradient
from tests.enumeration import exact_gradient


def all_pairs(natural):
    """Every (w, w̃) that one δ can give, with its probability: both the mode, or one of each sign."""
    mode = torch.where(natural >= 0, 1.0, -1.0).to(natural.dtype)
    differ = torch.sigmoid(-2 * natural.abs())  # P(δ < −|λ|) = P(δ > |λ|)
    for kinds in itertools.product(range(3), repeat=natural.numel()):
        kind = torch.tensor(kinds).view_as(natural)
        weight = torch.where(kind == 1, -mode, mode)
        partner = torch.where(kind == 2, -mode, mode)
        yield weight, partner, torch.where(kind == 0, 1 - 2 * differ, differ).prod()


@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0])
def test_expectation_over_all_pairs_is_the_exact_gradient(spread):
    natural = torch.randn(7, dtype=torch.float64) * spread
    x, y = torch.randn(4, 2, dtype=torch.float64), torch.randn(4, dtype=torch.float64)

    def loss(weight):
        return (torch.relu(x @ weight[:4].view(2, 2)) @ weight[4:6] + weight[6] ** 3 - y).abs().mean()

    total, probability = torch.zeros(7, dtype=torch.float64), 0.0
    for weight, partner, p in all_pairs(natural):
        total += p * antithetic_gradient(natural, weight, partner, loss(weight) - loss(partner))
        probability += p
    assert probability == pytest.approx(1.0)
    torch.testing.assert_close(total, exact_gradient(loss, natural))


def tiny_net():
    layers = [nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 1, bias=False)]
    net = binarize_(nn.Sequential(*layers), scale="none").double()
    for parameter in split_parameters(net)[0]:
        nn.init.normal_(parameter, std=0.5)
    return net


def test_backward_through_a_network_is_unbiased():
    net, x, y = tiny_net(), torch.randn(5, 2).double(), torch.randn(5, 1).double()
    naturals = torch.cat([p.detach().flatten() for p in split_parameters(net)[0]])
    bias = net[0].bias.detach()

    def loss(weight):
        return (torch.tanh(F.linear(x, weight[:4].view(2, 2), bias)) @ weight[4:].view(2, 1) - y).square().mean()

    exact = exact_gradient(loss, naturals)
    estimates = []
    for _ in range(4000):
        net.zero_grad()
        disarm_loss(net, lambda: (net(x) - y).square().mean()).backward()
        estimates.append(torch.cat([p.grad.flatten() for p in split_parameters(net)[0]]))
    estimates = torch.stack(estimates)
    error = (estimates.mean(0) - exact) / (estimates.std(0) / len(estimates) ** 0.5)
    assert error.abs().max() < 4.5  # standard errors, of 6 weights


def test_is_the_mean_loss_and_gradient_of_two_antithetic_networks():
    net, x = tiny_net(), torch.randn(5, 2).double()
    seen = []

    def closure():
        seen.append(([layer.weight.clone() for layer in (net[0], net[2])], net(x).square().mean()))
        return seen[-1][1]

    loss = disarm_loss(net, closure, torch.Generator().manual_seed(1))
    (one, loss_one), (two, loss_two) = seen
    assert loss.item() == pytest.approx((loss_one.item() + loss_two.item()) / 2)
    bias_grads = [torch.autograd.grad(each, net[0].bias, retain_graph=True)[0] for each in (loss_one, loss_two)]
    (3 * loss).backward()  # a loss scale, as of GradScaler or accumulation
    torch.testing.assert_close(net[0].bias.grad, 3 * (bias_grads[0] + bias_grads[1]) / 2)
    for layer, weight, partner in zip((net[0], net[2]), one, two, strict=True):
        expected = antithetic_gradient(layer.natural.detach(), weight, partner, (loss_one - loss_two).detach())
        torch.testing.assert_close(layer.natural.grad, 3 * expected)
    assert net[0]._draw is None


def test_shared_and_undrawn_layers():
    shared = nn.Sequential(*(BinaryLinear(2, 2, magnitude=1.0), nn.Tanh(), BinaryLinear(2, 2)))
    shared[2].natural = shared[0].natural
    fixed = BinaryLinear(2, 1, binarizer=SignSTE())
    net, x, seen = nn.Sequential(shared, fixed), torch.randn(3, 2), []

    def closure():
        seen.append([layer.weight for layer in (shared[0], shared[2], fixed)])
        return net(x).square().mean()

    for _ in range(5):
        disarm_loss(net, closure).backward()
    assert all(torch.equal(a, b) for a, b, _ in seen)
    assert all(torch.equal(c, fixed.weight) for _, _, c in seen)
    assert fixed.natural.grad is None
    assert shared[0].natural.grad.any()


def test_is_finite_for_certain_weights():
    natural = torch.tensor([0.0, 60.0, -1e4])
    weight = torch.tensor([1.0, 1.0, -1.0])
    partner = torch.tensor([-1.0, 1.0, -1.0])
    assert antithetic_gradient(natural, weight, partner, torch.tensor(2.0)).tolist() == [1.0, 0.0, 0.0]


def test_errors():
    net = binarize_(nn.Sequential(nn.Linear(2, 1)))
    with pytest.raises(ValueError, match="closure must return a 0-d loss, got shape"):
        disarm_loss(net, lambda: net(torch.ones(3, 2)))
    for bare in (nn.Sequential(nn.Linear(2, 1)), BinaryLinear(2, 1, binarizer=SignSTE())):
        with pytest.raises(ValueError, match="no binary layer with a posterior"):
            disarm_loss(bare, lambda: torch.zeros(()))

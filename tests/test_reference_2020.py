"""`Reference2020` + `BayesBiNN`, through real layers, against the slow twin of the 2020 rule with injected noise."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bayesbinn import BayesBiNN, bernoulli, binarize_, split_parameters
from bayesbinn.binarizers import Reference2020
from tests import reference_2020


class Injected(Reference2020):
    """Takes the noise of each forward pass from a queue."""

    def __init__(self, temperature):
        super().__init__(temperature)
        self.queue = []

    def binarize(self, natural, noise=None):
        return super().binarize(natural, self.queue.pop(0))


def loss_of_weights(x, y):
    def loss(weights):
        first, second = weights
        return F.cross_entropy(torch.tanh(x @ first.T) @ second.T, y)

    return loss


@pytest.mark.parametrize("temperature", [1.0, 1e-2, 1e-10])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("magnitude", [1.0, 10.0])
def test_steps_equal_the_2020_rule(temperature, momentum, magnitude):
    options = {"lr": 1e-3, "num_data": 1000, "kl_weight": 1.0, "momentum": momentum, "prior": 0.25}
    binarizer = Injected(temperature)
    net = nn.Sequential(nn.Linear(12, 10, bias=False), nn.Tanh(), nn.Linear(10, 3, bias=False))
    binary, _ = split_parameters(binarize_(net, binarizer=binarizer, magnitude=magnitude, scale="none"))
    optimizer = BayesBiNN(binary, **options)
    moments = [torch.zeros_like(p) for p in binary]
    moved = False
    for t in range(1, 5):
        x, y = torch.randn(16, 12), torch.randint(3, (16,))
        noises = [bernoulli.logistic_noise(p.detach()) for p in binary]
        before = [p.detach().clone() for p in binary]

        binarizer.queue = list(noises)
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

        # each step starts from the same λ: in a saturated λ a rounding error would grow over the steps by itself
        expected, moments = reference_2020.step(
            before, moments, loss_of_weights(x, y), noises, t, **options, temperature=temperature
        )
        for found, new, old in zip(binary, expected, before, strict=True):
            error = (found.detach() - new).abs()
            assert (error <= 1e-6 * torch.maximum(new.abs(), old.abs())).all()
            moved |= not torch.equal(found, old)
        if momentum:
            moments = [optimizer.state[p]["momentum"].clone() for p in binary]
    assert moved


def test_the_published_setting_saturates_lambda():
    """τ = 1e-10 from |λ| = 10: after one step |λ| is of the order of lr · N · g · 1e10 (float32 has 1 - μ² = 0)."""
    net = nn.Sequential(nn.Linear(12, 3, bias=False))
    binary, _ = split_parameters(binarize_(net, binarizer=Reference2020(1e-10), magnitude=10.0, scale="none"))
    optimizer = BayesBiNN(binary, lr=1e-4, num_data=60_000)
    F.cross_entropy(net(torch.randn(16, 12)), torch.randint(3, (16,))).backward()
    grad = binary[0].grad.abs()
    optimizer.step()
    assert grad.median() > 1e6
    assert binary[0].abs().median() > 1e6
    assert bernoulli.entropy(binary[0]).max() == 0

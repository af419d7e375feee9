"""Bop against its algorithm, weight by weight."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bayesbinn import binarize_, split_parameters
from bayesbinn.binarizers import SignSTE
from bayesbinn.optim import Bop


def obvious_bop(weights, gradients, gamma, threshold):
    """Algorithm 1 of Helwegen et al. (2019) on lists of numbers."""
    moving = [0.0] * len(weights)
    for gradient in gradients:
        for i, g in enumerate(gradient):
            moving[i] = (1 - gamma) * moving[i] + gamma * g
            if abs(moving[i]) > threshold and (moving[i] > 0) == (weights[i] > 0):
                weights[i] = -weights[i]
    return weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("gamma", "threshold"), [(0.1, 0.05), (1.0, 0.0), (1e-2, 1e-3)])
def test_a_hundred_steps_are_those_of_the_algorithm(dtype, gamma, threshold):
    natural = torch.randn(50, dtype=dtype).sign().requires_grad_()
    gradients = torch.randn(100, 50, dtype=dtype)
    expected = obvious_bop(natural.tolist(), gradients.tolist(), gamma, threshold)
    optimizer = Bop([natural], gamma=gamma, threshold=threshold)
    for gradient in gradients:
        natural.grad = gradient.clone()
        optimizer.step()
    assert natural.tolist() == expected
    assert optimizer.state[natural]["momentum"].dtype == dtype


def test_lambda_is_made_plus_minus_one_without_changing_a_weight():
    natural = torch.tensor([-0.3, 0.0, 5.0], requires_grad=True)
    optimizer = Bop([natural])
    natural.grad = torch.zeros(3)
    optimizer.step()
    assert natural.tolist() == [-1.0, 1.0, 1.0]


def test_groups_have_their_own_settings_and_none_gradients_are_left_alone():
    a, b, c = (torch.ones(1, requires_grad=True) for _ in range(3))
    optimizer = Bop([{"params": [a, c]}, {"params": [b], "threshold": 10.0}], gamma=1.0, threshold=0.1)
    a.grad = b.grad = torch.ones(1)
    optimizer.step()
    assert (a.item(), b.item(), c.item()) == (-1.0, 1.0, 1.0)
    assert c not in optimizer.state


def test_torch_schedulers_decay_gamma_through_lr():
    natural = torch.ones(1, dtype=torch.float64, requires_grad=True)
    optimizer = Bop([natural], gamma=0.5, threshold=10.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.1)
    for expected in (0.5, 0.525, 0.52737500):  # m with γ = 0.5, 0.05, 0.005 and a gradient of 1
        natural.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
        scheduler.step()
        assert optimizer.state[natural]["momentum"].item() == pytest.approx(expected)


def test_resumes_from_its_state_dict_and_a_closure_returns_its_loss():
    def run(optimizer, natural, gradients):
        for gradient in gradients:

            def closure(gradient=gradient):
                optimizer.zero_grad()
                loss = (natural * gradient).sum()
                loss.backward()
                return loss

            assert isinstance(optimizer.step(closure), torch.Tensor)

    gradients = torch.randn(20, 8)
    natural = torch.ones(8, requires_grad=True)
    optimizer = Bop([natural], gamma=0.3, threshold=0.1)
    run(optimizer, natural, gradients[:10])
    resumed = natural.detach().clone().requires_grad_()
    other = Bop([resumed], gamma=0.9)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    run(optimizer, natural, gradients[10:])
    run(other, resumed, gradients[10:])
    assert torch.equal(natural, resumed)


def test_trains_a_small_network():
    net = binarize_(
        nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 2), nn.BatchNorm1d(2)),
        binarizer=SignSTE(clip=float("inf")),
    )
    x = torch.randn(512, 10)
    y = (x[:, :5].sum(1) > 0).long()
    binary, real = split_parameters(net)
    bop, adam = Bop(binary, gamma=1e-2, threshold=1e-5), torch.optim.Adam(real, lr=1e-2)
    for _ in range(100):
        bop.zero_grad()
        adam.zero_grad()
        F.cross_entropy(net(x), y).backward()
        bop.step()
        adam.step()
    assert all(p.abs().eq(1).all() for p in binary)
    assert (net.eval()(x).argmax(1) == y).float().mean() > 0.93


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": -0.1}, "gamma must be in"),
        ({"gamma": 1.5}, "gamma must be in"),
        ({"threshold": -1.0}, "threshold must be a finite"),
        ({"threshold": float("nan")}, "threshold must be a finite"),
        ({"gamma": 0.5, "lr": 3.0}, "lr must be at least 0, with lr · gamma ≤ 1"),
        ({"lr": -1.0}, "lr must be"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Bop([torch.zeros(1, requires_grad=True)], **settings)
    with pytest.raises(ValueError, match=message):
        Bop([{"params": [torch.zeros(1, requires_grad=True)], **settings}])


def test_sparse_gradients_are_refused():
    natural = torch.ones(3, requires_grad=True)
    natural.grad = torch.zeros(3).to_sparse()
    with pytest.raises(RuntimeError, match="Bop does not support sparse"):
        Bop([natural]).step()

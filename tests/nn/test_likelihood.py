"""Likelihoods: losses against torch's own, figures, and the noise that is learned."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bayesbinn import predict_regression
from bayesbinn.nn import LIKELIHOODS, Categorical, Gaussian, likelihood_of


def test_each_task_has_its_row():
    assert {task: kind.task for task, kind in LIKELIHOODS.items()} == {t: t for t in LIKELIHOODS}
    assert likelihood_of(nn.Sequential(nn.Linear(2, 1), Gaussian())).task == "regression"
    for net in (nn.Linear(2, 2), nn.Sequential(), nn.Sequential(nn.Linear(2, 2))):
        assert likelihood_of(net).task == "classification"


def test_a_gaussian_is_torchs_in_the_targets_units():
    head = Gaussian(10.0, 4.0)
    head.log_noise.data.fill_(math.log(0.5))
    raw, y = torch.randn(20, 1), 10 + 4 * torch.randn(20)
    out = head(raw)
    expected = F.gaussian_nll_loss(out[:, 0], y, torch.full((20,), 4.0), full=True)
    torch.testing.assert_close(head.nll(out, y), expected)
    assert head.noise_std() == pytest.approx(2.0)
    error = float((out[:, 0] - y).square().mean().sqrt())
    assert head.figure_of(float(head.score(out, y)), 20) == pytest.approx(error)
    # at rest the noise is the error: the derivative in log σ is 1 − error² / σ²
    head.log_noise.data.fill_(math.log(error / 4))
    (slope,) = torch.autograd.grad(head.nll(out, y), head.log_noise)
    assert float(slope) == pytest.approx(0, abs=1e-5)


def test_class_weights_count_as_repetition_does():
    logits, y = torch.randn(6, 3), torch.tensor([0, 0, 0, 0, 1, 2])
    weights = torch.tensor([0.5, 2.0, 2.0])
    by_hand = sum(
        float(weights[label]) * float(F.cross_entropy(z[None], label[None])) for z, label in zip(logits, y, strict=True)
    )
    assert float(Categorical(weights).loss(logits, y)) == pytest.approx(by_hand / 6, rel=1e-5)
    assert float(Categorical(weights).nll(logits, y)) == pytest.approx(float(F.cross_entropy(logits, y)))
    assert Categorical(weights).state_dict() == {}


def test_predictions_carry_the_noise():
    net = nn.Sequential(nn.Linear(2, 1), Gaussian(0.0, 3.0))
    p = predict_regression(net, torch.zeros(4, 2), 0)
    assert p.noise == pytest.approx(3.0)
    torch.testing.assert_close(p.total, torch.full((4, 1), 3.0))

"""Metrics of normal predictions against torch.distributions and against what they promise."""

import pytest
import torch

from bayesbinn import metrics


def test_nll_is_that_of_the_normal():
    mean, std, y = torch.randn(50), torch.rand(50) + 0.1, torch.randn(50)
    expected = -torch.distributions.Normal(mean, std).log_prob(y).mean()
    assert metrics.gaussian_nll(mean, std, y) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95])
def test_an_honest_prediction_covers_its_level(level):
    mean, std = torch.randn(20_000), torch.rand(20_000) + 0.5
    y = torch.normal(mean, std)
    assert metrics.interval_coverage(mean, std, y, level) == pytest.approx(level, abs=0.01)
    assert metrics.interval_coverage(mean, 0.5 * std, y, level) < level - 0.1  # too sure


def test_bad_input():
    ones = torch.ones(3)
    with pytest.raises(ValueError, match="std must be above 0"):
        metrics.gaussian_nll(ones, torch.tensor([1.0, 0.0, 1.0]), ones)
    with pytest.raises(ValueError, match="one shape"):
        metrics.gaussian_nll(ones, ones, torch.ones(4))
    with pytest.raises(ValueError, match=r"level must be in \(0, 1\), got 95"):
        metrics.interval_coverage(ones, ones, ones, level=95)

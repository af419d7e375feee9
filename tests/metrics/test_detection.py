"""AUROC and FPR95 against the definitions, pair by pair."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesbinn import metrics

scores = st.lists(st.integers(-3, 8).map(float), min_size=1, max_size=40)


@given(inside=scores, outside=scores)
def test_against_all_pairs_with_ties(inside, outside):
    a, b = np.array(inside), np.array(outside)
    pairs = (b[None] > a[:, None]) + 0.5 * (b[None] == a[:, None])
    assert metrics.auroc(torch.tensor(inside), torch.tensor(outside)) == pytest.approx(pairs.mean(), abs=1e-6)
    threshold = min(t for t in a if (a <= t).mean() >= 0.95)  # the lowest that accepts 95 % inside
    assert metrics.fpr95(torch.tensor(inside), torch.tensor(outside)) == pytest.approx(
        (b <= threshold).mean(), abs=1e-6
    )


def test_direction_and_scale():
    low, high = torch.linspace(0, 1, 50), torch.linspace(2, 3, 50)
    assert (metrics.auroc(low, high), metrics.fpr95(low, high)) == (1.0, 0.0)  # uncertain outside: detected
    assert (metrics.auroc(high, low), metrics.fpr95(high, low)) == (0.0, 1.0)
    # scores far from [0, 1], which torchmetrics alone would squash to the same value
    assert metrics.auroc(1e6 + low, 1e6 + high) == 1.0


@pytest.mark.parametrize("bad", [torch.zeros(0), torch.tensor([float("nan")]), torch.zeros(2, 2)])
def test_no_number_from_nothing(bad):
    with pytest.raises(ValueError, match="at least one finite score"):
        metrics.auroc(torch.zeros(3), bad)
    with pytest.raises(ValueError, match="at least one finite score"):
        metrics.fpr95(bad, torch.zeros(3))


@pytest.mark.parametrize("num_inside", [1, 19, 20, 21, 40, 180, 1000])
def test_the_threshold_accepts_no_more_than_it_must(num_inside):
    """Of N distinct inside scores ⌈0.95 N⌉ are accepted: exact where 0.95 N is whole, in binary fractions or not."""
    scores = torch.arange(float(num_inside))
    accepted = math.ceil(Fraction(95, 100) * num_inside)
    assert metrics.fpr95(scores, scores) == accepted / num_inside
    assert metrics.fpr95(scores, torch.tensor([accepted - 1.0])) == 1.0  # tied with the threshold
    assert metrics.fpr95(scores, torch.tensor([accepted - 0.5])) == 0.0


def test_all_scores_tied_is_chance_and_all_accepted():
    ones = torch.ones(7)
    assert (metrics.auroc(ones, ones), metrics.fpr95(ones, ones)) == (0.5, 1.0)

"""Risk–coverage against the loop, and independence of the order of the data."""

import numpy as np
import pytest
import torch

from bayesbinn import metrics


def test_against_the_loop_without_ties():
    generator = torch.Generator().manual_seed(1)
    errors = (torch.rand(60, generator=generator) < 0.3).double()
    scores = torch.randperm(60, generator=generator).double()
    order = scores.argsort()
    slow = [float(errors[order[:k]].mean()) for k in range(1, 61)]
    np.testing.assert_allclose(metrics.risk_coverage(errors, scores), slow, atol=1e-12)
    assert metrics.aurc(errors, scores) == pytest.approx(np.mean(slow))
    assert slow[-1] == pytest.approx(float(errors.mean()))  # answering all leaves the error rate


def test_equal_scores_do_not_depend_on_the_order_of_the_data():
    errors, scores = torch.tensor([1.0, 0.0, 0.0, 1.0]), torch.tensor([0.5, 0.5, 0.1, 0.9])
    curve = metrics.risk_coverage(errors, scores)
    np.testing.assert_allclose(curve, [0, 0.25, 1 / 3, 0.5])
    shuffled = torch.tensor([3, 1, 0, 2])
    np.testing.assert_allclose(metrics.risk_coverage(errors[shuffled], scores[shuffled]), curve)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"must both be \(B,\)"):
        metrics.risk_coverage(torch.zeros(3), torch.zeros(4))
    with pytest.raises(ValueError, match=r"must both be \(B,\)"):
        metrics.aurc(torch.zeros(0), torch.zeros(0))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_no_order_without_a_finite_score(bad):
    with pytest.raises(ValueError, match="errors and scores must be finite"):
        metrics.risk_coverage(torch.zeros(2), torch.tensor([0.0, bad]))

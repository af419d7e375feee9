"""The metrics against values worked out by hand."""

import math

import pytest
import torch

from bayesbinn.continual import metrics

# after task 1, 2 and 3; the tasks above the diagonal have not been seen
MATRIX = torch.tensor([[0.90, 0.30, 0.10], [0.60, 0.80, 0.20], [0.70, 0.50, 0.95]], dtype=torch.float64)
UNTRAINED = torch.tensor([0.10, 0.20, 0.05], dtype=torch.float64)


def test_every_metric_by_hand() -> None:
    assert metrics.average_accuracy(MATRIX) == pytest.approx((0.70 + 0.50 + 0.95) / 3)
    assert metrics.average_accuracy(MATRIX, last=2) == pytest.approx((0.50 + 0.95) / 2)
    assert metrics.learning_accuracy(MATRIX) == pytest.approx((0.90 + 0.80 + 0.95) / 3)
    assert metrics.backward_transfer(MATRIX) == pytest.approx(((0.70 - 0.90) + (0.50 - 0.80)) / 2)
    assert metrics.forgetting(MATRIX) == pytest.approx(((0.90 - 0.70) + (0.80 - 0.50)) / 2)
    assert metrics.forward_transfer(MATRIX, UNTRAINED) == pytest.approx(((0.30 - 0.20) + (0.20 - 0.05)) / 2)


def test_forgetting_counts_from_the_best_accuracy_since_the_task_was_seen() -> None:
    # task 2 was at 0.99 before it was ever trained on: that is no achievement to forget
    matrix = torch.tensor([[0.5, 0.99, 0.0], [0.8, 0.6, 0.0], [0.4, 0.6, 0.9]])
    assert metrics.forgetting(matrix) == pytest.approx(((0.8 - 0.4) + (0.6 - 0.6)) / 2)


def test_one_task_has_nothing_to_forget_or_transfer() -> None:
    one = torch.tensor([[0.9]])
    assert metrics.forgetting(one) == metrics.backward_transfer(one) == 0.0
    assert metrics.forward_transfer(one, torch.tensor([0.1])) == 0.0


def test_last_of_more_than_there_are_is_all() -> None:
    assert metrics.average_accuracy(MATRIX, last=20) == metrics.average_accuracy(MATRIX)


def test_summary_holds_them_all() -> None:
    result = metrics.summary(MATRIX, UNTRAINED)
    assert result["average"] == metrics.average_accuracy(MATRIX)
    assert result["forward_transfer"] == metrics.forward_transfer(MATRIX, UNTRAINED)
    assert "forward_transfer" not in metrics.summary(MATRIX)


def test_unmeasured_entries_are_refused_only_where_they_are_needed() -> None:
    matrix = MATRIX.clone()
    matrix[0, 2] = math.nan  # above the superdiagonal: nothing here needs it
    assert metrics.summary(matrix, UNTRAINED) == metrics.summary(MATRIX, UNTRAINED)
    matrix[0, 1] = math.nan
    with pytest.raises(ValueError, match="NaN"):
        metrics.forward_transfer(matrix, UNTRAINED)


@pytest.mark.parametrize("matrix", [torch.zeros(2, 3), torch.zeros(0, 0), torch.zeros(3)])
def test_only_square_matrices(matrix: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"must be \(T, T\)"):
        metrics.average_accuracy(matrix)


def test_last_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        metrics.average_accuracy(MATRIX, last=0)

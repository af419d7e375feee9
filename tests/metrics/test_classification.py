"""The metrics against plain numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_calibration_error

from bayesbinn import metrics


def numpy_ece(probs, labels, num_bins):
    confidence, correct = probs.max(-1), probs.argmax(-1) == labels
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    total = 0.0
    for b in range(num_bins):
        inside = bins == b
        if inside.any():
            total += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    return total


@given(
    seed=st.integers(0, 2**31),
    num_inputs=st.integers(1, 200),
    num_classes=st.integers(2, 11),
    sharpness=st.floats(0.1, 10),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_against_numpy(seed, num_inputs, num_classes, sharpness, dtype):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(num_inputs, num_classes, generator=generator) * sharpness
    probs = logits.double().softmax(-1).to(dtype)
    labels = torch.randint(num_classes, (num_inputs,), generator=generator)
    p, y = probs.double().numpy(), labels.numpy()
    assert metrics.accuracy(probs, labels) == pytest.approx((p.argmax(-1) == y).mean(), abs=1e-12)
    expected = -np.log(np.maximum(p[np.arange(num_inputs), y], 1e-12)).mean()
    assert metrics.nll(probs, labels) == pytest.approx(expected, rel=1e-6, abs=1e-12)
    assert metrics.ece(probs, labels) == pytest.approx(numpy_ece(p, y, 15), abs=2e-6)
    assert metrics.ece(probs, labels, num_bins=7) == pytest.approx(numpy_ece(p, y, 7), abs=2e-6)


def test_certain_and_right_and_certain_and_wrong():
    probs = torch.eye(3)
    right, wrong = torch.tensor([0, 1, 2]), torch.tensor([1, 2, 0])
    assert (metrics.accuracy(probs, right), metrics.nll(probs, right), metrics.ece(probs, right)) == (1.0, 0.0, 0.0)
    assert (metrics.accuracy(probs, wrong), metrics.ece(probs, wrong)) == (0.0, 1.0)
    assert metrics.nll(probs, wrong) == pytest.approx(-math.log(1e-12))  # finite


def test_results_are_plain_floats_and_labels_of_any_integer_type():
    probs = torch.tensor([[0.7, 0.3], [0.4, 0.6]])
    for dtype in (torch.uint8, torch.int32, torch.int64):
        labels = torch.tensor([0, 0], dtype=dtype)
        results = metrics.accuracy(probs, labels), metrics.nll(probs, labels), metrics.ece(probs, labels)
        assert [type(r) for r in results] == [float] * 3
        assert results == (0.5, pytest.approx(-(math.log(0.7) + math.log(0.4)) / 2), pytest.approx(0.45))


@given(seed=st.integers(0, 2**31), num_inputs=st.integers(1, 150), num_classes=st.integers(2, 8))
def test_brier_classwise_ece_and_reliability_against_numpy(seed, num_inputs, num_classes):
    generator = torch.Generator().manual_seed(seed)
    probs = (3 * torch.randn(num_inputs, num_classes, generator=generator)).softmax(-1)
    labels = torch.randint(num_classes, (num_inputs,), generator=generator)
    p, y = probs.double().numpy(), labels.numpy()
    onehot = np.eye(num_classes)[y]
    assert metrics.brier(probs, labels) == pytest.approx(((p - onehot) ** 2).sum(-1).mean(), rel=1e-6)

    errors = []
    for c in range(num_classes):
        bins = np.clip(np.floor(p[:, c] * 15).astype(int), 0, 14)
        inside = [bins == b for b in range(15)]
        errors.append(sum(abs((p[m, c] - onehot[m, c]).sum()) for m in inside) / num_inputs)
    assert metrics.classwise_ece(probs, labels) == pytest.approx(np.mean(errors), abs=2e-6)

    r = metrics.reliability(probs, labels)
    assert sum(r.count) == num_inputs
    gaps = [n * abs(a - c) for n, a, c in zip(r.count, r.accuracy, r.confidence, strict=True)]
    assert sum(gaps) / num_inputs == pytest.approx(metrics.ece(probs, labels), abs=2e-6)


def test_a_probability_rounded_above_one_is_not_taken_for_a_logit():
    probs = torch.tensor([[1.0000001, 0.0], [0.0, 1.0000001]])
    labels = torch.tensor([0, 1])
    assert metrics.ece(probs, labels) == 0.0
    assert metrics.classwise_ece(probs, labels) == 0.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("num_bins", [2, 10, 15])
def test_the_edge_b_of_n_is_in_bin_b_whatever_the_dtype_and_one_in_the_last(num_bins, dtype):
    edges = (torch.arange(num_bins + 1).double() / num_bins).to(dtype)
    sure = edges[2 * edges >= 1]  # of two classes, the predicted one has at least a half
    probs, labels = torch.stack([sure, 1 - sure], -1), torch.zeros(len(sure), dtype=torch.long)
    found = metrics.reliability(probs, labels, num_bins)
    assert found.count == [1] * (len(sure) - 2) + [2]
    gaps = [n * abs(a - c) for n, a, c in zip(found.count, found.accuracy, found.confidence, strict=True)]
    assert metrics.ece(probs, labels, num_bins) == sum(gaps) / len(sure)


def test_a_probability_of_one_shares_the_last_bin():
    probs, labels = torch.tensor([[0.95, 0.05], [1.0, 0.0]], dtype=torch.float64), torch.tensor([0, 1])
    found = metrics.reliability(probs, labels)
    assert (found.count, found.confidence, found.accuracy) == ([2], [pytest.approx(0.975)], [0.5])
    assert metrics.ece(probs, labels) == pytest.approx(0.475, abs=1e-15)
    # the first class: both in its last bin, |.5 − .975|; the second: both in its first bin, |.5 − .025|
    assert metrics.classwise_ece(probs, labels) == pytest.approx(0.475, abs=1e-15)


@given(seed=st.integers(0, 2**31), num_classes=st.integers(2, 6))
def test_torchmetrics_agrees_away_from_the_edges(seed, num_classes):
    generator = torch.Generator().manual_seed(seed)
    probs = torch.randn(100, num_classes, generator=generator).softmax(-1)
    labels = torch.randint(num_classes, (100,), generator=generator)
    theirs = multiclass_calibration_error(probs, labels, num_classes=num_classes, n_bins=15)
    assert metrics.ece(probs, labels) == pytest.approx(float(theirs), abs=1e-6)


def test_classes_of_equal_probability_count_as_the_first_everywhere():
    probs, labels = torch.tensor([[0.5, 0.5]]), torch.tensor([0])
    assert metrics.accuracy(probs, labels) == 1.0
    assert metrics.reliability(probs, labels).accuracy == [1.0]

"""What is measured and drawn of a classification."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .. import metrics
from ..prediction import Prediction
from .figures import confusion, entropy_histograms, examples, reliability_bins, risk_coverage_points

ALL = ("accuracy", "nll", "brier", "ece", "classwise_ece")  # names in `metrics`


def summary(prediction: Prediction, labels: Tensor) -> dict[str, float]:
    """The metrics of one prediction; AURC orders by entropy."""
    errors = (prediction.labels.cpu() != labels).double()
    return {**of_probs(prediction.probs, labels, *ALL), "aurc": metrics.aurc(errors, prediction.entropy)}


def of_probs(probs: Tensor, labels: Tensor, *names: str) -> dict[str, float]:
    """The metrics of these names."""
    probs = probs.cpu()
    return {name: getattr(metrics, name)(probs, labels) for name in names}


def figures(drawn: Mapping[str, Prediction], best: Prediction, labels: Tensor) -> dict[str, Any]:
    """Reliability, risk and coverage, entropies, and the most and the least certain inputs."""
    return {
        "reliability": {name: reliability_bins(p, labels) for name, p in drawn.items()},
        "risk_coverage": {name: risk_coverage_points(p, labels) for name, p in drawn.items()},
        "entropy": entropy_histograms({"in": best}),
        "confusion": confusion(best, labels),
        "examples": examples(best, labels),
    }

"""What is measured and drawn of a regression: errors in the target's units, and whether its intervals hold."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import metrics
from ..prediction import RegressionPrediction

POINTS = 200  # of a scatter
LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))


def summary(prediction: RegressionPrediction, y: Tensor) -> dict[str, float]:
    """RMSE, NLL (nats, of the target in its units), R², and the shares of targets in the 50 % and 90 % intervals."""
    mean, std, y = _flat(prediction, y)
    error = (mean - y).square()
    return {
        "rmse": math.sqrt(float(error.mean())),
        "nll": metrics.gaussian_nll(mean, std, y),
        "r2": metrics.r2(mean, y),
        "coverage_50": metrics.interval_coverage(mean, std, y, 0.5),
        "coverage_90": metrics.interval_coverage(mean, std, y, 0.9),
    }


def figures(drawn: Mapping[str, RegressionPrediction], best: RegressionPrediction, y: Tensor) -> dict[str, Any]:
    """Coverage of the intervals of every level, and predictions beside targets, as lists."""
    coverage = {}
    for name, prediction in drawn.items():
        mean, std, target = _flat(prediction, y)
        coverage[name] = [metrics.interval_coverage(mean, std, target, level) for level in LEVELS]
    mean, std, target = _flat(best, y)
    chosen = torch.linspace(0, len(target) - 1, min(POINTS, len(target))).round().long()
    order = chosen[mean[chosen].argsort(stable=True)]
    epistemic = best.std.reshape(-1).double().cpu()
    return {
        "coverage": {"levels": list(LEVELS), "shares": coverage},
        "scatter": {
            "predicted": mean[order].tolist(),
            "target": target[order].tolist(),
            "index": order.tolist(),
            "epistemic": epistemic[order].tolist(),
        },
        "noise": best.noise,
        "epistemic": float(epistemic.square().mean().sqrt()),
    }


def _flat(prediction: RegressionPrediction, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, total deviation, target), each (B,) float64 on the CPU."""
    mean, std = (values.reshape(-1).double().cpu() for values in (prediction.mean, prediction.total))
    return mean, std, y.double().cpu()

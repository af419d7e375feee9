"""What the report draws, reduced to short lists of numbers."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from .. import metrics
from ..nn import binary_layers, summary
from ..posterior import has_posterior, posterior_summary
from ..prediction import Prediction

EXAMPLES = 6  # shown of the most certain, the least certain and the wrong
POINTS = 100  # of a risk–coverage curve
BINS = 24


def reliability_bins(prediction: Prediction, labels: Tensor) -> dict[str, Any]:
    """The bins of `metrics.reliability`, as lists."""
    return dataclasses.asdict(metrics.reliability(prediction.probs.cpu(), labels))


def risk_coverage_points(prediction: Prediction, labels: Tensor) -> dict[str, list[float]]:
    """Coverage and risk at up to 100 coverages, answering in the order of rising entropy."""
    risk = metrics.risk_coverage((prediction.labels.cpu() != labels).double(), prediction.entropy)
    chosen = torch.linspace(0, len(risk) - 1, min(POINTS, len(risk))).round().long()
    return {"coverage": ((chosen + 1) / len(risk)).tolist(), "risk": risk[chosen].tolist()}


def entropy_histograms(predictions: Mapping[str, Prediction]) -> dict[str, Any]:
    """Shares of each prediction's inputs in 24 equal bins, from 0 to the largest entropy that any of them has.

    Returns:
        {"edges", "largest": log C, the entropy of an even guess, "inputs": {name: {"share", "mean"}}}, in nats.
    """
    entropies = {name: p.entropy.cpu().double() for name, p in predictions.items()}
    largest = math.log(next(iter(predictions.values())).probs.shape[-1])
    end = max(float(e.max()) for e in entropies.values()) or largest  # all sure: there is no range
    edges = torch.linspace(0, end, BINS + 1, dtype=torch.float64)
    inputs = {name: {"share": _shares(e, edges), "mean": float(e.mean())} for name, e in entropies.items()}
    return {"edges": edges.tolist(), "largest": largest, "inputs": inputs}


def confusion(prediction: Prediction, labels: Tensor) -> list[list[int]]:
    """(C, C) counts: rows are labels, columns what they are taken for."""
    num_classes = prediction.probs.shape[-1]
    pairs = labels.cpu() * num_classes + prediction.labels.cpu()
    counts: list[list[int]] = pairs.bincount(minlength=num_classes**2).reshape(num_classes, num_classes).tolist()
    return counts


def examples(prediction: Prediction, labels: Tensor) -> dict[str, list[dict[str, Any]]]:
    """The most and the least certain inputs (by entropy): index, label and predicted distribution."""
    order = prediction.entropy.cpu().argsort(stable=True)
    count = min(EXAMPLES, len(order))
    chosen = {"most": order[:count], "least": order.flip(0)[:count]}
    return {
        name: [
            {"index": i, "label": int(labels[i]), "probs": [round(p, 5) for p in prediction.probs[i].tolist()]}
            for i in indices.tolist()
        ]
        for name, indices in chosen.items()
    }


@torch.no_grad()
def natural_histograms(net: nn.Module) -> list[dict[str, Any]]:
    """Per binary layer: shares of its weights in 41 equal bins of λ, and how decided they are; [] without a posterior.

    The bins reach to ± the 99 % quantile of |λ| in the layer; what lies beyond counts in the outer ones.
    """
    if not has_posterior(net):
        return []
    layers = dict(binary_layers(net))
    histograms = []
    for s in posterior_summary(net).layers:
        natural = layers[s.name].natural.double().cpu().flatten()
        # a part is enough for a range, and torch.quantile refuses large tensors
        limit = float(natural[:: max(1, len(natural) // 100_000)].abs().quantile(0.99)) or 1.0
        edges = torch.linspace(-limit, limit, 42, dtype=torch.float64)
        counts = {name: getattr(s, name) for name in ("name", "num_weights", "saturated", "undecided")}
        histograms.append({**counts, "edges": edges.tolist(), "share": _shares(natural.clamp(-limit, limit), edges)})
    return histograms


def network_size(net: nn.Module, copies: int = 1) -> dict[str, int]:
    """Numbers and bytes of the parameters, `copies` times: as bits with scales, and of the float network (float32).

    >>> network_size(nn.Linear(4, 2))["bytes_as_float32"]
    40
    """
    found = summary(net)
    return {
        "binary_weights": copies * found.num_binary,
        "real_parameters": copies * found.num_real,
        "bytes_as_bits": copies * found.binary_bytes,
        "bytes_as_float32": copies * found.float_bytes,
    }


def _shares(values: Tensor, edges: Tensor) -> list[float]:
    """Shares of `values` between the edges, the last bin with its upper edge."""
    counts: Tensor = torch.histogram(values, edges).hist
    return (counts / len(values)).tolist()

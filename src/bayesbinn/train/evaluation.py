"""Evaluate a network on labelled data: the mode, and the mean of S posterior samples."""

from typing import Any

from torch import nn

from .. import metrics
from ..posterior import has_posterior, posterior_summary
from ..predict import predict
from .data import Split
from .errors import UserError


def evaluate(net: nn.Module, split: Split, num_samples: int = 32, seed: int = 0) -> dict[str, Any]:
    """Accuracy (in [0, 1]), NLL (nats) and ECE (in [0, 1]) of the mode and, where there is a posterior, of the mean.

    Args:
        net: takes the inputs as they are in `split`.
        split: N labelled examples.
        num_samples: S of the mean; 0 leaves the mean out, as does a network without a posterior.
        seed: of the posterior draws.

    Returns:
        {"num_examples": N, "mode": {...}, "mean": {...} or None, "num_samples": S, "posterior": {...} or None};
        "posterior" holds the averages over all weights of `posterior_summary`.
    """
    sampled = num_samples > 0 and has_posterior(net)
    result: dict[str, Any] = {"num_examples": len(split), "num_samples": num_samples if sampled else 0}
    for name, samples in (("mode", 0), ("mean", num_samples if sampled else None)):
        if samples is None:
            result[name] = None
            continue
        prediction = predict(net, split.x, samples, seed=seed)
        probs, labels = prediction.probs.cpu(), split.y.cpu()
        if not bool(probs.isfinite().all()):
            raise UserError(f"the network's {name} prediction is not finite: its weights or the inputs hold NaN")
        result[name] = {
            "accuracy": metrics.accuracy(probs, labels),
            "nll": metrics.nll(probs, labels),
            "ece": metrics.ece(probs, labels),
        }
    result["posterior"] = None
    if has_posterior(net):
        total = posterior_summary(net).total
        result["posterior"] = {
            "num_weights": total.num_weights,
            "entropy": total.entropy,
            "undecided": total.undecided,
            "saturated": total.saturated,
        }
    return result

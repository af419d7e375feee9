"""Evaluate a network on labelled data: the mode, the mean of S posterior samples, and how sure they are where."""

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from .. import metrics
from ..data import Examples
from ..errors import UserError
from ..nn import NextToken, likelihood_of
from ..posterior import has_posterior, posterior_summary
from ..prediction import Prediction
from . import classes, numbers, text
from .corruptions import LEVELS, corrupt
from .figures import entropy_histograms
from .ood import compare
from .voters import Voters, make_voters

CURVE = ("accuracy", "nll", "ece")  # names in `metrics`
CORRUPTED = 2000  # inputs that are corrupted, 15 times over: enough for a curve


def evaluate(net: nn.Module, split: Examples, num_samples: int = 32, seed: int = 0) -> dict[str, Any]:
    """Accuracy (in [0, 1]), NLL (nats), ECE and more of the mode and, where there is a posterior, of the mean.

    Of a regression: RMSE, NLL, R² and the coverage of its intervals.  Of text: bits per byte, and NLL per token.

    Args:
        net: takes the inputs as they are in `split`.
        split: N labelled examples.
        num_samples: S of the mean; 0 leaves the mean out, as does a network without a posterior.
        seed: of the posterior draws.

    Returns:
        As `evaluate_voters`, without its figures.
    """
    result = evaluate_voters(make_voters([net], num_samples, seed=seed), split)
    del result["figures"]
    return result


def evaluate_voters(
    voters: Voters,
    split: Examples,
    *,
    ood: Mapping[str, Tensor] = MappingProxyType({}),
    corruptions: bool = False,
    held_out: Examples | None = None,
) -> dict[str, Any]:
    """Everything that `bayesbinn evaluate` prints and `report.html` shows, as plain numbers.

    Args:
        voters: whose predictions.
        split: N labelled examples.
        ood: inputs of another kind by name, of the same shape.
        corruptions: also evaluate 2,000 examples, always the same, under noise, blur and rotation at five strengths.
        held_out: labelled examples outside training and `split`, to fit the temperature of the output on.

    Returns:
        {"task", "num_examples": N, "num_samples": S, "voters": in words, "batch_norm": "shared" or "own",
        "mode": {"accuracy", "nll", "brier", "ece", "classwise_ece", "aurc"}, or of a regression {"rmse", "nll", "r2",
        "coverage_50", "coverage_90"}, or of text {"bits_per_byte", "nll" (per token), "perplexity"},
        "mean": the same or None,
        "curve": some of these for 0 (the mode), 1, 2, 4, ..., S networks,
        "posterior": averages over all weights of `posterior_summary`, or None,
        "scaled": {"temperature", and the metrics under it}, "ood": {name: see `ood.compare`},
        "corruptions": {kind: [strength 0, ..., 5]}, "figures": what the report draws}; the last three are empty
        where they were not asked for.

    Raises:
        UserError: for a prediction that is not finite, corruptions of inputs that are not images, or, of a regression,
            anything that is asked of class probabilities.
    """
    asked = {"ood": ood, "corruptions": corruptions, "scale": held_out}
    for name, value in asked.items() if voters.task != "classification" else ():
        if value:
            raise UserError(
                f"{name} compares class probabilities, this network predicts {PREDICTS[voters.task]}: leave it out"
            )
    if voters.task == "text":
        return _of_text(voters, split)
    task, labels = TASKS[voters.task], split.y.cpu()
    mode = _checked(voters.mode(split.x), "mode")
    mean = None
    curve = [task.point(mode, labels, 0)]
    for prediction in voters.running(split.x):
        count = prediction.num_samples
        if count == voters.num_samples or count & (count - 1) == 0:
            mean = _checked(prediction, "mean")
            curve.append(task.point(mean, labels, count))
    best = mean or mode
    outside = {name: (_checked(voters.mode(x), "mode"), _checked(voters.best(x), "mean")) for name, x in ood.items()}
    drawn = {"mode": mode} | ({"mean": mean} if mean else {})
    figures = task.figures(drawn, best, labels)
    if outside:
        figures["entropy"] = entropy_histograms({"in": best} | {n: of_best for n, (_, of_best) in outside.items()})
    return {
        "task": voters.task,
        "num_examples": len(split),
        "num_samples": voters.num_samples,
        "voters": voters.label,
        "batch_norm": "shared" if voters.calibration is None else "own",
        "mode": task.summary(mode, labels),
        "mean": task.summary(mean, labels) if mean else None,
        "curve": curve,
        "posterior": _posterior(voters),
        "scaled": _scaled(voters, best, labels, held_out) if held_out is not None else {},
        "ood": {
            name: {
                "num_examples": len(of_best.probs),
                "mode": compare(mode, of_mode),
                "mean": compare(mean, of_best) if mean else None,
            }
            for name, (of_mode, of_best) in outside.items()
        },
        "corruptions": _corruptions(voters, split) if corruptions else {},
        "figures": figures,
    }


def _of_text(voters: Voters, split: Examples) -> dict[str, Any]:
    if voters.kind != "posterior":
        raise UserError(f"voters {voters.kind!r} are for classes and numbers, this network predicts text: leave it out")
    net = voters.nets[0]
    likelihood = likelihood_of(net)
    assert isinstance(likelihood, NextToken)
    found = text.evaluate_text(net, split, voters.num_samples, float(likelihood.bytes_per_token), voters.seed)
    return {
        "task": voters.task,
        "num_examples": len(split),
        "num_tokens": split.y.numel(),
        "voters": voters.label,
        "batch_norm": "shared",
        **found,
        "posterior": _posterior(voters),
        **{name: {} for name in ("scaled", "ood", "corruptions", "figures")},
    }


PREDICTS = {"regression": "a number", "text": "text"}


@dataclasses.dataclass(frozen=True)
class Task:
    """What is measured of the predictions of one task: `curve` names the metrics that are drawn against S."""

    summary: Callable[[Any, Tensor], dict[str, float]]
    figures: Callable[[Mapping[str, Any], Any, Tensor], dict[str, Any]]
    curve: tuple[str, ...]

    def point(self, prediction: Any, y: Tensor, count: int) -> dict[str, float]:
        """A point of the curve."""
        found = self.summary(prediction, y)
        return {"samples": count, **{name: found[name] for name in self.curve}}


TASKS = {
    "classification": Task(classes.summary, classes.figures, CURVE),
    "regression": Task(numbers.summary, numbers.figures, ("rmse", "nll", "coverage_90")),
}


def _scaled(voters: Voters, best: Prediction, labels: Tensor, held_out: Examples) -> dict[str, float]:
    fitted = _checked(voters.best(held_out.x), "held-out")
    temperature = metrics.fit_temperature(fitted.probs.cpu(), held_out.y.cpu())
    scaled = classes.of_probs(metrics.scale_probs(best.probs, temperature), labels, *classes.ALL)
    return {"temperature": temperature, "num_held_out": len(held_out), **scaled}


def _corruptions(voters: Voters, split: Examples) -> dict[str, list[dict[str, float]]]:
    # at random, as files may have one class after the other
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:CORRUPTED].sort().values
    x, labels = split.x[chosen.to(split.x.device)], split.y.cpu()[chosen]
    untouched = _corrupted_point(_checked(voters.best(x.float()), "mean"), labels, 0, 0.0)
    found = {}
    for kind, levels in LEVELS.items():
        # all strengths in one pass: the networks are drawn, and their batch norm re-estimated, once
        damaged = torch.cat([corrupt(x, kind, strength) for strength in range(1, 6)])
        prediction = _checked(voters.best(damaged), "mean")
        found[kind] = [untouched]
        for i, level in enumerate(levels):
            part = slice(i * len(x), (i + 1) * len(x))
            found[kind].append(_corrupted_point(_part(prediction, part), labels, i + 1, level))
    return found


def _part(prediction: Prediction, part: slice) -> Prediction:
    fields = {f.name: getattr(prediction, f.name) for f in dataclasses.fields(prediction)}
    parts: dict[str, Any] = {k: v[part] if isinstance(v, Tensor) else v for k, v in fields.items()}
    return Prediction(**parts)


def _corrupted_point(prediction: Prediction, labels: Tensor, strength: int, level: float) -> dict[str, float]:
    point = classes.of_probs(prediction.probs, labels, *CURVE)
    uncertainty = {name: float(getattr(prediction, name).mean()) for name in ("entropy", "mutual_information")}
    return {"strength": strength, "level": level, "num_examples": len(labels), **point, **uncertainty}


def _posterior(voters: Voters) -> dict[str, Any] | None:
    if voters.kind != "posterior" or not has_posterior(voters.nets[0]):
        return None
    total = posterior_summary(voters.nets[0]).total
    return {name: getattr(total, name) for name in ("num_weights", "entropy", "undecided", "saturated")}


def _checked(prediction: Any, what: str) -> Any:
    values = [v for v in vars(prediction).values() if isinstance(v, Tensor)]
    if not all(bool(v.isfinite().all()) for v in values):
        raise UserError(f"the network's {what} prediction is not finite: its weights or the inputs hold NaN")
    return prediction

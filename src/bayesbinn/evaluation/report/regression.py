"""The sections of a regression's page, from plain numbers of `evaluate_voters`."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .charts import Axis, Series, chart
from .page import Section, Table, number, percent
from .uncertainty import called, samples

LEAST = 6  # certain inputs that are listed
EXPLAINED = (
    "RMSE: root of the mean squared error, in the target's units. NLL: negative log likelihood of the target under a "
    "normal distribution, in nats. R²: share of the variance explained. The intervals should hold 50 % and 90 % of the "
    "targets."
)


def sections(evaluation: dict[str, Any]) -> list[Section | None]:
    """Predictions beside targets, whether intervals hold, how many networks it takes."""
    return [_scatter(evaluation), _coverage(evaluation), samples(evaluation)]


def ends(evaluation: dict[str, Any], inputs: Tensor, names: Sequence[str]) -> list[Section | None]:
    """The inputs that the networks differ on most."""
    return [_least(evaluation)]


def tiles(m: dict[str, float], voters: str) -> list[tuple[str, str, str]]:
    """The figures above the page."""
    return [
        ("RMSE", number(m["rmse"]), voters),
        ("R²", f"{m['r2']:.4f}", "1 is perfect"),
        ("90 % interval", percent(m["coverage_90"], 1), "of the targets are in it"),
    ]


def _scatter(evaluation: dict[str, Any]) -> Section:
    found = evaluation["figures"]["scatter"]
    low, high = (f(found["predicted"] + found["target"]) for f in (min, max))
    lines = [
        Series("perfect", [low, high], [low, high], "guide"),
        Series("test examples", found["predicted"], found["target"], "dots"),
    ]
    m = evaluation["mean"] or evaluation["mode"]
    words = f"{len(found['target'])} test examples; RMSE {number(m['rmse'])}, R² {m['r2']:.4f}."
    figure = chart("Predicted and measured", words, lines, Axis("predicted", low, high), Axis("measured"))
    return Section("scatter", "Predictions beside targets", "On the dotted line they are equal.", [figure])


def _coverage(evaluation: dict[str, Any]) -> Section:
    found, noise = evaluation["figures"]["coverage"], evaluation["figures"]["noise"]
    lines = [Series("perfect", [0, 1], [0, 1], "guide")]
    lines += [Series(called(evaluation, name), found["levels"], shares) for name, shares in found["shares"].items()]
    best = evaluation["mean"] or evaluation["mode"]
    half, most = (percent(best[f"coverage_{level}"], 1) for level in (50, 90))
    differ = number(evaluation["figures"]["epistemic"])
    words = (
        f"Of the targets {half} are in the 50 % interval, {most} in the 90 % interval. The noise of the data is "
        f"{number(noise)}, the networks differ by {differ} (standard deviations, in the target's units)."
    )
    x, y = Axis("share that the interval should hold", 0, 1), Axis("share that it holds", 0, 1)
    figure = chart("Intervals", words, lines, x, y)
    text = "Below the dotted line the network is too sure of itself, above it not sure enough."
    return Section("calibration", "Do the intervals hold?", text, [figure])


def _least(evaluation: dict[str, Any]) -> Section | None:
    found = evaluation["figures"]["scatter"]
    if not any(found["epistemic"]):
        return None
    order = sorted(range(len(found["index"])), key=lambda i: -found["epistemic"][i])[:LEAST]
    keys = ("predicted", "target", "epistemic")
    rows = [[str(found["index"][i]), *(number(found[key][i]) for key in keys)] for i in order]
    table = Table("Test examples", ["index", "predicted", "measured", "networks differ by"], rows)
    return Section("examples", "Least certain", "Where the networks disagree most.", table=table)

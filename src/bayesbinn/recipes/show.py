"""What stored results hold, as a table for the terminal."""

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UserError

BUDGETS = ("paper", "gpu", "day", "smoke")  # the largest first
METRICS = {"accuracy": 100.0, "rmse": 1.0, "bits_per_byte": 1.0, "nll": 1.0, "ece": 1.0}


def find_results(folder: Path, item: str, budget: str | None) -> Path:
    """The stored results of an item; of the largest budget that has any, if none is named.

    Raises:
        UserError: if there are none, saying how to make them.
    """
    budgets = [budget] if budget else BUDGETS
    for name in budgets:
        if (path := folder / f"{item}-{name}.json").exists():
            return path
    which = f" --budget {budget}" if budget else ""
    raise UserError(f"no results of {item}{which} are stored in {folder}: make them by reproduce {item}{which} --again")


def show(path: Path) -> list[list[str]]:
    """The rows of the table of a results file, its head first.

    Raises:
        UserError: if the file holds no table.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}: restore it from a copy") from None
    if "summary" in content:
        return _rows(content["summary"])
    if "quality" in content:  # of gradient estimators, by activation
        return _rows(
            {f"{name}, {act}": [_at_one(at)] for act, of in content["quality"].items() for name, at in of.items()}
        )
    runs = next((content[key] for key in ("runs", "results", "evaluations") if key in content), None)
    if isinstance(runs, list):
        names = dict.fromkeys(run["settings"]["run"] for run in runs)
        runs = {name: dict(enumerate(run for run in runs if run["settings"]["run"] == name)) for name in names}
    if runs is None:
        raise UserError(f"{path} holds no table: read it, or the page in docs/ that is made of it")
    return _rows({name: [_numbers(run) for run in seeds.values()] for name, seeds in runs.items()})


def made_by(path: Path) -> str:
    """ " on PROCESSOR, torch VERSION" of the first run of a results file; nothing where it is not stored."""
    content = json.loads(path.read_text(encoding="utf-8"))
    made = _first(content, "environment") or {}
    words = [f"on {made['cpu']}"] if made.get("cpu") else []
    words += [f"torch {made['torch']}"] if made.get("torch") else []
    return f" ({', '.join(words)})" if words else ""


def _first(content: Any, key: str) -> Any:
    """The value of a key, wherever it comes first."""
    if isinstance(content, dict) and key in content:
        return content[key]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return next((found for part in parts if (found := _first(part, key)) is not None), None)


def _at_one(measured: list[dict[str, float]]) -> dict[str, float]:
    """Bias, deviation and cosine of an estimator's gradient at the |λ| nearest to 1."""
    at = min(measured, key=lambda one: abs(one["magnitude"] - 1))
    return {f"{name}, |λ| {at['magnitude']:g}": at[name] for name in ("bias", "std", "cosine")}


def _numbers(run: dict[str, Any]) -> dict[str, float]:
    """The numbers of one run that a table shows, by their heads."""
    if "metrics" in run:
        return {name.replace("_", " "): value for name, value in run["metrics"].items() if isinstance(value, float)}
    evaluation = run.get("evaluation", run)
    found = {}
    for metric, factor in METRICS.items():
        for which in ("mode", "mean"):
            if evaluation.get(which) and metric in evaluation[which]:
                unit = " %" if factor == 100 else ""
                found[f"{metric.replace('_', ' ')}{unit}, {which}"] = factor * evaluation[which][metric]
    return found


def _rows(runs: dict[str, list[dict[str, float]]]) -> list[list[str]]:
    heads = list(dict.fromkeys(head for seeds in runs.values() for run in seeds for head in run))
    rows = [["run", "seeds", *heads]]
    for name, seeds in runs.items():
        cells = [_spread([run[head] for run in seeds if isinstance(run.get(head), (int, float))]) for head in heads]
        rows.append([name, str(len(seeds)), *cells])
    return rows


def _spread(values: Iterable[float]) -> str:
    """Mean ± sample standard deviation, with four figures."""
    found = list(values)
    if not found:
        return "–"
    mean = f"{statistics.fmean(found):.4g}"
    return f"{mean} ± {statistics.stdev(found):.2g}" if len(found) > 1 else mean

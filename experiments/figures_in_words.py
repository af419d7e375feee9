"""Figures as the pages write them, and those that others have published."""

import statistics
import sys
from collections.abc import Callable
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).resolve().parent


def spread(values: list[float], form: Callable[[float], str]) -> str:
    """Mean ± sample standard deviation; the value alone for one seed."""
    mean = form(statistics.fmean(values))
    return f"{mean}\u00a0±\u00a0{form(statistics.stdev(values))}" if len(values) > 1 else mean


def percent(value: float) -> str:
    return f"{100 * value:.2f}"


def four(value: float) -> str:
    return f"{value:.4f}"


def three(value: float) -> str:
    return f"{value:.3f}"


def one(value: float) -> str:
    return f"{value:.1f}"


def published(item: str) -> list[str]:
    """The published figures for an item, if there are any."""
    figures = tomllib.loads((HERE / "published.toml").read_text(encoding="utf-8")).get(item)
    if figures is None:
        return []
    network = figures.pop("network")
    rows = [f"| {source} | {value} |" for source, value in figures.items()]
    return ["", f"Published, {network}, 500 epochs:", "", "| source | test accuracy % |", "|---|---|", *rows]

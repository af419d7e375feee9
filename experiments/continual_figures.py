"""The figures of docs/continual.md, from the results that continual_tables.py loads."""

import itertools
import math
import statistics
import string
from pathlib import Path
from typing import Any

from bayesbinn.training.config import read_toml
from experiments.figure_style import PAPER, SOFT, legend, line, panel

ROOT = Path(__file__).resolve().parent.parent
BOTH = {"prior": "prior carried over", "naive": "no prior carried over"}

Seeds = dict[str, dict[str, Any]]


def of_five(results: dict[str, Any], folder: Path) -> list[str]:
    """Accuracy on each task as training goes on, as curves and as a matrix, with the prior carried over and without."""
    made = []
    for name, title in BOTH.items():
        matrix = mean_matrix(results["results"][name])
        tasks = range(1, len(matrix) + 1)
        labels = {"title": title, "xlabel": "after training on task", "xticks": tasks, "ylabel": "test accuracy %"}
        path = folder / f"continual-curves-{name}.svg"
        with panel(path, **labels, ylim=(0, 112), yticks=range(0, 101, 20)) as axes:
            for j in range(len(matrix)):
                rows = range(j, len(matrix))
                style = line(j)
                axes.plot([i + 1 for i in rows], [matrix[i][j] for i in rows], **style)
                axes.annotate(f"{j + 1}", (j + 1, matrix[j][j]), (0, 5), textcoords="offset points", ha="center")
        made.append(f"![accuracy on each task, {title}](figures/{path.name})")
    for name, title in BOTH.items():
        matrix = mean_matrix(results["results"][name])
        path = folder / f"continual-matrix-{name}.svg"
        labels = {"title": f"{title}, %", "xlabel": "accuracy on task", "ylabel": "after training on task"}
        with panel(path, height=215, **labels, xticks=tasks, yticks=tasks) as axes:
            edges = [i + 0.5 for i in range(len(matrix) + 1)]
            axes.pcolormesh(edges, edges, matrix, vmin=0, vmax=100, cmap="Blues")
            axes.grid(False)
            for i, row in enumerate(matrix):
                for j, value in enumerate(row):
                    colour = "white" if value > 60 else "black"
                    axes.text(j + 1, i + 1, f"{value:.0f}", ha="center", va="center", color=colour)
            axes.invert_yaxis()
        made.append(f"![accuracy matrix, {title}](figures/{path.name})")
    return made


def of_hundred(results: dict[str, Any], folder: Path) -> list[str]:
    """Last-5 against all-100 over the window, and the published averages as lines: each is known on one axis only."""
    points: dict[str, tuple[list[float], list[float]]] = {}
    groups: dict[str, list[str]] = {}  # strategy and batch size -> runs
    lines: list[tuple[str, str, float]] = []  # name, axis, value
    for name, seeds in results["results"].items():
        every = [run["metrics"] for run in seeds.values()]
        config = next(iter(seeds.values()))["config"]
        if config["strategy"] == "joint":
            ceiling = 100 * statistics.fmean(m["mean_average"] for m in every)
            lines.append((f"{config['tasks']} tasks at once (ours)", "y", ceiling))
            continue
        points[name] = [100 * m["mean_average"] for m in every], [100 * m["mean_last_5"] for m in every]
        average = "" if config.get("momentum") else " without momentum"
        groups.setdefault(f"{config['strategy']}{average}, batch {config['batch_size']}", []).append(name)
    published = read_toml(ROOT / "experiments/published.toml")["continual-hundred"]
    published.pop("network")
    lines += [(f"{name} (published)", "y" if "last 5" in name else "x", float(v)) for name, v in published.items()]

    path, names = folder / "continual-window.svg", folder / "continual-window-names.svg"
    styles = {group: line(i) for i, group in enumerate(sorted(groups))}
    labels = {"xlabel": "average over all 100 tasks %", "ylabel": "average over the last 5 %"}
    with panel(path, height=230, **labels, xlim=(0, 60), ylim=(0, 100)) as axes:
        for group, members in groups.items():
            members.sort(key=lambda n: window_of(results["results"][n]))
            means = [tuple(map(statistics.fmean, points[name])) for name in members]
            axes.plot(*zip(*means, strict=True), **{**styles[group], "marker": ""}, lw=1)
            for name in members:
                axes.plot(*points[name], **{**styles[group], "ls": ""})
        for i, (letter, (_, axis, value)) in enumerate(zip(string.ascii_lowercase, lines, strict=False)):
            (axes.axhline if axis == "y" else axes.axvline)(value, lw=0.8, color=SOFT, ls=":")
            at = (59 - i % 3 * 4, value) if axis == "y" else (value, 4)
            axes.annotate(letter, at, ha="right", va="center", bbox={"fc": PAPER, "ec": "none", "pad": 1})
    legend(names, styles)
    letters = zip(string.ascii_lowercase, lines, strict=False)
    return [
        f"![which mark is which](figures/{names.name})",
        f"![last 5 tasks against all 100](figures/{path.name})",
        "",
        "A point is a seed; along a line the window grows from left to right. Dotted lines are known on one axis only: "
        + "; ".join(f"*{letter}* {name}, {value:.1f} %" for letter, (name, _, value) in letters)
        + ". Ours: ReLU units; published: binary units, batch 1.",
    ]


def of_thousand(results: dict[str, Any], folder: Path) -> list[str]:
    """Over a thousand tasks: what is learned and kept, how fast it is forgotten, how well unknown inputs stand out."""
    every = {name: next(iter(seeds.values())) for name, seeds in results["results"].items()}
    styles = {name: {**line(i), "marker": ""} for i, name in enumerate(every)}
    names = folder / "continual-thousand-names.svg"
    paths = {part: folder / f"continual-thousand-{part}.svg" for part in ("learned", "kept", "forgotten", "unknown")}
    legend(names, styles)
    shown = {part: {name: found[part] for name, found in panels_of(every).items()} for part in paths}
    labels: dict[str, dict[str, Any]] = {
        "learned": {"title": "a task, just after it", "xlabel": "after task", "ylabel": "accuracy %", "ylim": (0, 100)},
        "kept": {"title": "the latest five tasks", "xlabel": "after task", "ylabel": "accuracy %", "ylim": (0, 100)},
        "forgotten": {
            **{"title": "all tasks, at the end", "xlabel": "tasks learned since", "xscale": "log"},
            **{"ylabel": "accuracy %", "ylim": (0, 100)},
        },
        "unknown": {
            "title": "Fashion-MNIST against the task",
            "xlabel": "after task",
            "ylabel": "AUROC by entropy",
            "ylim": (0.5, 1),
        },
    }
    texts = {
        "learned": "accuracy on each task just after it, averages of 20 tasks",
        "kept": "accuracy on the latest five tasks, averages of 20 tasks",
        "forgotten": "accuracy after the last task against the age of the task",
        "unknown": "AUROC of Fashion-MNIST against the task just learned, averages of 20 tasks",
    }
    for part, path in paths.items():
        with panel(path, **labels[part]) as axes:
            for name, (x, y) in shown[part].items():
                axes.plot(x, y, **styles[name])
    return [
        f"![which line is which](figures/{names.name})",
        *(f"![{texts[part]}](figures/{path.name})" for part, path in paths.items()),
    ]


def panels_of(every: dict[str, Any]) -> dict[str, dict[str, tuple[list[float], list[float]]]]:
    """x and y of each panel of `of_thousand`, for each run."""
    found = {}
    for name, run in every.items():
        rows = list(zip(run["matrix"], run["first"], strict=True))[:-1]  # the last has all tasks
        tasks, final = len(run["matrix"]), run["mean_row"]
        middles = [start + 10 for start in range(0, tasks - 20 + 1, 20)]
        series = {
            "learned": [100 * row[i - first] for i, (row, first) in enumerate(rows)],
            "kept": [100 * statistics.fmean(row[: i - first + 1]) for i, (row, first) in enumerate(rows)],
            "unknown": [line["ood_auroc"] for line in run["tasks"]],
        }
        panels = {
            part: ([float(m) for m in middles], [statistics.fmean(values[m - 10 : m + 10]) for m in middles])
            for part, values in series.items()
        }
        spans = sorted({round(1.5**k) for k in range(int(math.log(tasks, 1.5)) + 1)} | {tasks})
        ages = list(itertools.pairwise(spans))
        kept = [100 * statistics.fmean(final[tasks - old + 1 : tasks - new + 1]) for new, old in ages]
        found[name] = {**panels, "forgotten": ([math.sqrt(new * old) for new, old in ages], kept)}
    return found


def mean_matrix(seeds: Seeds) -> list[list[float]]:
    """The accuracy matrix in percent, averaged over seeds."""
    matrices = [run["matrix"] for run in seeds.values()]
    tasks = range(len(matrices[0]))
    return [[100 * statistics.fmean(m[i][j] for m in matrices) for j in tasks] for i in tasks]


def window_of(seeds: Seeds) -> float:
    """The window of a run, in examples."""
    return float(next(iter(seeds.values()))["config"]["window"])

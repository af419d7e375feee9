"""The figures of docs/at-once.md."""

import statistics
from pathlib import Path
from typing import Any

from bayesbinn.training.methods import BayesOptions
from experiments.at_once import DIAL, MEMBERS, TASKS
from experiments.at_once_page import LABELS, Seeds, grouped, values
from experiments.figure_style import SOFT, legend, line, panel

CURVES = ("bayesbinn", "ste", "bop", "md-tanh", "adaste", "float")


def draw(stored: dict[str, Any], folder: Path) -> list[str]:
    """Draw all; the images of a page in docs/, with words between the groups."""
    return [*methods(stored, folder), *dial(stored, folder), *modes(stored, folder), *curves(stored, folder)]


def image(text: str, path: Path) -> str:
    return f"![{text}](figures/{path.name})"


def average(seeds: Seeds, which: str, metric: str) -> float:
    return statistics.fmean(values(seeds, which, metric))


def methods(stored: dict[str, Any], folder: Path) -> list[str]:
    """A panel a task: accuracy against NLL of every row of its table."""
    found = grouped(stored)
    shown = [label for label in LABELS if any(label in runs for runs in found.values())]
    styles = {label: {**line(i), "ls": ""} for i, label in enumerate(shown)}
    names = folder / "at-once-names.svg"
    legend(names, styles)
    made = [image("which mark is which method", names)]
    for task, runs in found.items():
        path = folder / f"at-once-{task}.svg"
        labels = {"title": TASKS[task].title.split(",")[0], "xlabel": "NLL (nats)", "ylabel": "test accuracy %"}
        with panel(path, **labels) as axes:
            axes.locator_params(axis="x", nbins=4)
            for label, seeds in runs.items():
                which = "mean" if seeds[0]["mean"] else "mode"
                axes.plot(average(seeds, which, "nll"), 100 * average(seeds, which, "accuracy"), **styles[label])
        made.append(image(f"accuracy against NLL, {TASKS[task].title}", path))
    return made


def dial(stored: dict[str, Any], folder: Path) -> list[str]:
    """What `kl_weight` does to accuracy and NLL, one seed of Fashion-MNIST at 5 epochs."""
    own = stored["evaluations"]
    at = {BayesOptions.kl_weight: own.get("fashion-5 | bayesbinn | 0")}
    at |= {kl: own.get(f"fashion-5 | bayesbinn-kl-{kl:g} | 0") for kl in DIAL}
    points = [(kl, result) for kl, result in sorted(at.items()) if result]
    if len(points) < 3:
        return []
    made = []
    for metric, factor, label in (("accuracy", 100, "test accuracy %"), ("nll", 1, "NLL (nats)"), ("ece", 1, "ECE")):
        path = folder / f"at-once-dial-{metric}.svg"
        with panel(path, title="Fashion-MNIST, 5 epochs", xlabel="kl_weight", ylabel=label) as axes:
            axes.set_xscale("log")
            for i, which in enumerate(("mode", "mean")):
                axes.plot(
                    [kl for kl, _ in points], [factor * r[which][metric] for _, r in points], **line(i), label=which
                )
            axes.axvline(BayesOptions.kl_weight, color=SOFT, ls=":", lw=1)
            axes.legend()
        made.append(image(f"{label} of mode and mean over kl_weight", path))
    return [
        "",
        "The dial, `--kl-weight`: how sure the posterior may get. The dotted line is the default. One seed.",
        "",
        *made,
    ]


def modes(stored: dict[str, Any], folder: Path) -> list[str]:
    """NLL and AUROC over the number of posteriors of one run, MNIST."""
    found = grouped(stored)["mnist"]
    names = {1: "bayesbinn", 2: "bayesbinn-modes-2", MEMBERS: "bayesbinn-modes", 10: "bayesbinn-modes-10"}
    points = [(k, found[name]) for k, name in names.items() if name in found]
    if len(points) < 3:
        return []
    made = []
    for label, of in (
        ("NLL of the mean (nats)", lambda seeds: average(seeds, "mean", "nll")),
        ("AUROC, Fashion-MNIST", lambda seeds: statistics.fmean(max(r["auroc"].values()) for r in seeds)),
    ):
        path = folder / f"at-once-modes-{label.split(' ')[0].rstrip(',').lower()}.svg"
        labels = {"title": "MNIST, 20 epochs in all", "xlabel": "posteriors of one run", "ylabel": label}
        with panel(path, **labels, xticks=[k for k, _ in points]) as axes:
            axes.plot([k for k, _ in points], [of(seeds) for _, seeds in points], **line(0))
        made.append(image(f"{label} over the number of posteriors", path))
    said = (
        "The number of posteriors that share the epochs of one run. One posterior is the default, which computes with "
        "mean weights; several draw."
    )
    return ["", said, "", *made]


def curves(stored: dict[str, Any], folder: Path) -> list[str]:
    """Test accuracy of the mode after each epoch, seed 0."""
    made = []
    styles = {f"{name}": {**line(i), "marker": ""} for i, name in enumerate(CURVES)}
    for task, t in TASKS.items():
        runs = {name: stored["evaluations"].get(f"{task} | {name} | 0", {}).get("curve") for name in CURVES}
        runs = {name: curve for name, curve in runs.items() if curve}
        if len(runs) < 3:
            continue
        path = folder / f"at-once-curves-{task}.svg"
        labels = {"title": t.title.split(",")[0], "xlabel": "epoch", "ylabel": "test accuracy %"}
        with panel(path, **labels) as axes:
            for name, curve in runs.items():
                axes.plot(range(1, len(curve) + 1), [100 * v for v in curve], **styles[name])
            top = 100 * max(v for curve in runs.values() for v in curve)
            axes.set_ylim(top - 12, top + 1)
        made.append(image(f"test accuracy of the mode after each epoch, {t.title}", path))
    if not made:
        return []
    names = folder / "at-once-curves-names.svg"
    legend(names, styles)
    return [
        "",
        "Learning curves: test accuracy of the mode after each epoch, seed 0.",
        "",
        image("which line is which", names),
        *made,
    ]

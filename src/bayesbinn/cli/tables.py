"""Plain tables for the terminal."""

from collections.abc import Sequence
from typing import Any


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns: the first to the left, the others to the right.

    >>> table([["layer", "bits"], ["1", "40,960"]])
    ['layer    bits', '1      40,960']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]


# of each task: the metrics that are printed, their heads and their form
SHOWN: dict[str, dict[str, tuple[str, str]]] = {
    "classification": {
        "accuracy": ("accuracy", "{:.2%}"),
        "nll": ("NLL (nats)", "{:.4f}"),
        "brier": ("Brier", "{:.4f}"),
        "ece": ("ECE", "{:.4f}"),
        "classwise_ece": ("classwise ECE", "{:.4f}"),
        "aurc": ("AURC", "{:.4f}"),
    },
    "regression": {
        "rmse": ("RMSE", "{:.4g}"),
        "nll": ("NLL (nats)", "{:.4f}"),
        "r2": ("R²", "{:.4f}"),
        "coverage_50": ("in 50 % interval", "{:.1%}"),
        "coverage_90": ("in 90 % interval", "{:.1%}"),
    },
    "text": {
        "bits_per_byte": ("bits per byte", "{:.4f}"),
        "nll": ("NLL (nats a token)", "{:.4f}"),
        "perplexity": ("perplexity", "{:.3f}"),
    },
}


FIGURES = {figure: shown[figure] for shown in SHOWN.values() for figure in [next(iter(shown))]}  # the first of each


def evaluation_lines(result: dict[str, Any]) -> list[str]:
    """The result of `evaluation.scores.evaluate_voters` as text."""
    trained = "trained" in result["voters"]  # an ensemble
    shown = SHOWN[result["task"]]
    rows = [["", *(name for name, _ in shown.values())]]
    named = [("first network" if trained else "mode", result["mode"])]
    if result["mean"] is not None:
        named.append((f"mean of {result['num_samples']}" if not trained else result["voters"], result["mean"]))
    if result.get("scaled"):
        named.append((f"temperature {result['scaled']['temperature']:.2f}", result["scaled"]))
    for label, m in named:
        rows.append([label, *(form.format(m[key]) if key in m else "-" for key, (_, form) in shown.items())])
    tokens = f" of {result['num_tokens']:,} tokens in all" if "num_tokens" in result else ""
    lines = [f"on {result['num_examples']:,} test examples{tokens}:", *table(rows)]
    lines += (
        _curve_lines(result["curve"], shown, trained)
        + _ood_lines(result["ood"])
        + _corruption_lines(result["corruptions"])
    )
    if result["mean"] is None and result["posterior"] is None:
        return [*lines, "no posterior: this method learns one network, so there is no mean and no model uncertainty"]
    if result["posterior"] is None:
        return lines
    p = result["posterior"]
    return [
        *lines,
        f"posterior of {p['num_weights']:,} weights: {p['undecided']:.1%} undecided (|λ| < 1), "
        f"{p['saturated']:.1%} saturated (|μ| > 0.99), entropy {p['entropy']:.3f} of 0.693 nats a weight",
    ]


def _curve_lines(curve: Sequence[dict[str, Any]], shown: dict[str, tuple[str, str]], trained: bool) -> list[str]:
    if len(curve) < 2:
        return []
    keys = [key for key in shown if key in curve[0]]
    rows = [["networks", *(shown[key][0] for key in keys)]]
    for point in curve:
        label = str(point["samples"]) if point["samples"] else "first alone" if trained else "mode"
        rows.append([label, *(shown[key][1].format(point[key]) for key in keys)])
    return ["", *table(rows)]


def _ood_lines(ood: dict[str, Any]) -> list[str]:
    if not ood:
        return []
    rows = [["out of distribution", "score", "AUROC", "FPR95"]]
    for name, found in ood.items():
        for which in ("mode", "mean"):
            for score, m in (found[which] or {}).items():
                rows.append([f"{name}, {which}", score.replace("_", " "), f"{m['auroc']:.4f}", f"{m['fpr95']:.1%}"])
    return ["", *table(rows)]


def _corruption_lines(corruptions: dict[str, Any]) -> list[str]:
    if not corruptions:
        return []
    rows = [["corruption", "strength", "accuracy", "NLL (nats)", "ECE", "entropy", "mutual information"]]
    for kind, points in corruptions.items():
        for p in points:
            numbers = (p["nll"], p["ece"], p["entropy"], p["mutual_information"])
            rows.append([kind, str(p["strength"]), f"{p['accuracy']:.1%}", *(f"{n:.4f}" for n in numbers)])
    return ["", *table(rows)]


def epoch_line(line: dict[str, Any], epochs: int) -> str:
    """One plain line about an epoch."""
    figure = next(name for name in FIGURES if name in line)
    name, form = FIGURES[figure]
    part = "test" if f"test_{figure}" in line else "validation"
    words = [
        f"epoch {line['epoch']}/{epochs}",
        f"loss {line['loss']:.4f}",
        f"nll {line['nll']:.4f}",
        *([f"kl {line['kl']:,.0f}"] if "kl" in line else []),
        f"{name} {form.format(line[figure])}",
        f"{part} {form.format(line[f'{part}_{figure}'])}",
        *([f"entropy {line['entropy']:.3f}"] if "entropy" in line else []),
        *([f"flips {line['flip_rate']:.2%}"] if line.get("flip_rate") is not None else []),
        f"{line['seconds']:.1f} s",
    ]
    return "  ".join(words)


def task_line(line: dict[str, Any], tasks: int) -> str:
    """One plain line about a task."""
    seen = line["accuracy"][: line["task"] - line["first"]]
    span = f"average of the last {len(seen)}" if line["first"] else "average so far"
    words = [
        f"task {line['task']}/{tasks}",
        f"accuracy {seen[-1]:.2%}",
        f"{span} {sum(seen) / len(seen):.2%}",
        *([f"entropy {line['entropy']:.3f}", f"saturated {line['saturated']:.1%}"] if "entropy" in line else []),
        *([f"OOD AUROC {line['ood_auroc']:.3f}"] if "ood_auroc" in line else []),
        f"{line['seconds']:.1f} s",
    ]
    return "  ".join(words)


def result_lines(result: dict[str, Any]) -> list[str]:
    """The final averages as text: over all tasks, the last 20 and the last 5."""
    m, samples = result["metrics"], result["config"]["samples"]
    rows = [["after the last task", "all tasks", "last 20", "last 5"]]
    for which, label in (("mean", f"mean of {samples}"), ("mode", "mode")):
        rows.append([label, *(f"{m[f'{which}_{span}']:.2%}" for span in ("average", "last_20", "last_5"))])
    history = {
        **{"when learned": ("learning", ".2%"), "forgetting": ("forgetting", ".2%")},
        **{"backward transfer": ("backward_transfer", "+.2%"), "forward transfer": ("forward_transfer", "+.2%")},
    }
    known = [f"{words} {m[name]:{form}}" for words, (name, form) in history.items() if name in m]
    return [*table(rows), ", ".join(known)]

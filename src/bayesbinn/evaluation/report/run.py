"""The page of a run, from plain numbers; a section without anything to show is left out."""

import base64
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...files import read_json_lines
from ..figures import natural_histograms, network_size
from . import regression, text
from .charts import Axis, Series, chart
from .classes import classes
from .made import made, size
from .page import Example, Figure, Page, Section, Table, number, percent
from .uncertainty import SCORES, best_score, calibration, called, corruptions, outside, samples, selective, weights

METRICS = {
    "bits_per_byte": "bits per byte",
    "perplexity": "perplexity (per token)",
    "rmse": "RMSE",
    "r2": "R²",
    "coverage_50": "share in the 50 % interval",
    "coverage_90": "share in the 90 % interval",
    "accuracy": "accuracy",
    "nll": "NLL (nats)",
    "brier": "Brier",
    "ece": "ECE",
    "classwise_ece": "classwise ECE",
    "aurc": "AURC",
}
SHARES = ("accuracy", "coverage_50", "coverage_90")
LOGGED = {"epoch", "loss", "nll"}  # in every line of metrics.jsonl


def run_page(
    runs: Sequence[Path],
    net: nn.Module,
    config: dict[str, Any],
    inputs: Tensor,
    evaluation: dict[str, Any],
    names: Sequence[str],
) -> Page:
    """The report of a run, or of an ensemble of several.

    Args:
        runs: the run's folder, or those of the ensemble's members; a run has its training in metrics.jsonl, and a line
            of it that cannot be read is left out and said so in the page's notes.
        net, config: of the (first) run; config its settings by name.
        inputs: the test inputs that the examples' indices point into; shown if they are images (N, C, H, W).
        evaluation: of `evaluation.evaluate_voters`.
        names: of the C classes.
    """
    alone = len(runs) == 1
    log, notes = read_json_lines(runs[0] / "metrics.jsonl", LOGGED) if alone else ([], [])
    bytes_of = network_size(net, copies=len(runs))
    sections = (
        _result(evaluation),
        _training(log),
        *PAGES[evaluation["task"]](evaluation),
        weights(natural_histograms(net), evaluation) if evaluation["posterior"] else None,
        *ENDS[evaluation["task"]](evaluation, inputs, names),
        made(config, bytes_of),
    )
    return Page(
        title=runs[0].resolve().name if alone else f"Ensemble of {len(runs)} runs",
        lead=f"{config['model']} on {config['data']}, trained with {config['method']}",
        tiles=_tiles(evaluation, bytes_of),
        sections=[section for section in sections if section],
        notes=notes,
    )


def _tiles(evaluation: dict[str, Any], bytes_of: dict[str, int]) -> list[tuple[str, str, str]]:
    m = evaluation["mean"] or evaluation["mode"]
    tiles = TILES[evaluation["task"]](m, evaluation["voters"])
    for name, scores in evaluation["ood"].items():
        score, found = best_score(scores)
        tiles.append((f"{name} detected", f"{found['auroc']:.3f}", f"AUROC by {SCORES[score]}"))
    real = size(bytes_of["bytes_as_float32"])
    if bytes_of["binary_weights"]:
        return [*tiles, ("Size as bits", size(bytes_of["bytes_as_bits"]), f"{real} as float32")]
    return [*tiles, ("Size", real, "float32")]


def _result(evaluation: dict[str, Any]) -> Section:
    columns = [(called(evaluation, "mode"), evaluation["mode"])]
    if evaluation["mean"]:
        columns.append((evaluation["voters"], evaluation["mean"]))
    if evaluation["scaled"]:
        columns.append((f"at temperature {evaluation['scaled']['temperature']:.2f}", evaluation["scaled"]))

    def cell(m: dict[str, float], key: str) -> str:
        if key not in m:
            return "–"
        return percent(m[key]) if key in SHARES else number(m[key]) if key == "rmse" else f"{m[key]:.4f}"

    known = evaluation["mode"]
    rows = [[label, *(cell(m, key) for _, m in columns)] for key, label in METRICS.items() if key in known]
    norm = "" if evaluation["batch_norm"] == "shared" else ", batch norm re-estimated for each network"
    text = EXPLAINED[evaluation["task"]]
    if evaluation["mean"] is None:
        text += " No posterior samples: this is one network, without a mean and without mutual information."
    table = Table(f"On {evaluation['num_examples']:,} test examples{norm}", ["", *(n for n, _ in columns)], rows)
    return Section("result", "Result", text, table=table)


def _training(log: Sequence[dict[str, Any]]) -> Section | None:
    if not log:
        return None
    last, x = log[-1], Axis("epoch")
    part = "validation" if "validation_nll" in last else "test"
    epochs = [float(entry["epoch"]) for entry in log]

    def line(name: str, key: str) -> Series:
        return Series(name, epochs, [float(entry.get(key, math.nan)) for entry in log])

    def pair(title: str, key: str, y: Axis, form: Callable[[float], str]) -> Figure:
        words = (
            f"After epoch {last['epoch']}: {form(last[key])} in training and {form(last[f'{part}_{key}'])} on {part} "
            "data (mode)."
        )
        return chart(title, words, [line("training", key), line(f"{part}, mode", f"{part}_{key}")], x, y)

    nats = Axis("nats per input")
    figures = [
        pair("Negative log likelihood", "nll", nats, "{:.4f}".format),
    ]
    if "accuracy" in last:
        figures.append(pair("Accuracy", "accuracy", Axis("share right", high=1), percent))
    elif "bits_per_byte" in last:
        figures.append(pair("Bits per byte", "bits_per_byte", Axis("bits per byte"), "{:.4f}".format))
    else:
        figures.append(pair("Error", "rmse", Axis("RMSE"), number))
    if "kl" in last:
        kl = Series("weighted KL", epochs, [float(entry["loss"] - entry["nll"]) for entry in log])
        words = (
            f"The loss ends at {last['loss']:.4f}, of which {kl.y[-1]:.4f} is the weighted KL "
            f"({last['kl']:,.0f} nats before weighting)."
        )
        figures.append(
            chart("Loss: likelihood and KL apart", words, [line("loss", "loss"), line("NLL", "nll"), kl], x, nats)
        )
        words = (
            f"At the end {percent(last['saturated'], 1)} of the weights are saturated (|μ| > 0.99) and "
            f"{percent(last['undecided'], 1)} undecided (|λ| < 1)."
        )
        lines = [line("saturated", "saturated"), line("undecided", "undecided")]
        figures.append(chart("How decided the weights are", words, lines, x, Axis("share of weights", 0, 1)))
    return Section("training", "Training", figures=figures)


def _examples(evaluation: dict[str, Any], inputs: Tensor, names: Sequence[str]) -> Section:
    low, high = float(inputs.min()), float(inputs.max())

    def example(entry: dict[str, Any]) -> Example:
        index, label, probs = entry["index"], names[entry["label"]], entry["probs"]
        order = sorted(range(len(probs)), key=lambda c: -probs[c])[:4]
        predicted = names[order[0]]
        sure = percent(probs[order[0]], 0)
        return Example(
            image=png((inputs[index] - low) / max(high - low, 1e-12)) if inputs.ndim == 4 else "",
            alt=f"Test image {index}, labelled {label}, predicted {predicted} at {sure}",
            verdict=f"{predicted}, right" if predicted == label else f"{predicted}, wrong: it is {label}",
            right=predicted == label,
            probs=[(names[c], probs[c]) for c in order],
        )

    chosen = evaluation["figures"]["examples"]
    groups = {
        title: [example(entry) for entry in chosen[name]]
        for name, title in (("least", "Least certain"), ("most", "Most certain"))
    }
    text = "By entropy, with the four most probable classes."
    return Section("examples", "Most and least certain", text, examples=groups)


def _classes(evaluation: dict[str, Any]) -> list[Section | None]:
    return [
        calibration(evaluation),
        samples(evaluation),
        selective(evaluation),
        outside(evaluation),
        corruptions(evaluation),
    ]


def _class_ends(evaluation: dict[str, Any], inputs: Tensor, names: Sequence[str]) -> list[Section | None]:
    return [*classes(evaluation, names), _examples(evaluation, inputs, names)]


def _class_tiles(m: dict[str, float], voters: str) -> list[tuple[str, str, str]]:
    return [
        ("Accuracy", percent(m["accuracy"]), voters),
        ("NLL", f"{m['nll']:.4f}", "nats per input"),
        ("Calibration error", f"{m['ece']:.4f}", "ECE, 15 bins"),
    ]


EXPLAINED = {
    "classification": (
        "NLL: negative log likelihood. Brier: squared error of the probabilities, 0 to 2. ECE: gap between confidence "
        "and accuracy. AURC: mean error rate over all shares answered. For all but accuracy, lower is better."
    ),
    "regression": regression.EXPLAINED,
    "text": text.EXPLAINED,
}
# of each task: the sections between training and weights, those after them, and the tiles above
PAGES: dict[str, Callable[[dict[str, Any]], Sequence[Section | None]]] = {
    "classification": _classes,
    "regression": regression.sections,
    "text": text.sections,
}
ENDS: dict[str, Callable[[dict[str, Any], Tensor, Sequence[str]], Sequence[Section | None]]] = {
    "classification": _class_ends,
    "regression": regression.ends,
    "text": text.ends,
}
TILES = {"classification": _class_tiles, "regression": regression.tiles, "text": text.tiles}


def png(image: Tensor) -> str:
    """`data:image/png;base64,...` of an image (C, H, W) in [0, 1]: C = 3 in colour, else the first channel in gray.

    >>> import torch
    >>> png(torch.zeros(1, 2, 2))[:27]
    'data:image/png;base64,iVBOR'
    """
    from PIL import Image  # slow to import

    pixels = (image.float() * 255).round().byte().cpu().numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0) if len(pixels) == 3 else pixels[0]).save(buffer, "png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")

"""The sections of the report, each from plain numbers to HTML; "" where there is nothing to show."""

import json
from collections.abc import Sequence
from html import escape
from typing import Any

from .charts import Axis, Series, steps
from .html import figure, percent, size, table, tag

SCORE_NAMES = {
    "entropy": "entropy",
    "mutual_information": "mutual information",
    "max_probability": "1 − largest probability",
}
METRICS = {
    "accuracy": "accuracy",
    "nll": "NLL (nats)",
    "brier": "Brier",
    "ece": "ECE",
    "classwise_ece": "classwise ECE",
    "aurc": "AURC",
}
EXPLAINED = (
    "NLL: negative log likelihood. Brier: squared error of the probabilities, 0 to 2. ECE: gap between confidence and "
    "accuracy. AURC: mean error rate over all shares answered. For all but accuracy, lower is better."
)


def best(evaluation: dict[str, Any]) -> dict[str, float]:
    """The mean's metrics, or the mode's where there is no mean."""
    chosen: dict[str, float] = evaluation["mean"] or evaluation["mode"]
    return chosen


def tiles(evaluation: dict[str, Any], network: dict[str, Any]) -> str:
    """The figures to remember."""
    m, voters = best(evaluation), evaluation["voters"]
    cells = [
        ("Accuracy", percent(m["accuracy"]), voters),
        ("NLL", f"{m['nll']:.4f}", "nats per input"),
        ("Calibration error", f"{m['ece']:.4f}", "ECE, 15 bins"),
    ]
    for name, scores in evaluation["ood"].items():
        score, found = _best_score(scores["mean"] or scores["mode"])
        cells.append((f"{name} detected", f"{found['auroc']:.3f}", f"AUROC by {SCORE_NAMES[score]}"))
    if network["binary_weights"]:
        cells.append(
            ("Size as bits", size(network["bytes_as_bits"]), f"{size(network['bytes_as_float32'])} as float32")
        )
    else:
        cells.append(("Size", size(network["bytes_as_float32"]), "float32"))
    items = "".join(
        f"<li>{tag('span', name, 'name')}{tag('span', value, 'value')}{tag('span', note, 'note')}</li>"
        for name, value, note in cells
    )
    return f'<ul class="tiles">{items}</ul>'


def result(evaluation: dict[str, Any]) -> str:
    """Mode and mean side by side."""
    columns = [("one network" if "trained" in evaluation["voters"] else "mode", evaluation["mode"])]
    if evaluation["mean"]:
        columns.append((evaluation["voters"], evaluation["mean"]))
    if evaluation["scaled"]:
        columns.append((f"at temperature {evaluation['scaled']['temperature']:.2f}", evaluation["scaled"]))

    def cell(m: dict[str, float], key: str) -> str:
        return "–" if key not in m else percent(m[key]) if key == "accuracy" else f"{m[key]:.4f}"

    rows = [[label, *(cell(m, key) for _, m in columns)] for key, label in METRICS.items()]
    norm = "" if evaluation["batch_norm"] == "shared" else ", batch norm re-estimated for each network"
    caption = f"On {evaluation['num_examples']:,} test examples{norm}"
    text = EXPLAINED
    if evaluation["mean"] is None:
        text += " No posterior samples: this is one network, without a mean and without mutual information."
    return f'{tag("p", text, "soft")}<div class="card">{table(["", *(n for n, _ in columns)], rows, caption)}</div>'


def training(log: Sequence[dict[str, Any]]) -> str:
    """Learning curves: likelihood and KL apart, accuracy, how decided the weights are."""
    if not log:
        return ""
    part = "validation" if "validation_nll" in log[-1] else "test"
    epochs = [float(line["epoch"]) for line in log]
    last = log[-1]
    x = Axis("epoch", 0 if len(epochs) > 1 else None)

    def line(name: str, key: str) -> Series:
        return Series(name, epochs, [float(entry[key]) for entry in log])

    words = (
        f"After {len(log)} epochs {last['nll']:.4f} in training and {last[f'{part}_nll']:.4f} on {part} data (mode)."
    )
    charts = [
        figure(
            "Negative log likelihood",
            words,
            [line("training", "nll"), line(f"{part}, mode", f"{part}_nll")],
            x,
            Axis("nats per input", 0),
        ),
        figure(
            "Accuracy",
            f"{percent(last['accuracy'])} in training, {percent(last[f'{part}_accuracy'])} on {part} data (mode).",
            [line("training", "accuracy"), line(f"{part}, mode", f"{part}_accuracy")],
            x,
            Axis("share right", None, None),
        ),
    ]
    if "kl" in last:
        charts.append(
            figure(
                "Loss: likelihood and KL apart",
                f"The loss ends at {last['loss']:.4f}, of which {last['loss'] - last['nll']:.4f} is the weighted KL "
                f"({last['kl']:,.0f} nats before weighting).",
                [
                    line("loss", "loss"),
                    line("NLL", "nll"),
                    Series("weighted KL", epochs, [float(e["loss"] - e["nll"]) for e in log]),
                ],
                x,
                Axis("nats per input", 0),
            )
        )
        charts.append(
            figure(
                "How decided the weights are",
                f"At the end {percent(last['saturated'], 1)} of the weights are saturated (|μ| > 0.99) and "
                f"{percent(last['undecided'], 1)} undecided (|λ| < 1).",
                [line("saturated", "saturated"), line("undecided", "undecided")],
                x,
                Axis("share of weights", 0, 1),
            )
        )
    return _grid(charts)


def calibration(evaluation: dict[str, Any]) -> str:
    """Reliability diagrams."""
    charts = []
    for name, bins in evaluation["figures"]["reliability"].items():
        count, total = bins["count"], sum(bins["count"])
        worst = max(range(len(count)), key=lambda i: count[i] * abs(bins["accuracy"][i] - bins["confidence"][i]))
        gap = bins["confidence"][worst] - bins["accuracy"][worst]
        words = (
            f"ECE {evaluation[name]['ece']:.4f}. {percent(count[-1] / total, 1)} of the inputs are in the surest bin. "
            f"The largest part of the error: at confidence {bins['confidence'][worst]:.2f}, {abs(gap):.3f} too "
            f"{'sure' if gap > 0 else 'modest'}."
        )
        charts.append(
            figure(
                f"Reliability of the {_called(evaluation, name)}",
                words,
                [
                    Series("perfect", [0, 1], [0, 1], "guide"),
                    Series("accuracy", bins["confidence"], bins["accuracy"], "points"),
                ],
                Axis("confidence (probability of the predicted class)", 0, 1),
                Axis("accuracy", 0, 1),
            )
        )
    return _grid(charts)


def samples(evaluation: dict[str, Any]) -> str:
    """Metrics against the number of networks."""
    curve = evaluation["curve"]
    if len(curve) < 2:
        return ""
    mode = "1 run" if "trained" in evaluation["voters"] else "mode"
    positions = [(float(p["samples"]), mode if p["samples"] == 0 else str(p["samples"])) for p in curve]
    x = Axis("networks averaged", positions=positions)
    charts = []
    for key, label, title in (
        ("accuracy", "share right", "Accuracy"),
        ("nll", "nats per input", "Negative log likelihood"),
        ("ece", "ECE", "Calibration error"),
    ):
        first, last = curve[1][key], curve[-1][key]
        words = (
            f"From {first:.4f} with one network to {last:.4f} with {curve[-1]['samples']}; {mode} {curve[0][key]:.4f}."
        )
        points = [float(p["samples"]) for p in curve]
        charts.append(figure(title, words, [Series(label, points, [p[key] for p in curve])], x, Axis(label)))
    return _grid(charts)


def selective(evaluation: dict[str, Any]) -> str:
    """Risk–coverage."""
    curves = evaluation["figures"]["risk_coverage"]
    name = "mean" if "mean" in curves else "mode"
    coverage, risk = curves[name]["coverage"], curves[name]["risk"]
    at = min(range(len(coverage)), key=lambda i: abs(coverage[i] - 0.9))
    words = (
        f"Answering the surest {percent(coverage[at], 0)} leaves {percent(risk[at])} wrong, answering all "
        f"{percent(risk[-1])}. The area under the curve is {evaluation[name]['aurc']:.5f}."
    )
    series = [Series(_called(evaluation, n), curves[n]["coverage"], curves[n]["risk"]) for n in reversed(curves)]
    return _grid([figure("Risk and coverage", words, series, Axis("share answered", 0, 1), Axis("share wrong", 0), 5)])


def outside(evaluation: dict[str, Any]) -> str:
    """Entropy in and out of distribution, and how well scores separate them."""
    histograms = evaluation["figures"]["entropy"]
    largest = histograms["in"]["largest"]

    def area(name: str) -> Series:
        x, y = steps(histograms[name]["share"], 0, largest)
        return Series("test inputs" if name == "in" else name, x, y, "area")

    inside = f"Test inputs have a mean entropy of {histograms['in']['mean']:.3f} nats"
    x, y = Axis("entropy of the prediction (nats)", 0, largest), Axis("share of inputs", 0, 1)
    if not evaluation["ood"]:
        return _grid([figure("Entropy", f"{inside}, of at most {largest:.2f}.", [area("in")], x, y)])
    charts, rows = [], []
    for name, scores in evaluation["ood"].items():
        score, found = _best_score(scores["mean"] or scores["mode"])
        words = (
            f"{inside}, {name} {histograms[name]['mean']:.3f}, of at most {largest:.2f}. By {SCORE_NAMES[score]}, the "
            f"best score, AUROC {found['auroc']:.3f}."
        )
        charts.append(figure(f"Entropy: test inputs and {name}", words, [area("in"), area(name)], x, y))
        for which in ("mode", "mean"):
            for score, found in (scores[which] or {}).items():
                label = f"{name}, {_called(evaluation, which)}, {SCORE_NAMES[score]}"
                rows.append([label, f"{found['auroc']:.4f}", percent(found["fpr95"], 1)])
    text = (
        "AUROC: probability that an outside input has the higher score (1 is perfect, 0.5 chance). FPR95: share of "
        "outside inputs still accepted when 95 % of the test inputs are."
    )
    caption = "How well each score of uncertainty separates"
    return (
        f'{tag("p", text, "soft")}{_grid(charts)}<div class="card">'
        f"{table(['inputs and score', 'AUROC', 'FPR95'], rows, caption)}</div>"
    )


def corruptions(evaluation: dict[str, Any]) -> str:
    """Uncertainty and accuracy against the strength of the damage."""
    found = evaluation["corruptions"]
    if not found:
        return ""
    charts = []
    for key, title, label in (
        ("entropy", "Entropy under damage", "mean entropy (nats)"),
        ("mutual_information", "Disagreement under damage", "mean mutual information (nats)"),
        ("accuracy", "Accuracy under damage", "share right"),
    ):
        if key == "mutual_information" and evaluation["mean"] is None:
            continue
        series = [
            Series(kind, [p["strength"] for p in points], [p[key] for p in points]) for kind, points in found.items()
        ]
        ends = ", ".join(f"{kind} {points[-1][key]:.3f}" for kind, points in found.items())
        start = next(iter(found.values()))[0]
        words = f"{start[key]:.3f} untouched; at strength 5: {ends}."
        charts.append(figure(title, words, series, Axis("strength", 0, 5), Axis(label, 0)))
    count = next(iter(found.values()))[0]["num_examples"]
    text = (
        f"The first {count:,} test inputs with added noise, blurred, and rotated, at strengths 1 to 5 (0: untouched)."
    )
    return tag("p", text, "soft") + _grid(charts)


def weights(naturals: Sequence[dict[str, Any]], evaluation: dict[str, Any]) -> str:
    """A histogram of λ for each layer."""
    if not naturals or evaluation["posterior"] is None:
        return ""
    charts = []
    for layer in naturals:
        limit = layer["limit"]
        x, y = steps(layer["share"], -limit, limit)
        words = (
            f"{layer['num_weights']:,} weights: {percent(layer['saturated'], 1)} saturated (|μ| > 0.99), "
            f"{percent(layer['undecided'], 1)} undecided (|λ| < 1)."
        )
        axis = Axis("λ; beyond the ends counted in the outer bins", -limit, limit)
        charts.append(figure(f"Layer {layer['name']}", words, [Series("share", x, y, "area")], axis, Axis("share", 0)))
    p = evaluation["posterior"]
    text = (
        f"Of {p['num_weights']:,} weights {percent(p['saturated'], 1)} are saturated and {percent(p['undecided'], 1)} "
        f"undecided; the mean entropy of a weight is {p['entropy']:.3f} of at most 0.693 nats."
    )
    if p["saturated"] > 0.99:
        text += " Nearly every draw is the same network: expect no more from the mean than from the mode."
    return tag("p", text, "soft") + _grid(charts)


def examples(evaluation: dict[str, Any], images: dict[int, str]) -> str:
    """Images with their predicted distributions."""
    titles = {"least": "Least certain", "most": "Most certain"}
    parts = []
    for name, title in titles.items():
        cards = "".join(_example(entry, images) for entry in evaluation["figures"]["examples"][name])
        parts.append(f'<h3 style="margin-top:1rem">{title}</h3><ul class="examples">{cards}</ul>')
    return tag("p", "By entropy, with the four most probable classes.", "soft") + "".join(parts)


def made(config: dict[str, Any], network: dict[str, Any], environment: dict[str, Any]) -> str:
    """Command, versions, size and settings."""
    bits = (
        f"{network['binary_weights']:,} binary weights and {network['real_parameters']:,} real parameters: "
        f"{size(network['bytes_as_bits'])} as bits, {size(network['bytes_as_float32'])} as float32."
    )
    rows = [[key, str(value)] for key, value in environment.items() if key != "command"]
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in config.items() if value is not None)
    return (
        f'{tag("p", bits)}<pre tabindex="0" aria-label="Command">{escape(environment.get("command", ""))}</pre>'
        f'<div class="card">{table(["", "version"], rows, "Made with")}</div>'
        f'<details><summary>All settings</summary><pre tabindex="0">{escape(settings)}</pre></details>'
    )


def _example(entry: dict[str, Any], images: dict[int, str]) -> str:
    order = sorted(range(len(entry["probs"])), key=lambda c: -entry["probs"][c])[:4]
    label, predicted = entry["label"], order[0]
    verdict = f"{predicted}, right" if predicted == label else f"{predicted}, wrong: it is {label}"
    image = ""
    if entry["index"] in images:
        sure = percent(entry["probs"][predicted], 0)
        alt = f"Test image {entry['index']}, labelled {label}, predicted {predicted} at {sure}"
        image = f'<img src="{images[entry["index"]]}" alt="{alt}" width="128" height="128">'
    kind = "right" if predicted == label else "wrong"
    bars = "".join(
        f'<div class="bar"><span>{c}</span><i style="width:{max(1, 100 * entry["probs"][c]):.0f}%"></i>'
        f"<span>{percent(entry['probs'][c], 0)}</span></div>"
        for c in order
    )
    return f'<li>{image}<p class="verdict {kind}">{verdict}</p>{bars}</li>'


def _best_score(scores: dict[str, dict[str, float]]) -> tuple[str, dict[str, float]]:
    return max(scores.items(), key=lambda item: item[1]["auroc"])


def _called(evaluation: dict[str, Any], name: str) -> str:
    if name == "mode":
        return "first network" if "trained" in evaluation["voters"] else "mode"
    return f"mean of {evaluation['voters']}"


def _grid(charts: Sequence[str]) -> str:
    return f'<div class="grid2">{"".join(charts)}</div>' if charts else ""

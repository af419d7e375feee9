"""The sections on uncertainty, from plain numbers of `evaluate_voters`; None where it was not asked for."""

from collections.abc import Sequence
from typing import Any

from .charts import Axis, Series, chart
from .page import Figure, Section, Table, number, percent

SCORES = {
    "entropy": "entropy",
    "mutual_information": "mutual information",
    "max_probability": "1 − largest probability",
}


def calibration(evaluation: dict[str, Any]) -> Section:
    """Reliability diagrams."""
    figures = []
    for name, bins in evaluation["figures"]["reliability"].items():
        count, total = bins["count"], sum(bins["count"])
        worst = max(range(len(count)), key=lambda i: count[i] * abs(bins["accuracy"][i] - bins["confidence"][i]))
        gap = bins["confidence"][worst] - bins["accuracy"][worst]
        words = (
            f"ECE {evaluation[name]['ece']:.4f}. {percent(count[-1] / total, 1)} of the inputs are in the surest bin. "
            f"The largest part of the error: at confidence {bins['confidence'][worst]:.2f}, {abs(gap):.3f} too "
            f"{'sure' if gap > 0 else 'modest'}."
        )
        lines = [
            Series("perfect", [0, 1], [0, 1], "guide"),
            Series("accuracy", bins["confidence"], bins["accuracy"], "points"),
        ]
        x, title = Axis("confidence", 0, 1), f"Reliability of the {called(evaluation, name)}"
        figures.append(chart(title, words, lines, x, Axis("accuracy", 0, 1)))
    text = "Confidence is the probability of the predicted class; on the dotted line it is the share that is right."
    return Section("calibration", "Does confidence mean what it says?", text, figures)


def samples(evaluation: dict[str, Any]) -> Section | None:
    """Metrics against the number of networks."""
    curve = evaluation["curve"]
    if len(curve) < 2:
        return None
    alone = called(evaluation, "mode")
    x = Axis("networks averaged", names=[str(p["samples"] or alone.split()[0]) for p in curve])
    figures = []
    for key, title, y in (
        ("accuracy", "Accuracy", Axis("share right", high=1)),
        ("rmse", "Error", Axis("RMSE")),
        ("bits_per_byte", "Bits per byte", Axis("bits per byte")),
        ("nll", "Negative log likelihood", Axis("nats per input")),
        ("ece", "Calibration error", Axis("ECE")),
        ("coverage_90", "Share in the 90 % interval", Axis("share of targets", high=1)),
    ):
        if key not in curve[0]:
            continue
        values = [p[key] for p in curve]
        first, one, all_of_them = (
            number(v) if key == "rmse" else f"{v:.4f}" for v in (values[0], values[1], values[-1])
        )
        words = f"From {one} with one network to {all_of_them} with {curve[-1]['samples']}; {alone} {first}."
        points = [Series(y.label, range(len(curve)), values, "points")]
        figures.append(chart(title, words, points, x, y))
    return Section("samples", "How many networks?", figures=figures)


def selective(evaluation: dict[str, Any]) -> Section:
    """Risk and coverage."""
    curves = evaluation["figures"]["risk_coverage"]
    name = "mean" if "mean" in curves else "mode"
    coverage, risk = curves[name]["coverage"], curves[name]["risk"]
    at = min(range(len(coverage)), key=lambda i: abs(coverage[i] - 0.9))
    words = (
        f"Answering the surest {percent(coverage[at], 0)} leaves {percent(risk[at])} wrong, answering all "
        f"{percent(risk[-1])}. The area under the curve is {evaluation[name]['aurc']:.5f}."
    )
    lines = [Series(called(evaluation, n), c["coverage"], c["risk"]) for n, c in reversed(curves.items())]
    figure = chart("Risk and coverage", words, lines, Axis("share answered", 0, 1), Axis("share wrong", 0), 5)
    return Section("selective", "Answering only when sure", figures=[figure])


def outside(evaluation: dict[str, Any]) -> Section:
    """Entropy in and out of distribution, and how well each score separates them."""
    entropy = evaluation["figures"]["entropy"]
    edges, inputs = entropy["edges"], entropy["inputs"]

    def figure(title: str, words: str, names: Sequence[str]) -> Figure:
        bins = [Series("test inputs" if n == "in" else n, edges, inputs[n]["share"], "bins") for n in names]
        return chart(title, words, bins, Axis("entropy (nats)", 0, edges[-1]), Axis("share of inputs", 0))

    start = f"Test inputs have a mean entropy of {inputs['in']['mean']:.3f} nats"
    end = f"of at most {entropy['largest']:.2f}."
    heading = "Inputs of another kind"
    if not evaluation["ood"]:
        return Section("outside", heading, figures=[figure("Entropy", f"{start}, {end}", ["in"])])
    figures, rows = [], []
    for name, scores in evaluation["ood"].items():
        score, found = best_score(scores)
        words = (
            f"{start}, {name} {inputs[name]['mean']:.3f}, {end} By {SCORES[score]}, the best score, AUROC "
            f"{found['auroc']:.3f}."
        )
        figures.append(figure(f"Entropy: test inputs and {name}", words, ["in", name]))
        for which in ("mode", "mean"):
            for score, found in (scores[which] or {}).items():
                label = f"{name}, {called(evaluation, which)}, {SCORES[score]}"
                rows.append([label, f"{found['auroc']:.4f}", percent(found["fpr95"], 1)])
    text = (
        "AUROC: probability that an outside input has the higher score (1 is perfect, 0.5 chance). FPR95: share of "
        "outside inputs still accepted when 95 % of the test inputs are."
    )
    table = Table("How well each score of uncertainty separates", ["inputs and score", "AUROC", "FPR95"], rows)
    return Section("outside", heading, text, figures, table)


def corruptions(evaluation: dict[str, Any]) -> Section | None:
    """Uncertainty and accuracy against the strength of the damage."""
    found = evaluation["corruptions"]
    if not found:
        return None
    start = next(iter(found.values()))[0]
    figures = []
    for key, title, y in (
        ("entropy", "Entropy under damage", Axis("mean entropy (nats)", 0)),
        ("mutual_information", "Disagreement under damage", Axis("mean mutual information (nats)", 0)),
        ("accuracy", "Accuracy under damage", Axis("share right", 0, 1)),
    ):
        if key == "mutual_information" and evaluation["mean"] is None:
            continue
        lines = [
            Series(kind, [p["strength"] for p in points], [p[key] for p in points]) for kind, points in found.items()
        ]
        ends = ", ".join(f"{kind} {points[-1][key]:.3f}" for kind, points in found.items())
        words = f"{start[key]:.3f} untouched; at strength 5: {ends}."
        figures.append(chart(title, words, lines, Axis("strength"), y))
    text = (
        f"{start['num_examples']:,} of the test inputs with added noise, blurred, and rotated, at strengths 1 to 5 "
        "(0: untouched)."
    )
    return Section("corruptions", "Damaged inputs", text, figures)


def weights(naturals: Sequence[dict[str, Any]], evaluation: dict[str, Any]) -> Section:
    """A histogram of λ for each layer, from `figures.natural_histograms`."""
    figures = []
    for layer in naturals:
        words = (
            f"{layer['num_weights']:,} weights: {percent(layer['saturated'], 1)} saturated (|μ| > 0.99), "
            f"{percent(layer['undecided'], 1)} undecided (|λ| < 1)."
        )
        edges = layer["edges"]
        bins = [Series("share", edges, layer["share"], "bins")]
        x, y = Axis("λ", edges[0], edges[-1]), Axis("share of weights", 0)
        figures.append(chart(f"Layer {layer['name']}", words, bins, x, y))
    p = evaluation["posterior"]
    text = (
        f"Of {p['num_weights']:,} weights {percent(p['saturated'], 1)} are saturated and {percent(p['undecided'], 1)} "
        f"undecided; the mean entropy of a weight is {p['entropy']:.3f} of at most 0.693 nats. The outer bins also "
        "count what lies beyond them, about 1 % of a layer."
    )
    if p["saturated"] > 0.99:
        text += " Nearly every draw is the same network: expect no more from the mean than from the mode."
    return Section("weights", "The posterior, layer by layer", text, figures)


def best_score(scores: dict[str, Any]) -> tuple[str, dict[str, float]]:
    """The score of uncertainty that separates best, and what it reaches."""
    found: dict[str, dict[str, float]] = scores["mean"] or scores["mode"]
    return max(found.items(), key=lambda item: item[1]["auroc"])


def called(evaluation: dict[str, Any], name: str) -> str:
    """What "mode" and "mean" are in this evaluation."""
    if name == "mode":
        return "first network" if "trained" in evaluation["voters"] else "mode"
    return f"mean of {evaluation['voters']}"

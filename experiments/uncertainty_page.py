"""The tables and figures of docs/uncertainty.md from the results of uncertainty.py: blocks between comments."""

import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.figure_style import legend, line, panel

Results = dict[str, Any]
COMPARED = (
    "bayesbinn",
    "bayesbinn, own batch norm",
    "ste",
    "ste, own batch norm",
    "Monte-Carlo dropout",
    "ensemble of 5 ste",
    "ensemble of 5 ste, own batch norm",
)


def spread(values: Sequence[float], digits: int = 4, factor: float = 1.0) -> str:
    """Mean ± sample standard deviation, which keeps its sign; the value alone for one seed."""
    mean = f"{factor * statistics.fmean(values):.{digits}f}"
    return f"{mean} ±\N{NO-BREAK SPACE}{factor * statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def best(evaluation: Results) -> Results:
    """The mean's metrics, or the only network's."""
    chosen: Results = evaluation["mean"] or evaluation["mode"]
    return chosen


def best_score(evaluation: Results, ood: str) -> tuple[str, float]:
    """The score with the highest AUROC, and it."""
    scores = evaluation["ood"][ood]["mean"] or evaluation["ood"][ood]["mode"]
    name = max(scores, key=lambda s: scores[s]["auroc"])
    return name, scores[name]["auroc"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def comparison(results: Results) -> str:
    """One row per method: metrics over seeds, and how many trainings it takes."""
    rows = []
    for name in COMPARED:
        seeds = list(results["evaluations"].get(name, {}).values())
        if not seeds:
            continue
        row = [name, str(len(seeds))]
        for key, digits, factor in (("accuracy", 2, 100.0), ("nll", 4, 1.0), ("brier", 4, 1.0), ("ece", 4, 1.0)):
            row.append(spread([best(e)[key] for e in seeds], digits, factor))
        row.append(spread([best(e)["aurc"] for e in seeds], 5))
        found = [best_score(e, "fashion-mnist") for e in seeds]
        row.append(f"{spread([v for _, v in found])} ({', '.join(sorted({n.replace('_', ' ') for n, _ in found}))})")
        row.append(str(len(seeds[0]["environment"]["training"])))
        rows.append(row)
    head = [
        "prediction",
        "seeds",
        "accuracy %",
        "NLL",
        "Brier",
        "ECE",
        "AURC",
        "AUROC, best score",
        "trainings",
    ]
    first = next(iter(results["evaluations"]["bayesbinn"].values()))["environment"]
    trained = re.sub(r"--output [^ ]+( --resume)?", "--output RUN", first["training"][0])
    return "\n".join(
        [
            table(head, rows),
            "",
            "Mean ± sample standard deviation over seeds. "
            f"torch {first['torch']}, {first['cpu']}, one thread. Trained with `{trained}`.",
        ]
    )


def detection(results: Results) -> str:
    """Every score, every pair of data sets."""
    rows = []
    for name, seeds in results["evaluations"].items():
        if name == "frontier":
            continue
        for ood in next(iter(seeds.values()))["ood"]:
            row = [name.split(" → ")[0] if "→" in name else f"mnist, {name}", ood]
            if "own" in name and "→" in name:
                row[0] += ", own batch norm"
            for score in ("entropy", "mutual_information", "max_probability"):
                found = [(e["ood"][ood]["mean"] or e["ood"][ood]["mode"]).get(score) for e in seeds.values()]
                kept = [f for f in found if f]
                row.append(spread([f["auroc"] for f in kept]) if kept else "–")
            row.append(spread([_lowest(e, ood) for e in seeds.values()], 1, 100))
            rows.append(row)
    head = [
        "inside, prediction",
        "outside",
        "entropy",
        "mutual information",
        "1 − max probability",
        "FPR95 %, best score",
    ]
    return table(head, rows)


def curve(results: Results) -> str:
    """Metrics against the number of networks."""
    seeds = list(results["evaluations"]["bayesbinn"].values())
    rows = []
    for i, point in enumerate(seeds[0]["curve"]):
        points = [e["curve"][i] for e in seeds]
        label = str(point["samples"]) if point["samples"] else "mode"
        cells = [
            spread([p[k] for p in points], d, f) for k, d, f in (("accuracy", 2, 100), ("nll", 4, 1), ("ece", 4, 1))
        ]
        rows.append([label, *cells])
    return table(["networks", "accuracy %", "NLL", "ECE"], rows)


def frontier(results: Results) -> str:
    """The dial: kl_weight against accuracy and uncertainty."""
    rows = []
    for weight, e in sorted(results["evaluations"].get("frontier", {}).items(), key=lambda item: float(item[0])):
        row = [weight, f"{100 * e['mode']['accuracy']:.2f}", f"{100 * e['mean']['accuracy']:.2f}"]
        row += [f"{e[which]['nll']:.4f}" for which in ("mode", "mean")] + [f"{e['mean']['ece']:.4f}"]
        row += [f"{e['scaled']['nll']:.4f} at {e['scaled']['temperature']:.2f}"]
        row += [f"{best_score(e, 'fashion-mnist')[1]:.4f}", f"{100 * e['posterior']['undecided']:.0f}"]
        rows.append(row)
    head = [
        "kl_weight",
        "mode %",
        "mean %",
        "NLL mode",
        "NLL mean",
        "ECE mean",
        "NLL at temperature",
        "AUROC",
        "undecided %",
    ]
    return table(head, rows)


def norms(results: Results) -> str:
    """Shared and own batch-norm statistics, for the mode and the mean."""
    rows = []
    for name in ("bayesbinn", "ste", "fashion-mnist → mnist", "digits → noise"):
        for which in ("mode", "mean"):
            row = [name.split(" → ")[0], which]
            for key, digits, factor in (("accuracy", 2, 100.0), ("nll", 4, 1.0), ("ece", 4, 1.0)):
                for suffix in ("", ", own batch norm"):
                    seeds = results["evaluations"].get(name + suffix, {}).values()
                    values = [e[which][key] for e in seeds if e[which]]
                    row.append(spread(values, digits, factor) if values else "")
            if row[2]:
                rows.append(row)
    head = ["run", "prediction"] + [f"{m}, {s}" for m in ("accuracy %", "NLL", "ECE") for s in ("shared", "own")]
    return table(head, rows)


def draw(results: Results, folder: Path) -> None:
    """The figures, a file for each panel, the same for the same results."""
    evaluations = results["evaluations"]
    labels = {"accuracy": "accuracy", "nll": "NLL (nats)", "ece": "ECE", "entropy": "mean entropy (nats)"}
    for key in ("accuracy", "nll", "ece"):
        with panel(folder / f"samples-{key}.svg", title=labels[key], xlabel="networks") as axes:
            for i, (seed, e) in enumerate(evaluations["bayesbinn"].items()):
                points = e["curve"]
                axes.plot(range(len(points)), [p[key] for p in points], label=f"seed {seed}", **line(i))
                axes.set_xticks(range(len(points)), [str(p["samples"] or "mode") for p in points])
            axes.legend()

    names = [n for n in ("bayesbinn, own batch norm", "ensemble of 5 ste") if evaluations.get(n)]
    for key in ("entropy", "accuracy"):
        for kind in ("noise", "blur", "rotation"):
            title, file = f"{kind}: {labels[key]}", folder / f"corruptions-{key}-{kind}.svg"
            with panel(file, title=title, xlabel="strength", xticks=range(6)) as axes:
                for i, name in enumerate(names):
                    seeds = list(evaluations[name].values())
                    values = [statistics.fmean(e["corruptions"][kind][s][key] for e in seeds) for s in range(6)]
                    axes.plot(range(6), values, label=name, **line(i))

    legend(folder / "corruptions-names.svg", {name: line(i) for i, name in enumerate(names)})

    points = sorted(evaluations.get("frontier", {}).items(), key=lambda item: float(item[0]))
    if points:
        weights = [float(w) for w, _ in points]
        for key in ("accuracy", "nll"):
            with panel(folder / f"frontier-{key}.svg", title=labels[key], xscale="log", xlabel="kl_weight") as axes:
                for i, which in enumerate(("mode", "mean")):
                    axes.plot(weights, [e[which][key] for _, e in points], label=which, **line(i))
                axes.legend()
        title = "AUROC against Fashion-MNIST, mean"
        with panel(folder / "frontier-auroc.svg", title=title, xscale="log", xlabel="kl_weight") as axes:
            axes.plot(weights, [best_score(e, "fashion-mnist")[1] for _, e in points], **line(1))


def write(results: Results, docs: Path) -> None:
    """Renew the blocks of docs/uncertainty.md, and its figures."""
    page = docs / "uncertainty.md"
    page.write_text(renewed(page.read_text(encoding="utf-8"), results), encoding="utf-8")
    draw(results, docs / "uncertainty")


def renewed(text: str, results: Results) -> str:
    """The page with every block as the results have it."""
    for name, make in (
        ("comparison", comparison),
        ("detection", detection),
        ("curve", curve),
        ("frontier", frontier),
        ("norms", norms),
    ):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{make(results)}\n{end}{rest.split(end)[1]}"
    return text


def _lowest(evaluation: Results, ood: str) -> float:
    name, _ = best_score(evaluation, ood)
    scores = evaluation["ood"][ood]["mean"] or evaluation["ood"][ood]["mode"]
    return float(scores[name]["fpr95"])

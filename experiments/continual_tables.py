"""Write the tables of docs/continual.md, and its figures from experiments/results/continual-*.json.

python experiments/continual_tables.py            # write
python experiments/continual_tables.py --check    # exit 1 if the tables there differ
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bayesbinn.training.config import read_toml

ROOT = Path(__file__).resolve().parent.parent
PAGE, FIGURES = ROOT / "docs/continual.md", ROOT / "docs/figures"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
BOTH = {"prior": "prior carried over", "naive": "no prior carried over"}
ITEMS = ("five", "ten", "hundred", "fashion", "selection")
COLUMNS = {
    "mean %": "mean_average",
    "mode %": "mode_average",
    "last 20 %": "mean_last_20",
    "last 5 %": "mean_last_5",
    "when learned %": "learning",
    "forgetting": "forgetting",
    "backward": "backward_transfer",
    "forward": "forward_transfer",
}

Seeds = dict[str, dict[str, Any]]


def load(item: str) -> dict[str, Any] | None:
    """The stored results of an item, its runs in the order of the recipe and its seeds ascending, or None."""
    path = ROOT / f"experiments/results/continual-{item}-day.json"
    if not path.exists():
        return None
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    runs = results["results"]
    order = [*read_toml(ROOT / results["recipe"])["runs"], *runs]  # the recipe's; workers store as they finish
    results["results"] = {
        name: dict(sorted(runs[name].items(), key=lambda seed: int(seed[0])))
        for name in dict.fromkeys(order)
        if name in runs
    }
    return results


def spread(values: list[float], digits: int = 1) -> str:
    """Mean ± sample standard deviation, in percent; the value alone for one seed."""
    text = f"{100 * statistics.fmean(values):.{digits}f}"
    return text if len(values) < 2 else f"{text} ± {100 * statistics.stdev(values):.{digits}f}"


def table(results: dict[str, Any]) -> list[str]:
    """A row per run."""
    runs = results["results"]
    tasks = next(iter(next(iter(runs.values())).values()))["config"]["tasks"]
    columns = {head: key for head, key in COLUMNS.items() if tasks > 20 or not key.startswith("mean_last")}
    with_ood = any("ood_auroc" in run["tasks"][-1] for seeds in runs.values() for run in seeds.values())
    batches = len({run["config"]["batch_size"] for seeds in runs.values() for run in seeds.values()}) > 1
    heads = [
        "run",
        "seeds",
        *(["batch"] if batches else []),
        *columns,
        *(["OOD AUROC, first and last task"] if with_ood else []),
        "saturated %",
        "min",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, seeds in runs.items():
        each = list(seeds.values())
        cells = [f"`{name}`", str(len(each)), *([str(each[0]["config"]["batch_size"])] if batches else [])]
        cells += [spread([r["metrics"][key] for r in each]) for key in columns.values()]
        if with_ood:
            ends = [[r["tasks"][i].get("ood_auroc") for r in each] for i in (0, -1)]
            cells.append("–" if None in ends[0] else " → ".join(f"{statistics.fmean(v):.3f}" for v in ends))
        saturated = [r["tasks"][-1].get("saturated") for r in each]
        cells.append("–" if None in saturated else spread(saturated))
        cells.append(f"{statistics.fmean([r['train_seconds'] for r in each]) / 60:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def per_task(results: dict[str, Any]) -> list[str]:
    """What carrying the prior over buys: accuracy on each task after the last, with it and without."""
    runs = results["results"]
    rows = {name: [r["mean_row"] for r in runs[name].values()] for name in ("prior", "naive")}
    tasks = len(rows["prior"][0])
    lines = ["| after the last task, accuracy on | " + " | ".join(f"task {j + 1}" for j in range(tasks)) + " |"]
    lines.append("|---" * (tasks + 1) + "|")
    for name, title in (("prior", "with the prior %"), ("naive", "without %")):
        lines.append(f"| {title} | " + " | ".join(spread([row[j] for row in rows[name]]) for j in range(tasks)) + " |")
    gains = [
        statistics.fmean(row[j] for row in rows["prior"]) - statistics.fmean(row[j] for row in rows["naive"])
        for j in range(tasks)
    ]
    return [*lines, "| gained, points | " + " | ".join(f"{100 * gain:+.1f}" for gain in gains) + " |"]


def details(results: dict[str, Any], item: str) -> list[str]:
    """How the figures came about: commands, machine, versions."""
    runs = results["results"]
    first = next(iter(next(iter(runs.values())).values()))
    c, e = first["config"], first["environment"]
    batches = sorted({run["config"]["batch_size"] for seeds in runs.values() for run in seeds.values()})
    lines = [
        f"*mean*: average accuracy over all tasks after the last, on all test examples, with {c['samples']} drawn "
        f"networks; *mode*: w = sign λ. The columns from *when learned* on come from the matrix, which takes "
        f"{c['row_examples'] or 'all'} test examples a task and "
        f"{'the mode' if not c['row_samples'] else str(c['row_samples']) + ' drawn networks'}. "
        f"Batch {' or '.join(map(str, batches))}, {c['width']} units in {c['depth']} hidden layer(s), ReLU. "
        f"{e['cpu']}, {e['threads']} thread, shared with other work (so *min* is an upper bound), "
        f"torch {e['torch']}, bayesbinn {e['bayesbinn']}. "
        f"`bayesbinn reproduce continual-{item} --budget day --again`, or one by one:",
        "",
        "```console",
        *(next(iter(seeds.values()))["environment"]["command"] for seeds in runs.values()),
        "```",
    ]
    published = read_toml(ROOT / "experiments/published.toml").get(f"continual-{item}")
    if published is not None:
        network = published.pop("network")
        rows = [f"| {source} | {value} |" for source, value in published.items()]
        lines += ["", f"Published: {network}.", "", "| source | accuracy % |", "|---|---|", *rows]
    return lines


def page() -> str:
    """The text of docs/continual.md with its tables renewed."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    lines = [BEGIN]
    for item in ITEMS:
        results = load(item)
        if results is None:
            continue
        lines += ["", f"### {results['title']}", "", *table(results), "", *details(results, item)]
        if item in ("five", "ten") and BOTH.keys() <= results["results"].keys():
            lines += ["", *per_task(results)]
        if item == "five" and BOTH.keys() <= results["results"].keys():
            lines += ["", "![accuracy per task, with and without the prior](figures/continual-prior.svg)"]
            lines += ["", "![accuracy matrix, with and without the prior](figures/continual-matrix.svg)"]
        if item == "hundred":
            lines += ["", "![last 5 tasks against all 100](figures/continual-window.svg)"]
    return before + "\n".join([*lines, "", END]) + after


def mean_matrix(seeds: Seeds) -> list[list[float]]:
    """The accuracy matrix in percent, averaged over seeds."""
    matrices = [run["matrix"] for run in seeds.values()]
    tasks = range(len(matrices[0]))
    return [[100 * statistics.fmean(m[i][j] for m in matrices) for j in tasks] for i in tasks]


def prior_figure(results: dict[str, Any]) -> Any:
    """Accuracy on each task as training goes on, with the prior carried over and without: the paper's figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, title) in zip(panels, BOTH.items(), strict=True):
        matrix = mean_matrix(results["results"][name])
        for j in range(len(matrix)):
            rows = range(j, len(matrix))
            axes.plot([i + 1 for i in rows], [matrix[i][j] for i in rows], marker="o", label=f"task {j + 1}")
        axes.set(title=title, xlabel="after training on task", xticks=range(1, len(matrix) + 1))
    panels[0].set_ylabel("test accuracy %")
    panels[1].legend(frameon=False, fontsize="small")
    return figure


def matrix_figure(results: dict[str, Any]) -> Any:
    """The accuracy matrix as a heat map, with the prior carried over and without."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, title) in zip(panels, BOTH.items(), strict=True):
        matrix = mean_matrix(results["results"][name])
        edges = [i + 0.5 for i in range(len(matrix) + 1)]
        image = axes.pcolormesh(edges, edges, matrix, vmin=0, vmax=100)
        axes.set(title=title, xlabel="accuracy on task", aspect="equal")
    panels[0].set_ylabel("after training on task")
    panels[0].invert_yaxis()
    figure.colorbar(image, ax=panels, label="test accuracy %")
    return figure


def window_figure(results: dict[str, Any]) -> Any:
    """Last-5 against all-100 over the window, and the published averages as lines: each is known on one axis only."""
    from matplotlib.figure import Figure

    published = read_toml(ROOT / "experiments/published.toml")["continual-hundred"]
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    points: dict[str, tuple[list[float], list[float]]] = {}
    groups: dict[str, list[str]] = {}  # strategy and batch size -> runs
    for name, seeds in results["results"].items():
        every = [run["metrics"] for run in seeds.values()]
        config = next(iter(seeds.values()))["config"]
        if config["strategy"] == "joint":
            ceiling = 100 * statistics.fmean(m["mean_average"] for m in every)
            axes.axhline(ceiling, color="C3", ls="--", lw=1)
            axes.annotate(
                f"{config['tasks']} tasks at once (ours)", (0.62, ceiling), xycoords=("axes fraction", "data")
            )
            continue
        points[name] = [100 * m["mean_average"] for m in every], [100 * m["mean_last_5"] for m in every]
        average = "" if config.get("momentum") else " without momentum"
        groups.setdefault(f"{config['strategy']}{average}, batch {config['batch_size']}", []).append(name)
    means = {name: (statistics.fmean(x), statistics.fmean(y)) for name, (x, y) in points.items()}
    for i, (group, names) in enumerate(sorted(groups.items())):
        names.sort(key=lambda n: window_of(results["results"][n]))
        axes.plot(*zip(*(means[name] for name in names), strict=True), color=f"C{i}", lw=1, label=group)
        for name in names:
            axes.plot(*points[name], "os^"[i % 3], color=f"C{i}", ms=5)
            text = f"window {window_of(results['results'][name]) / 1000:.0f}k"
            axes.annotate(text, means[name], xytext=(6, 5), textcoords="offset points", fontsize="small")
    axes.legend(loc="lower right")
    published.pop("network")
    for source, value in published.items():
        if "last 5" in source:
            axes.axhline(float(value), color="gray", ls=":", lw=0.8)
            axes.annotate(f"{source} (published)", (0.01, float(value)), xycoords=("axes fraction", "data"), fontsize=6)
        else:
            axes.axvline(float(value), color="gray", ls=":", lw=0.8)
            axes.annotate(
                f"{source} (published)",
                (float(value), 0.02),
                xycoords=("data", "axes fraction"),
                fontsize=6,
                rotation=90,
            )
    axes.set(xlabel="average over all 100 tasks %", ylabel="average over the last 5 %", xlim=(0, 60), ylim=(0, 100))
    axes.set_title("a point per seed; ours: ReLU units; published: binary units, batch 1", fontsize="small")
    return figure


def window_of(seeds: Seeds) -> float:
    """The window of a run, in examples."""
    return float(next(iter(seeds.values()))["config"]["window"])


def main() -> None:
    if "--check" in sys.argv[1:]:
        sys.exit(int(PAGE.read_text(encoding="utf-8") != page()))
    PAGE.write_text(page(), encoding="utf-8")
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = "bayesbinn"  # the same results give the same file
    FIGURES.mkdir(parents=True, exist_ok=True)
    five, hundred = load("five"), load("hundred")
    if five is not None and BOTH.keys() <= five["results"].keys():
        prior_figure(five).savefig(FIGURES / "continual-prior.svg", metadata={"Date": None})
        matrix_figure(five).savefig(FIGURES / "continual-matrix.svg", metadata={"Date": None})
    if hundred is not None:
        window_figure(hundred).savefig(FIGURES / "continual-window.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

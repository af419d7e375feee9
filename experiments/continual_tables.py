"""Write the tables of docs/continual.md and its figures from experiments/results/continual-*.json.

python experiments/continual_tables.py            # write
python experiments/continual_tables.py --check    # exit 1 if the tables there differ
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from bayesbinn.train.config import read_toml

ROOT = Path(__file__).resolve().parent.parent
PAGE, FIGURES = ROOT / "docs/continual.md", ROOT / "docs/figures"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
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
    """The stored results of an item, or None."""
    path = ROOT / f"experiments/results/continual-{item}-day.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


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
    heads = ["run", "seeds", *columns, *(["OOD AUROC, first and last task"] if with_ood else []), "saturated %", "min"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, seeds in runs.items():
        each = list(seeds.values())
        cells = [f"`{name}`", str(len(each)), *(spread([r["metrics"][key] for r in each]) for key in columns.values())]
        if with_ood:
            ends = [[r["tasks"][i].get("ood_auroc") for r in each] for i in (0, -1)]
            cells.append("–" if None in ends[0] else " → ".join(f"{statistics.fmean(v):.3f}" for v in ends))
        saturated = [r["tasks"][-1].get("saturated") for r in each]
        cells.append("–" if None in saturated else spread(saturated))
        cells.append(f"{statistics.fmean([r['train_seconds'] for r in each]) / 60:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def details(results: dict[str, Any], item: str) -> list[str]:
    """How the figures came about: commands, machine, versions."""
    runs = results["results"]
    first = next(iter(next(iter(runs.values())).values()))
    c, e = first["config"], first["environment"]
    lines = [
        f"*mean*: average accuracy over all tasks after the last, on all test examples, with {c['samples']} drawn "
        f"networks; *mode*: w = sign λ. The columns from *when learned* on come from the matrix, which takes "
        f"{c['row_examples'] or 'all'} test examples a task and "
        f"{'the mode' if not c['row_samples'] else str(c['row_samples']) + ' drawn networks'}. "
        f"Batch {c['batch_size']}, {c['width']} units in {c['depth']} hidden layer(s), ReLU. "
        f"{e['cpu']}, {e['threads']} thread, shared with other work (so *min* is an upper bound), "
        f"torch {e['torch']}, bayesbinn {e['bayesbinn']}. "
        f"`bayesbinn reproduce continual-{item} --budget day`, or one by one:",
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
        if item == "five" and {"prior", "naive"} <= results["results"].keys():
            lines += ["", "![accuracy per task, with and without the prior](figures/continual-prior.svg)"]
        if item == "hundred":
            lines += ["", "![last 5 tasks against all 100](figures/continual-window.svg)"]
    return before + "\n".join([*lines, "", END]) + after


def prior_figure(results: dict[str, Any]) -> Any:
    """Accuracy on each task as training goes on, with the prior carried over and without: the paper's figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    titles = {"prior": "prior carried over", "naive": "no prior carried over"}
    for axes, (name, title) in zip(panels, titles.items(), strict=True):
        matrix = next(iter(results["results"][name].values()))["matrix"]
        for j in range(len(matrix)):
            rows = range(j, len(matrix))
            axes.plot([i + 1 for i in rows], [100 * matrix[i][j] for i in rows], marker="o", label=f"task {j + 1}")
        axes.set(title=title, xlabel="after training on task", xticks=range(1, len(matrix) + 1))
    panels[0].set_ylabel("test accuracy %")
    panels[1].legend(frameon=False, fontsize="small")
    return figure


def window_figure(results: dict[str, Any]) -> Any:
    """Last-5 against all-100, a point per run, and the published averages as lines: each is known on one axis only."""
    from matplotlib.figure import Figure

    published = read_toml(ROOT / "experiments/published.toml")["continual-hundred"]
    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for name, seeds in results["results"].items():
        run = next(iter(seeds.values()))["metrics"]
        x, y = 100 * run["mean_average"], 100 * run["mean_last_5"]
        axes.plot(x, y, "o", label=name)
    for style, (source, value) in zip(("--", ":", "-.", "--", ":"), published.items(), strict=False):
        if "last 5" in source:
            axes.axhline(float(value), color="gray", ls=style, lw=0.8)
            axes.annotate(source, (0.01, float(value)), xycoords=("axes fraction", "data"), fontsize="x-small")
        elif "all" in source:
            axes.axvline(float(value), color="gray", ls=style, lw=0.8)
            axes.annotate(
                source, (float(value), 0.02), xycoords=("data", "axes fraction"), fontsize="x-small", rotation=90
            )
    axes.set(xlabel="average over all 100 tasks %", ylabel="average over the last 5 %", ylim=(0, 100))
    axes.legend(frameon=False, fontsize="small")
    return figure


def main() -> None:
    text = page()
    if "--check" in sys.argv[1:]:
        sys.exit(int(PAGE.read_text(encoding="utf-8") != text))
    PAGE.write_text(text, encoding="utf-8")
    import matplotlib as mpl

    mpl.rcParams["svg.hashsalt"] = "bayesbinn"  # the same results give the same file
    FIGURES.mkdir(parents=True, exist_ok=True)
    five, hundred = load("five"), load("hundred")
    if five is not None and {"prior", "naive"} <= five["results"].keys():
        prior_figure(five).savefig(FIGURES / "continual-prior.svg", metadata={"Date": None})
    if hundred is not None:
        window_figure(hundred).savefig(FIGURES / "continual-window.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

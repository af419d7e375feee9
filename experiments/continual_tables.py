"""Write the tables of docs/continual.md, and its figures, from experiments/results/continual-*.json.

python experiments/continual_tables.py            # write
python experiments/continual_tables.py --check    # exit 1 if the tables there differ
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from bayesbinn.training.config import read_toml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from experiments import continual_figures  # noqa: E402

PAGE, FIGURES = ROOT / "docs/continual.md", ROOT / "docs/figures"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"
ITEMS = ("five", "ten", "hundred", "thousand", "lengths", "fashion", "selection")
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
    return text if len(values) < 2 else f"{text}\u00a0±\u00a0{100 * statistics.stdev(values):.{digits}f}"


def table(results: dict[str, Any]) -> list[str]:
    """A row per run."""
    runs = results["results"]
    lengths = {run["config"]["tasks"] for seeds in runs.values() for run in seeds.values()}
    columns = {head: key for head, key in COLUMNS.items() if max(lengths) > 20 or not key.startswith("mean_last")}
    columns = {
        head: key
        for head, key in columns.items()
        if all(key in r["metrics"] for s in runs.values() for r in s.values())
    }
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


def verdict(results: dict[str, Any]) -> list[str]:
    """What a setting is worth for streams of other lengths."""
    runs = results["results"]

    def at(run: str, metric: str, of: dict[str, Any] | None = None) -> str:
        seeds = (of or {"results": runs})["results"].get(run, {})
        return spread([r["metrics"][metric] for r in seeds.values()]) if seeds else "–"

    hundred, thousand = load("hundred"), load("thousand")
    name = "palimpsest-250k-batch-50"
    last = [at(f"palimpsest-{t}", "mean_last_5") for t in (5, 10)]
    last += [at(name, "mean_last_5", of) for of in (hundred, thousand)]
    everything = [at(f"palimpsest-{t}", "mean_average") for t in (5, 10)]
    everything += [at(name, "mean_average", of) for of in (hundred, thousand)]
    of_ten, of_hundred = at("prior-1_5-10", "mean_average"), at("prior-1_5-100", "mean_last_5")
    weak_ten, weak_hundred = at("prior-1-10", "mean_average"), at("prior-1-100", "mean_last_5")
    last_five, every = (f"{', '.join(values[:-1])} and {values[-1]} %" for values in (last, everything))
    return [
        f"One setting of `palimpsest` has {last_five} on the last five of 5, 10, 100 and 1,000 tasks, "
        f"and {every} on all. `prior` is told where tasks end, and its strength is a matter of their number: "
        f"1.5 has {of_ten} % on all of 10 tasks and has frozen by 100 ({of_hundred} % on the last five), "
        f"1 has {weak_ten} % on all of 10 and {weak_hundred} % on the last five of 100. So none is best everywhere: "
        "`prior`, the default, is for a few tasks with known ends, `palimpsest` for streams.",
    ]


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


def page(folder: Path) -> str:
    """The text of docs/continual.md with its tables renewed; its figures go to a folder."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    lines = [BEGIN]
    for item in ITEMS:
        results = load(item)
        if results is None:
            continue
        lines += ["", f"### {results['title']}", "", *table(results), "", *details(results, item)]
        if item in ("five", "ten") and continual_figures.BOTH.keys() <= results["results"].keys():
            lines += ["", *per_task(results)]
        if item == "five" and continual_figures.BOTH.keys() <= results["results"].keys():
            lines += ["", *continual_figures.of_five(results, folder)]
        if item == "lengths":
            lines += ["", *verdict(results)]
        if item == "thousand":
            lines += ["", *continual_figures.of_thousand(results, folder)]
        if item == "hundred":
            lines += ["", *continual_figures.of_hundred(results, folder)]
    return before + "\n".join([*lines, "", END]) + after


def main() -> None:
    if "--check" in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            sys.exit(int(PAGE.read_text(encoding="utf-8") != page(Path(folder))))
    PAGE.write_text(page(FIGURES), encoding="utf-8")


if __name__ == "__main__":
    main()

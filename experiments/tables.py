"""Write docs/reproduction.md and the recipe study from experiments/results/*.json.  Figures are never typed.

python experiments/tables.py            # write
python experiments/tables.py --check    # exit 1 if what is there differs
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from bayesbinn.training.config import Config

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(ROOT))
from experiments.figures_in_words import four, one, percent, published, spread, three  # noqa: E402
from experiments.full_size_page import full_size  # noqa: E402
from experiments.synthetic_page import figures  # noqa: E402

FIGURES = ROOT / "docs" / "figures"
STUDY = ROOT / "docs" / "design" / "recipe-study.md"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"

Seeds = dict[str, dict[str, Any]]


def metric(seeds: Seeds, which: str, name: str, form: Callable[[float], str]) -> str:
    """A metric of the mode, the mean or the posterior over the seeds, or a dash where the method has none."""
    values = [run["evaluation"][which][name] for run in seeds.values() if run["evaluation"][which] is not None]
    return spread(values, form) if values else "–"


def table(results: dict[str, Any]) -> list[str]:
    """One row per run of a recipe."""
    lines = [
        "| run | epochs | mode % | mean % | NLL mode | NLL mean | ECE mode | ECE mean | undecided % |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, seeds in results["runs"].items():
        epochs = next(iter(seeds.values()))["settings"].get("epochs", Config.epochs)
        cells = [f"`{name}`", str(epochs)]
        for metric_name, form in (("accuracy", percent), ("nll", four), ("ece", four)):
            cells += [metric(seeds, which, metric_name, form) for which in ("mode", "mean")]
        cells.append(metric(seeds, "posterior", "undecided", lambda v: f"{100 * v:.1f}"))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def verdict(results: dict[str, Any]) -> list[str]:
    """Where `bayesbinn` stands: its mode's accuracy and its mean's NLL against the best binary rival, and the gap to
    the float network."""
    runs = results["runs"]
    if "bayesbinn" not in runs or len(runs) == 1:
        return []

    def average(run: str, which: str, name: str) -> float:
        return statistics.fmean(float(r["evaluation"][which][name]) for r in runs[run].values())

    def best_nll(run: str) -> float:  # a rival may choose between its one network and its mean
        has_mean = all(r["evaluation"]["mean"] for r in runs[run].values())
        return min(average(run, which, "nll") for which in ("mode", "mean")[: 1 + has_mean])

    def method(run: str) -> str:
        return str(next(iter(runs[run].values()))["settings"]["method"])

    rivals = [run for run in runs if method(run) not in ("bayesbinn", "float")]
    accuracy, nll = average("bayesbinn", "mode", "accuracy"), average("bayesbinn", "mean", "nll")
    best = max(rivals, key=lambda run: average(run, "mode", "accuracy"))
    surest = min(rivals, key=best_nll)
    ahead = 100 * (accuracy - average(best, "mode", "accuracy"))
    words = [
        f"Mode of `bayesbinn` against the best binary rival, `{best}`: {ahead:+.2f} points",
        f"NLL of its mean against the lowest of a binary rival, of `{surest}`: {nll - best_nll(surest):+.4f} nats",
    ]
    if "bayesbinn-2020" in rivals and best != "bayesbinn-2020":
        ahead = 100 * (accuracy - average("bayesbinn-2020", "mode", "accuracy"))
        words.insert(1, f"against `bayesbinn-2020`: {ahead:+.2f} points")
    if "float" in runs:
        words.append(
            f"gap of the mode to `float`: {100 * (average('float', 'mode', 'accuracy') - accuracy):.2f} points"
        )
    return ["", "; ".join(words) + "."]


def learning_curve(results: dict[str, Any]) -> list[str]:
    """Test accuracy of the mode after some epochs, beside the curve in published.toml, if that has one."""
    item = results["name"].rsplit("-", 1)[0]
    curves = tomllib.loads((HERE / "published.toml").read_text(encoding="utf-8"))["curves"]
    if item not in curves:
        return []
    curve = curves[item]
    source = curve.pop("source")
    rows = [[source, *(f"{value:g}" for value in curve.values())]]
    for name, seeds in results["runs"].items():
        lines = [run["curve"]["test_accuracy"] for run in seeds.values()]
        cells = [[line[int(e) - 1] for line in lines if len(line) >= int(e)] for e in curve]
        rows.append(
            [f"`{name}`, {len(lines)} seed(s)", *(spread(values, percent) if values else "–" for values in cells)]
        )
    return [
        "",
        "Test accuracy of the mode in % after so many epochs; learning rates fall over each run's own length:",
        "",
        "| epoch | " + " | ".join(curve) + " |",
        "|---" * (len(curve) + 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def details(results: dict[str, Any]) -> list[str]:
    """Seeds, machine and commands of a recipe's results."""
    runs = results["runs"]
    first = next(iter(next(iter(runs.values())).values()))["environment"]
    counts = sorted({len(seeds) for seeds in runs.values()})
    seeds = " to ".join(map(str, sorted({counts[0], counts[-1]})))
    item, budget, recipe = recipe_of(results)
    samples = recipe["settings"].get("samples", Config.samples)
    return [
        *([recipe["note"], ""] if "note" in recipe else []),
        f"{seeds} seed(s); NLL in nats; `bayesbinn reproduce {item} --budget {budget} --again` on {first['cpu']}, "
        f"{first['threads']} thread(s) a run, torch {first['torch']}; means of {samples} networks. "
        "Single runs, by hand:",
        "",
        "```console",
        *(
            next(iter(seeds.values()))["environment"]["command"]
            for name, seeds in runs.items()
            if name not in former(results)
        ),
        "```",
        *old_form(results),
    ]


def former(results: dict[str, Any]) -> list[str]:
    """The runs of a rule that is no more, and that no settings of today repeat."""
    return [
        name
        for name, seeds in results["runs"].items()
        if any(run.get("form", "").startswith("former") for run in seeds.values())
    ]


def old_form(results: dict[str, Any]) -> list[str]:
    """What is to be said of them under the table."""
    lines = []
    for name in former(results):
        made = next(iter(results["runs"][name].values()))["environment"]
        lines += [
            "",
            f"`{name}` was made with a rule that shared the KL term by layers, which is no more (commit "
            f"{made['commit'][:8]}, `{made['command']}`). Its recipe has the form per tensor instead; it was not run.",
        ]
    return lines


def trials(results: dict[str, Any]) -> list[str]:
    """One row per trial of a search: its own settings and what it gave on held-out training examples."""
    lines = [
        "| method | settings | epochs | seeds | accuracy of the mode % | NLL of the mode |",
        "|---|---|---|---|---|---|",
    ]
    rows = []
    for seeds in results["runs"].values():
        settings = next(iter(seeds.values()))["settings"]
        shared = {*results["settings"], "method", "seed"}
        values = (f"{k} {v if isinstance(v, str) else f'{v:g}'}" for k, v in settings.items() if k not in shared)
        own = ", ".join(values) or "defaults"
        accuracies, nlls = (
            [run["curve"][f"validation_{name}"][-1] for run in seeds.values()] for name in ("accuracy", "nll")
        )
        cells = [f"`{settings['method']}`", own, str(settings["epochs"]), str(len(seeds))]
        cells += [spread(accuracies, percent), spread(nlls, four)]
        rows.append((settings["method"], statistics.fmean(nlls), "| " + " | ".join(cells) + " |"))
    return lines + [row for _, _, row in sorted(rows)]


def synthetic(results: dict[str, Any], folder: Path) -> list[str]:
    """The numbers of synthetic.py, and its figures, which go to a folder."""
    item, budget, recipe = recipe_of(results)
    heads = list(dict.fromkeys(head for seeds in results["summary"].values() for head in seeds[0]))
    rows = []
    for name, seeds in results["summary"].items():
        cells = [
            spread([run[head] for run in seeds], one if head.endswith("%") else three) if head in seeds[0] else "–"
            for head in heads
        ]
        rows.append("| " + " | ".join([name, *cells]) + " |")
    made = results["environment"]
    return [
        *([recipe["note"], ""] if "note" in recipe else []),
        *figures(results, folder),
        "",
        "| | " + " | ".join(heads) + " |",
        "|---" * (len(heads) + 1) + "|",
        *rows,
        "",
        f"{len(results['seeds'])} seeds of the networks, the same points; "
        f"{'the panels are of the first. ' if results['drawn'] else ''}"
        f"`bayesbinn reproduce {item} --budget {budget} --again` on {made['cpu']}, torch {made['torch']}.",
    ]


def load() -> list[dict[str, Any]]:
    """All stored results of recipes, in the order of their names, their runs in the order of the recipe."""
    files = sorted((HERE / "results").glob("*.json"))
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    found = [r for r in found if "name" in r and (isinstance(r.get("runs"), dict) or "drawn" in r)]
    for results in found:
        if "runs" in results and not is_study(results):
            _, _, recipe = recipe_of(results)
            results["runs"] = {name: results["runs"][name] for name in recipe["runs"] if name in results["runs"]}
    return found


def is_study(results: dict[str, Any]) -> bool:
    """Whether they are trials of docs/design/recipe-study.md, in the settings of its time: they have no recipe."""
    return str(results["name"]).startswith("tuning-")


def recipe_of(results: dict[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """Item, budget and recipe of results."""
    item, budget = results["name"].rsplit("-", 1)
    return item, budget, tomllib.loads((HERE / item / f"{budget}.toml").read_text(encoding="utf-8"))


def not_run() -> list[str]:
    """A row for every recipe that has no stored result."""
    stored = {path.stem for path in (HERE / "results").glob("*.json")}
    rows = []
    for path in sorted(HERE.glob("*/*.toml")):
        item, budget = path.parent.name, path.stem
        if f"{item}-{budget}" not in stored:
            title = tomllib.loads(path.read_text(encoding="utf-8"))["title"]
            rows.append(f"| {title} | `bayesbinn reproduce {item} --budget {budget} --again` |")
    return ["", "## Recipes that were not run", "", "| recipe | command |", "|---|---|", *rows] if rows else []


def reproduction(folder: Path) -> str:
    """The text of docs/reproduction.md; its figures go to a folder."""
    lines = [
        "# Reproduction",
        "",
        "Generated by `python experiments/tables.py` from `experiments/results/`; do not edit. "
        "Mean ± sample standard deviation over seeds, on the test set; the last epoch counts, nothing is chosen on it.",
        "*Mode* is the one network w = sign λ; *mean* averages the probabilities of drawn networks.",
    ]
    for results in load():
        if is_study(results):
            continue
        item = results["name"].rsplit("-", 1)[0]
        body = (
            synthetic(results, folder)
            if "drawn" in results
            else [
                *table(results),
                *verdict(results),
                *learning_curve(results),
                "",
                *details(results),
                *published(item),
            ]
        )
        lines += ["", f"## {results['title']}", "", *body]
    return "\n".join([*lines, *full_size(), *not_run()]) + "\n"


def renewed(path: Path, block: list[str]) -> str:
    """The text of a page with what stands between the two comments replaced."""
    before, rest = path.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    return before + BEGIN + "\n" + "\n".join(block) + "\n" + END + after


def recipe_study() -> str:
    """docs/design/recipe-study.md with its tables renewed."""
    block = []
    for results in load():
        if is_study(results):
            block += [f"### {results['title']}", "", *trials(results), "", results["note"], ""]
    return renewed(STUDY, block)


def pages(folder: Path) -> dict[Path, str]:
    """The pages that the results make, and their texts; figures go to a folder."""
    return {ROOT / "docs" / "reproduction.md": reproduction(folder), STUDY: recipe_study()}


def differing() -> list[str]:
    """The pages that are not as the results make them."""
    with tempfile.TemporaryDirectory() as folder:
        made = pages(Path(folder))
    return [str(path.relative_to(ROOT)) for path, text in made.items() if path.read_text(encoding="utf-8") != text]


def main() -> None:
    if "--check" not in sys.argv:
        for path, text in pages(FIGURES).items():
            path.write_text(text, encoding="utf-8")
    elif stale := differing():
        sys.exit(f"{', '.join(stale)}: other than the results, run python experiments/tables.py")


if __name__ == "__main__":
    main()

"""The tables and figures of docs/at-once.md from the results of at_once.py: blocks between comments."""

import json
import statistics
from pathlib import Path
from typing import Any

from bayesbinn.files import write_text
from experiments.at_once import MEMBERS, RIVALS, ROOT, TASKS
from experiments.figures_in_words import four, percent, spread

Seeds = list[dict[str, Any]]
LABELS = {  # in the order of the table, with what is written for each
    "bayesbinn": "**`bayesbinn`**",
    "bayesbinn-modes": f"**`bayesbinn --modes {MEMBERS}`**",
    "bayesbinn-modes-2": "`bayesbinn --modes 2`",
    "bayesbinn-modes-10": "`bayesbinn --modes 10`",
    "ste": "`ste`",
    **{name: f"`{name}`" for name in RIVALS if name != "float"},
    "ste-modes": f"`ste --modes {MEMBERS}`, snapshots",
    "Monte-Carlo dropout": "Monte-Carlo dropout on `ste`",
    f"ensemble of {MEMBERS} ste-fifth": f"{MEMBERS} `ste` of a fifth of the epochs each",
    f"ensemble of {MEMBERS} ste": f"{MEMBERS} `ste`",
    f"ensemble of {MEMBERS} bayesbinn": f"{MEMBERS} `bayesbinn`, their posteriors",
    "float": "`float`",
}
SINGLE = ("ste", "bop", "md-tanh", "adaste")  # binary rivals that are one network from one run


def grouped(stored: dict[str, Any]) -> dict[str, dict[str, Seeds]]:
    """{task: {label: its seeds}}, in the order of the tables."""
    found: dict[str, dict[str, Seeds]] = {task: {label: [] for label in LABELS} for task in TASKS}
    for key, result in stored["evaluations"].items():
        task, label, _ = key.split(" | ")
        if label in LABELS:
            found[task][label].append(result)
    for task, runs in borrowed().items():
        for label, seeds in runs.items():
            found[task][label] = found[task][label] or seeds
    return {task: {k: v for k, v in runs.items() if v} for task, runs in found.items() if any(runs.values())}


def borrowed() -> dict[str, dict[str, Seeds]]:
    """{task: {label: its seeds}} of earlier studies: the same networks, epochs and settings of the rivals."""
    folder = ROOT / "experiments" / "results"

    def read(name: str) -> Any:
        return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))

    found: dict[str, dict[str, Seeds]] = {}
    for task, name in (("mnist", "mnist-day"), ("cifar10", "cifar10-day")):
        for label, seeds in read(name)["runs"].items():
            if label in (*SINGLE, "float"):
                made = [
                    {
                        **{which: run["evaluation"][which] for which in ("mode", "mean")},
                        "auroc": {},
                        "train_seconds": [run["evaluation"]["train_seconds"]],
                        "environment": run["environment"],
                    }
                    for run in seeds.values()
                ]
                found.setdefault(task, {})[label] = made
    for label in (f"ensemble of {MEMBERS} ste", "Monte-Carlo dropout"):
        for e in read("uncertainty-day")["evaluations"][label].values():
            scores = e["ood"]["fashion-mnist"]["mean"]
            trained = e["environment"]["training"]
            result = {
                **{which: e[which] for which in ("mode", "mean")},
                "auroc": {name: score["auroc"] for name, score in scores.items() if score},
                "train_seconds": [0.0] * len(trained),
                "environment": {**e["environment"], "command": trained[0]},
            }
            found["mnist"].setdefault(label, []).append(result)
    return found


def values(seeds: Seeds, which: str, metric: str) -> list[float]:
    return [float(r[which][metric]) for r in seeds if r[which]]


def table(runs: dict[str, Seeds]) -> list[str]:
    """A row for each way to predict."""
    head = [
        "run",
        "seeds",
        "epochs in all",
        "mode %",
        "mean %",
        "NLL mode",
        "NLL mean",
        "ECE mode",
        "ECE mean",
        "AUROC",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for label, seeds in runs.items():
        cells = [LABELS[label], str(len(seeds)), cost(label, seeds)]
        for metric, form in (("accuracy", percent), ("nll", four), ("ece", four)):
            for which in ("mode", "mean"):
                found = values(seeds, which, metric)
                cells.append(spread(found, form) if found else "–")
        best = [max(r["auroc"].values()) for r in seeds if r["auroc"]]
        cells.append(spread(best, lambda v: f"{v:.3f}") if best else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def cost(label: str, seeds: Seeds) -> str:
    """Passes over the data that the row cost."""
    words = seeds[0]["environment"]["command"].split()
    return str(int(words[words.index("--epochs") + 1]) * len(seeds[0]["train_seconds"]))


def verdict(runs: dict[str, Seeds]) -> list[str]:
    """Where the default stands, in numbers."""

    def mean_of(label: str, which: str, metric: str) -> float:
        return statistics.fmean(values(runs[label], which, metric))

    rivals = [name for name in SINGLE if name in runs]
    if "bayesbinn" not in runs or not rivals:
        return []
    best = max(rivals, key=lambda r: mean_of(r, "mode", "accuracy"))
    surest = min(rivals, key=lambda r: mean_of(r, "mode", "nll"))
    ahead = 100 * (mean_of("bayesbinn", "mode", "accuracy") - mean_of(best, "mode", "accuracy"))
    nll = mean_of("bayesbinn", "mean", "nll") - mean_of(surest, "mode", "nll")
    words = [
        f"Mode of `bayesbinn` against the most accurate of one run's binary networks, `{best}`: {ahead:+.2f} points",
        f"NLL of its mean against the lowest of theirs, of `{surest}`: {nll:+.4f} nats",
    ]
    gains = [
        f"accuracy {100 * (mean_of('bayesbinn', 'mean', 'accuracy') - mean_of('bayesbinn', 'mode', 'accuracy')):+.2f}",
        *(
            f"{m.upper()} {mean_of('bayesbinn', 'mean', m) - mean_of('bayesbinn', 'mode', m):+.4f}"
            for m in ("nll", "ece")
        ),
    ]
    words.append(f"its mean against its mode: {', '.join(gains)}")
    five, cheap, several = f"ensemble of {MEMBERS} ste", f"ensemble of {MEMBERS} ste-fifth", "bayesbinn-modes"
    if several in runs:
        for rival, said in ((cheap, "of equal epochs in all"), (five, "of equal epochs each")):
            if rival in runs:
                off = mean_of(several, "mean", "nll") - mean_of(rival, "mean", "nll")
                words.append(f"`--modes {MEMBERS}` against {MEMBERS} `ste` {said}: {off:+.4f} nats")
    return ["", "; ".join(words) + "."]


def block(stored: dict[str, Any]) -> str:
    """All tables."""
    lines: list[str] = []
    for task, runs in grouped(stored).items():
        lines += [f"### {TASKS[task].title}", "", *table(runs), *verdict(runs), ""]
        made = next(iter(runs.values()))[0]["environment"]
        against = f"AUROC against {TASKS[task].outside}. " if TASKS[task].outside else ""
        machines = " and ".join(sorted({run["environment"]["cpu"] for seeds in runs.values() for run in seeds}))
        lines += [f"{against}Made on {machines}, one thread a run, torch {made['torch']}:"]
        commands = {
            label: seeds[0]["environment"]["command"]
            for label, seeds in runs.items()
            if len(seeds[0]["train_seconds"]) == 1 and label != "Monte-Carlo dropout"
        }
        own = [
            f"bayesbinn {c.removeprefix('bayesbinn ').partition(' --output ')[0]} --output RUN"
            for c in commands.values()
        ]
        own = list(dict.fromkeys(own))
        lines += ["", "```console", *own, "```", ""]
    return "\n".join(lines).rstrip()


def write(stored: dict[str, Any], docs: Path) -> None:
    """Renew the block of docs/at-once.md, and its figures."""
    from experiments.at_once_figures import draw

    page = docs / "at-once.md"
    begin, end = "<!-- at once: begin -->", "<!-- at once: end -->"
    before, rest = page.read_text(encoding="utf-8").split(begin)
    pictures = "\n".join(draw(stored, docs / "figures"))
    write_text(page, f"{before}{begin}\n{pictures}\n\n{block(stored)}\n{end}{rest.split(end)[1]}")

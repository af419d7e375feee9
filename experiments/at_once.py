"""Accurate and sure at once: one default, one run of several posteriors, and their rivals, on images.

    python experiments/at_once.py --work runs/at-once --workers 2 [--only mnist cifar10] [--seconds 3600]
    python experiments/at_once.py --render   # only docs/at-once.md and its figures

Results go to experiments/results/at-once.json as they come; what is stored is not run again, and a run that was stopped
goes on.  Each run computes with one thread.
"""

import argparse
import json
import math
import multiprocessing
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from bayesbinn.files import write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results" / "at-once.json"
MEMBERS = 5
DIAL = (0.0001, 0.0003, 0.003, 0.01, 0.03)  # kl_weight beside the default's


class Task(NamedTuple):
    """What is learned, the data of another kind (if any), and how many seeds each run has."""

    title: str
    settings: dict[str, Any]
    outside: str
    seeds: dict[str, int]


MLP: dict[str, Any] = {"width": 512, "batch_size": 100, "dropout": 0.1, "threads": 1}
VGG: dict[str, Any] = {
    **{"model": "vgg-small", "augment": "crop-flip", "batch_size": 100, "dropout": 0.0, "precision": "bfloat16"},
    **{"threads": 1, "epochs": 10},
}
SINGLE = {
    **{"bayesbinn": 5, "bayesbinn-modes": 3, "ste": 5, "ste-modes": 3, "ste-fifth": 5},
    **{"bayesbinn-modes-2": 1, "bayesbinn-modes-10": 1},
}
RIVALS = {"bop": 3, "md-tanh": 3, "adaste": 3, "float": 3}
TASKS = {
    "mnist": Task(
        "MNIST, MLP 784-512×3-10, 20 epochs", {"data": "mnist", "epochs": 20, **MLP}, "fashion-mnist", SINGLE | RIVALS
    ),
    "fashion-20": Task(
        "Fashion-MNIST, the same, 20 epochs", {"data": "fashion-mnist", "epochs": 20, **MLP}, "mnist", SINGLE | RIVALS
    ),
    "fashion-5": Task(
        "Fashion-MNIST, the same, 5 epochs",
        {"data": "fashion-mnist", "epochs": 5, **MLP},
        "mnist",
        {"bayesbinn": 5, "ste": 5} | RIVALS | {f"bayesbinn-kl-{kl:g}": 1 for kl in DIAL},
    ),
    "cifar10": Task(
        "CIFAR-10, VGG-small at width 1/8, crop and flip, 10 epochs",
        {"data": "cifar10", "width_multiplier": 0.125, **VGG},
        "",
        {"bayesbinn": 3, "bayesbinn-modes": 2, "ste": 2, "bop": 2, "float": 2},
    ),
    "cifar10-quarter": Task(
        "CIFAR-10, VGG-small at width 1/4, crop and flip, 10 epochs",
        {"data": "cifar10", "width_multiplier": 0.25, **VGG},
        "",
        {"bayesbinn": 1, "ste": 1},
    ),
}
# learning rates of the rivals were chosen on held-out training examples (docs/design/recipe-study.md)
RUNS: dict[str, dict[str, Any]] = {
    "bayesbinn": {},
    "bayesbinn-modes": {"method": "bayesbinn", "modes": MEMBERS},
    "bayesbinn-modes-2": {"method": "bayesbinn", "modes": 2},
    "bayesbinn-modes-10": {"method": "bayesbinn", "modes": 10},
    **{f"bayesbinn-kl-{kl:g}": {"method": "bayesbinn", "kl_weight": kl} for kl in DIAL},
    "ste": {"lr": 0.01},
    "ste-modes": {"method": "ste", "lr": 0.01, "modes": MEMBERS},
    "ste-fifth": {"method": "ste", "lr": 0.01},  # a fifth of the epochs: five of them cost one run
    "bop": {"threshold": 1e-8},
    "md-tanh": {"lr": 0.01, "beta_end": 100.0},
    "adaste": {"lr": 0.01},
    "float": {},
}
ON_CIFAR = {"bop": {"threshold": 1e-7}, "md-tanh": {"lr": 0.03, "beta_end": 100.0}, "float": {"lr": 0.003}}
FIRST = [
    "bayesbinn",
    "bayesbinn-modes",
    "ste",
    "ste-modes",
    "ste-fifth",
    *RIVALS,
    "bayesbinn-modes-2",
    "bayesbinn-modes-10",
    *(f"bayesbinn-kl-{kl:g}" for kl in DIAL),
]


class Job(NamedTuple):
    """One evaluation: of the runs (name, seed), which are trained if they are not there."""

    task: str
    label: str
    seed: int
    runs: tuple[tuple[str, int], ...]
    options: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.task} | {self.label} | {self.seed}"


def jobs() -> list[Job]:
    """All evaluations, those that matter most first: a first seed of everything before a second of anything."""
    found = []
    for task, t in TASKS.items():
        for name, seeds in t.seeds.items():
            found += [Job(task, name, seed, ((name, seed),)) for seed in range(seeds)]
        if t.seeds.get("ste", 0) >= MEMBERS:
            five = tuple(("ste", i) for i in range(MEMBERS))
            found.append(Job(task, "ensemble of 5 ste", 0, five))
            found.append(Job(task, "Monte-Carlo dropout", 0, five[:1], ("--voters", "dropout")))
        if "ste-fifth" in t.seeds:
            found.append(Job(task, "ensemble of 5 ste-fifth", 0, tuple(("ste-fifth", i) for i in range(MEMBERS))))
        if t.seeds["bayesbinn"] >= MEMBERS:
            five = tuple(("bayesbinn", i) for i in range(MEMBERS))
            found.append(Job(task, "ensemble of 5 bayesbinn", 0, five, ("--voters", "posterior")))
    order = {task: i for i, task in enumerate(TASKS)}
    return sorted(found, key=lambda j: (len(j.runs) > 1, j.seed, FIRST.index(j.runs[0][0]), order[j.task]))


def settings_of(task: str, name: str, seed: int) -> dict[str, Any]:
    """Of one run, by the names of the command line."""
    shared = TASKS[task].settings
    own = RUNS[name] | (ON_CIFAR.get(name, {}) if shared["data"] == "cifar10" else {})
    if name == "ste-fifth":
        own = own | {"epochs": shared["epochs"] // MEMBERS}
    return {**shared, "method": name, **own, "seed": seed}


def call(*words: str) -> str:
    command = [sys.executable, "-m", "bayesbinn", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr[-2000:]}")
    return done.stdout


def commit() -> str:
    """Of the checkout that this script is in."""
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def train(task: str, name: str, seed: int, work: Path) -> Path:
    """The run, trained if it is not there."""
    run = work / f"{task}-{name}-{seed}"
    if not (run / "evaluation.json").exists():
        settings = settings_of(task, name, seed)
        words = [w for k, v in settings.items() if k != "data" for w in (f"--{k.replace('_', '-')}", str(v))]
        call("train", settings["data"], *words, "--output", str(run), "--resume", "--quiet")
    return run


def do(job: Job, work: Path) -> tuple[str, dict[str, Any]]:
    """The key of an evaluation and what it found."""
    runs = [train(job.task, name, seed, work) for name, seed in job.runs]
    outside = TASKS[job.task].outside
    trained = [json.loads((run / "evaluation.json").read_text(encoding="utf-8")) for run in runs]
    if outside or len(runs) > 1:
        words = [*map(str, runs), *job.options, *(["--ood", outside] if outside else [])]
        found = json.loads(call("evaluate", *words, "--json", "--no-report"))
    else:
        found = trained[0]
    metrics = ("accuracy", "nll", "brier", "ece")
    result = {w: found[w] and {m: found[w][m] for m in metrics} for w in ("mode", "mean")}
    scores = (found["ood"][outside]["mean"] or found["ood"][outside]["mode"]) if outside else {}
    result["auroc"] = {name: s["auroc"] for name, s in scores.items() if s and "auroc" in s}
    result |= {"voters": found["voters"], "posterior": found["posterior"]}
    result["train_seconds"] = [t["train_seconds"] for t in trained]
    made = trained[0]["environment"]
    command = made["command"].partition(" --output ")[0].removeprefix("__main__.py ")
    result["environment"] = {k: made[k] for k in ("cpu", "torch")} | {"command": command, "commit": commit()}
    if len(runs) == 1:
        lines = (runs[0] / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        result["curve"] = [json.loads(line)["test_accuracy"] for line in lines]
    return job.key, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("runs/at-once"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--runs", nargs="*", default=FIRST, choices=FIRST)
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no run after this long")
    parser.add_argument("--render", action="store_true")
    arguments = parser.parse_args()
    stored: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results = stored.setdefault("evaluations", {})
    if not arguments.render:
        arguments.work.mkdir(parents=True, exist_ok=True)
        todo = [j for j in jobs() if j.task in arguments.only and j.key not in results]
        todo = [j for j in todo if j.runs[0][0] in arguments.runs]
        deadline = time.monotonic() + arguments.seconds
        with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
            several = [j for j in todo if len(j.runs) > 1]
            single = partial(do, work=arguments.work.resolve())
            for key, result in pool.imap_unordered(single, [j for j in todo if len(j.runs) == 1]):
                results[key] = result
                print(key, json.dumps({k: result[k] for k in ("mode", "mean", "auroc")}), flush=True)
                write_text(RESULTS, json.dumps(stored, indent=1) + "\n")
                if time.monotonic() > deadline:
                    pool.terminate()
                    break
        for job in several:
            if time.monotonic() < deadline:
                key, results[job.key] = do(job, arguments.work.resolve())
                write_text(RESULTS, json.dumps(stored, indent=1) + "\n")
    from experiments.at_once_page import write

    write(stored, ROOT / "docs")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

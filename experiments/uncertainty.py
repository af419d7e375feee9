"""One bayesbinn run against ensembles of ste runs and Monte-Carlo dropout: accuracy, calibration, detection.

    python experiments/uncertainty.py --config experiments/uncertainty/day.toml --output FILE   # train what is missing
    python experiments/uncertainty.py --output FILE --render   # only write docs/uncertainty.md and its figures

What is trained or evaluated already is not done again, so it can be stopped at any time; `--seeds 0` does one seed.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments/results/uncertainty-day.json"
MEMBERS = 5  # of an ensemble
FRONTIER = (0.0001, 0.0005, 0.002, 0.005, 0.01, 0.03, 0.1, 1.0)  # kl_weight
PLAIN = {"method": "bayesbinn", "estimator": "draw", "form": "plain", "momentum": 0.0}
SMALL = {
    "data": "mnist",
    "width": 128,
    "batch_size": 100,
    "dropout": 0.1,
    "threads": 1,
    "epochs": 5,
    "validation": 0.1667,
}
MNIST = ["--ood", "fashion-mnist", "--ood", "noise"]


class Study:
    """The runs and evaluations, done once each and stored as soon as they are there.

    Args:
        config: of the recipe.
        output: the results' file.
        work: the folder of the runs.
        wait: False skips evaluations whose runs are missing, instead of training them.
    """

    def __init__(self, config: dict[str, Any], output: Path, work: Path, wait: bool) -> None:
        self.config, self.output, self.work, self.wait = config, output, work, wait
        self.results: dict[str, Any] = {"name": "uncertainty-day", "title": config["title"], "evaluations": {}}
        if output.exists():
            self.results = json.loads(output.read_text(encoding="utf-8"))
        work.mkdir(parents=True, exist_ok=True)

    def train(self, name: str, settings: dict[str, Any]) -> bool:
        """Whether the run is there, after training it if allowed."""
        if not (self.work / name / "evaluation.json").exists():
            if not self.wait:
                return False
            options = {k: v for k, v in settings.items() if k != "data"}
            words = [w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", str(v))]
            self._call("train", str(settings["data"]), *words, "--output", name, "--resume")
        return True

    def evaluate(self, key: str, seed: int | str, runs: list[str], *options: str) -> None:
        """Evaluate runs of this study under the name `key`, unless that is stored."""
        stored = self.results["evaluations"].setdefault(key, {})
        if str(seed) in stored:
            return
        print(f"evaluating {key}, seed {seed}", flush=True)
        result = json.loads(self._call("evaluate", *runs, *options, "--json", "--no-report"))
        del result["figures"]
        trained = [json.loads((self.work / run / "evaluation.json").read_text(encoding="utf-8")) for run in runs]
        result["train_seconds"] = sum(t["train_seconds"] for t in trained)
        result["environment"]["training"] = [without_folder(t["environment"]["command"]) for t in trained]
        stored[str(seed)] = result
        self.results["commit"] = _commit()
        self.output.write_text(json.dumps(self.results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def _call(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "bayesbinn", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}  # the folder of the runs is the working one
        run = subprocess.run(command, cwd=self.work, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        return run.stdout


def study(s: Study, seeds: list[int]) -> None:
    """Everything, the comparison first."""
    shared = {"data": "mnist", **s.config["settings"]}
    bayes = {**shared, "method": "bayesbinn", **s.config["runs"]["bayesbinn"]}
    ste = {**shared, "method": "ste", **s.config["runs"]["ste"]}
    for seed in seeds:
        run = f"bayesbinn-{seed}"
        if s.train(run, {**bayes, "seed": seed}):
            s.evaluate("bayesbinn", seed, [run], *MNIST)
            s.evaluate("bayesbinn, own batch norm", seed, [run], *MNIST, "--batch-norm", "own", "--corruptions")
        members = [f"ste-{MEMBERS * seed + i}" for i in range(MEMBERS)]
        done = [m for i, m in enumerate(members) if s.train(m, {**ste, "seed": MEMBERS * seed + i})]
        if done:
            s.evaluate("ste", seed, done[:1], *MNIST)
            s.evaluate("ste, own batch norm", seed, done[:1], *MNIST, "--batch-norm", "own")
            s.evaluate("Monte-Carlo dropout", seed, done[:1], *MNIST, "--voters", "dropout")
        if len(done) == MEMBERS:
            s.evaluate("ensemble of 5 ste", seed, done, *MNIST, "--corruptions")
            s.evaluate("ensemble of 5 ste, own batch norm", seed, done, *MNIST, "--batch-norm", "own")
    for name, data, ood in (("fashion", "fashion-mnist", "mnist"), ("digits", "digits", "noise")):
        settings = {**PLAIN, "data": data, "lr": 0.00835, "kl_weight": 0.002, "threads": 1}
        if data == "fashion-mnist":
            settings |= {**bayes, "data": data, "epochs": 5}
        if s.train(name, {**settings, "seed": 0}):
            s.evaluate(f"{data} → {ood}", 0, [name], "--ood", ood)
            s.evaluate(f"{data} → {ood}, own batch norm", 0, [name], "--ood", ood, "--batch-norm", "own")
    for weight in FRONTIER:
        run = f"frontier-{weight:g}"
        if s.train(run, {**SMALL, **PLAIN, "lr": 0.12 * weight, "kl_weight": weight, "seed": 0}):
            options = ["--ood", "fashion-mnist", "--batch-norm", "own", "--scale"]
            s.evaluate("frontier", f"{weight:g}", [run], *options)


def without_folder(command: str) -> str:
    """The command line of a training with RUN for the folder that it had here."""
    return command.partition(" --output ")[0] + " --output RUN"


def _commit() -> str | None:
    command = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(command, capture_output=True, text=True, check=False)
    return head.stdout.strip() or None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "experiments/uncertainty/day.toml")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=Path("runs/reproduce/uncertainty-day"))
    parser.add_argument("--seeds", type=int, nargs="*", help="instead of the recipe's")
    parser.add_argument("--no-train", action="store_true", help="evaluate only what is trained")
    parser.add_argument("--render", action="store_true", help="only write docs/uncertainty.md and its figures")
    arguments = parser.parse_args()
    if not arguments.render:
        config = tomllib.loads(arguments.config.read_text(encoding="utf-8"))
        s = Study(config, arguments.output.resolve(), arguments.work.resolve(), not arguments.no_train)
        study(s, config["seeds"] if arguments.seeds is None else arguments.seeds)
    if arguments.output.resolve() != RESULTS:
        return  # the page shows what is stored
    from experiments.uncertainty_page import write

    write(json.loads(arguments.output.read_text(encoding="utf-8")), ROOT / "docs")


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

"""The estimators on tables, beside scikit-learn's: experiments/results/tables.json, and docs/tables-measured.md of it.

    python experiments/tabular.py measure MLBENCH     # MLBENCH: the folder data/ of R's package mlbench (see below)
    python experiments/tabular.py select MLBENCH      # the trials behind the estimators' defaults, on other tables
    python experiments/tabular.py page                # writes the page; --check: exit 1 if it differs

mlbench is a package of R; Debian has it: `apt-get download r-cran-mlbench && dpkg -x r-cran-mlbench*.deb FOLDER`, then
MLBENCH is FOLDER/usr/lib/R/site-library/mlbench/data.  `pip install rdata palmerpenguins` for it and for the penguins.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss

from bayesbinn.data import Data, load_data
from bayesbinn.environment import environment
from bayesbinn.files import write_text
from bayesbinn.metrics import gaussian_nll, interval_coverage
from bayesbinn.sklearn import BinaryClassifier, BinaryRegressor

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results" / "tables.json", HERE.parent / "docs" / "tables-measured.md"
SEEDS = 3
TEST = 0.3

Table = tuple[pandas.DataFrame, str]  # and the name of the target
# name: (source, target).  Those of `CHOSEN_ON` are for the defaults, those of `MEASURED` for the page.
MEASURED = {
    "breast cancer": ("sklearn:load_breast_cancer", "target"),
    "wine": ("sklearn:load_wine", "target"),
    "diabetes in Pima (holes)": ("mlbench:PimaIndiansDiabetes2", "diabetes"),
    "soybean (categories, holes)": ("mlbench:Soybean", "Class"),
    "penguins (categories, holes)": ("penguins:", "species"),
    "diabetes progression": ("sklearn:load_diabetes", "target"),
    "ozone (holes)": ("mlbench:Ozone", "V4"),
    "body mass of penguins (categories, holes)": ("penguins:", "body_mass_g"),
}
CHOSEN_ON = {
    "vehicle": ("mlbench:Vehicle", "Class"),
    "vowel": ("mlbench:Vowel", "Class"),
    "sonar": ("mlbench:Sonar", "Class"),
    "Boston housing": ("mlbench:BostonHousing", "medv"),
    "servo": ("mlbench:Servo", "Class"),
}
TRIALS: list[dict[str, Any]] = [
    {"depth": 2, "width": 128, "kl_weight": 0.0003, "cooling": 1.0},
    {"depth": 2, "width": 128, "kl_weight": 0.001, "cooling": 30.0},
    {"depth": 2, "width": 128, "kl_weight": 0.0003, "cooling": 100.0},
    {"depth": 2, "width": 256, "kl_weight": 0.001, "cooling": 30.0},
    {"depth": 2, "width": 128, "kl_weight": 0.001, "cooling": 30.0, "epochs": 100},
    {"depth": 1, "width": 256, "kl_weight": 0.001, "cooling": 30.0},
]


def read(source: str, mlbench: Path) -> pandas.DataFrame:
    """A table by its source."""
    kind, _, name = source.partition(":")
    if kind == "sklearn":
        from sklearn import datasets

        frame: pandas.DataFrame = getattr(datasets, name)(as_frame=True).frame
        return frame
    if kind == "penguins":
        from palmerpenguins import load_penguins

        return load_penguins()
    import rdata

    return pandas.DataFrame(rdata.read_rda(mlbench / f"{name}.rda")[name])


def split(frame: pandas.DataFrame, target: str, seed: int) -> Data:
    """The table with 30 % of its rows for the test, all columns made numbers on the rest."""
    frame = frame.dropna(subset=[target]).reset_index(drop=True)
    order = np.random.RandomState(seed).permutation(len(frame))
    part = np.full(len(frame), "train", object)
    part[order[: round(TEST * len(frame))]] = "test"
    numeric = pandas.api.types.is_numeric_dtype(frame[target]) and frame[target].nunique() > 10
    task = "regression" if numeric else "classification"
    return load_data(frame.assign(split=part), target=target, task=task, name=target)


def of_classes(model: Any, data: Data) -> dict[str, float]:
    """Accuracy and NLL on the test rows."""
    x, y = data.test.x.numpy(), data.test.y.numpy()
    probs = np.full((len(y), data.num_classes), 1e-12)
    probs[:, model.classes_] = model.predict_proba(x)
    probs = np.clip(probs, 1e-12, None)
    probs /= probs.sum(1, keepdims=True)
    return {
        "accuracy": float((probs.argmax(1) == y).mean()),
        "nll": float(log_loss(y, probs, labels=range(data.num_classes))),
    }


def of_numbers(model: Any, data: Data) -> dict[str, float]:
    """RMSE and R² on the test rows; of a model that gives deviations also NLL and the coverage of its intervals."""
    x, y = data.test.x.numpy(), data.test.y.double()
    std = None
    if isinstance(model, BinaryRegressor):
        mean, std = model.predict(x, return_std=True)
    else:
        mean = model.predict(x)
    error = (torch.from_numpy(np.asarray(mean, np.float64)) - y).square().mean()
    found = {"rmse": float(error.sqrt()), "r2": float(1 - error / y.var(correction=0))}
    if std is not None:
        pair = torch.from_numpy(mean), torch.from_numpy(std)
        found |= {"nll": gaussian_nll(*pair, y)}
        found |= {f"coverage_{level}": interval_coverage(*pair, y, level / 100) for level in (50, 90)}
    return found


MODELS: dict[str, dict[str, Callable[[int], Any]]] = {
    "classification": {
        "BinaryClassifier": lambda seed: BinaryClassifier(random_state=seed),
        "LogisticRegression": lambda seed: LogisticRegression(max_iter=2000),
        "HistGradientBoosting": lambda seed: HistGradientBoostingClassifier(random_state=seed),
    },
    "regression": {
        "BinaryRegressor": lambda seed: BinaryRegressor(random_state=seed),
        "RidgeCV": lambda seed: RidgeCV(np.logspace(-2, 3, 11)),
        "HistGradientBoosting": lambda seed: HistGradientBoostingRegressor(random_state=seed),
    },
}
SCORES = {"classification": of_classes, "regression": of_numbers}


def evaluated(make: Callable[[int], Any], data: Data, seed: int) -> dict[str, float]:
    """What a model is worth on the test rows, and the processor seconds that fitting it took."""
    started = time.process_time()
    model = make(seed).fit(data.train.x.numpy(), data.train.y.numpy())
    seconds = time.process_time() - started
    return {**SCORES[data.task](model, data), "seconds": seconds}


def measure(mlbench: Path, seeds: int) -> None:
    """Run everything, table after table, and store it."""
    found: dict[str, Any] = {}
    for name, (source, target) in MEASURED.items():
        frame = read(source, mlbench)
        parts = [split(frame, target, seed) for seed in range(seeds)]
        runs = {
            model: [evaluated(make, data, seed) for seed, data in enumerate(parts)]
            for model, make in MODELS[parts[0].task].items()
        }
        rows, columns = len(parts[0].train) + len(parts[0].test), frame.shape[1] - 1
        found[name] = {"source": source, "target": target, "task": parts[0].task, "rows": rows, "columns": columns}
        found[name] |= {"inputs": parts[0].input_shape[0], "classes": parts[0].num_classes, "models": runs}
        print(name, {model: {key: round(mean_of(own, key), 4) for key in own[0]} for model, own in runs.items()})
    store(tables=found, environment=environment())


def mean_of(runs: list[dict[str, float]], key: str) -> float:
    """The mean of a figure over the seeds."""
    return statistics.fmean(run[key] for run in runs)


def _made(kind: type, settings: dict[str, Any], seed: int) -> Any:
    return kind(**settings, random_state=seed)


def select(mlbench: Path, seeds: int) -> None:
    """The trials behind the defaults."""
    trials = []
    parts = [
        split(read(source, mlbench), target, 100 + seed)
        for source, target in CHOSEN_ON.values()
        for seed in range(seeds)
    ]
    for settings in TRIALS:
        runs: dict[str, list[dict[str, float]]] = {}
        for i, data in enumerate(parts):
            kind = BinaryClassifier if data.task == "classification" else BinaryRegressor
            name = list(CHOSEN_ON)[i // seeds]
            runs.setdefault(name, []).append(evaluated(partial(_made, kind, settings), data, i))
        trials.append({"settings": settings, "runs": runs})
        print(
            settings,
            {n: [round(statistics.fmean(r[k] for r in own), 3) for k in own[0]] for n, own in runs.items()},
            flush=True,
        )
    store(trials=trials)


def store(**parts: Any) -> None:
    """Replace parts of the stored results."""
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    write_text(RESULTS, json.dumps({**stored, **parts}, indent=1, ensure_ascii=False) + "\n")


COLUMNS = {
    "classification": {"accuracy": ("accuracy %", 100, 2), "nll": ("NLL (nats)", 1, 4)},
    "regression": {
        "rmse": ("RMSE", 1, 4),
        "r2": ("R²", 1, 3),
        "nll": ("NLL (nats)", 1, 3),
        "coverage_50": ("in 50 % interval", 100, 1),
        "coverage_90": ("in 90 % interval", 100, 1),
    },
}


def cell(runs: list[dict[str, float]], key: str, factor: float, digits: int) -> str:
    """Mean ± sample standard deviation, or a dash."""
    if key not in runs[0]:
        return "–"
    values = [factor * run[key] for run in runs]
    form = f".{digits}f" if key != "rmse" else ".4g"
    return f"{statistics.fmean(values):{form}} ± {statistics.stdev(values):{form if key != 'rmse' else '.2g'}}"


def verdicts(tables: dict[str, Any]) -> list[str]:
    """Where the estimators lose, by the figure that each table is ranked by."""
    lines = []
    for task, key, sign, name in (("classification", "nll", -1, "NLL"), ("regression", "rmse", -1, "RMSE")):
        own = [n for n, table in tables.items() if table["task"] == task]
        ours, *others = MODELS[task]
        lost = []
        for table in own:
            runs = tables[table]["models"]
            best = max(others, key=lambda m: sign * mean_of(runs[m], key))
            if mean_of(runs[best], key) < mean_of(runs[ours], key):
                gap = mean_of(runs[ours], key) - mean_of(runs[best], key)
                lost.append(f"{table} ({gap:.3g} more than `{best}`)")
        words = f"In {name} `{ours}` is behind the better of the two others on {len(lost)} of {len(own)} tables"
        lines.append(words + (f": {'; '.join(lost)}." if lost else "."))
    return lines


def page() -> str:
    """The text of docs/tables-measured.md."""
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    made = stored["environment"]
    lines = [
        "# Tables: what was measured",
        "",
        "Generated by `python experiments/tabular.py page` from `experiments/results/tables.json`; do not edit.",
        "Mean ± sample standard deviation over three splits (30 % of the rows for the test) and seeds. All models get "
        "the same numbers, made of the columns on the training rows ([tables](tables.md)), and have their defaults; "
        "`LogisticRegression` has 2,000 iterations, `RidgeCV` chooses its penalty. Seconds are the processor's, for "
        "one fit.",
        "",
        *verdicts(stored["tables"]),
    ]
    for task, columns in COLUMNS.items():
        heads = ["table", "rows", "inputs", "model", *(head for head, _, _ in columns.values()), "seconds"]
        lines += ["", f"## {task.capitalize()}", "", "| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
        for name, table in stored["tables"].items():
            if table["task"] != task:
                continue
            for model, runs in table["models"].items():
                cells = [name, f"{table['rows']:,}", str(table["inputs"]), f"`{model}`"]
                cells += [cell(runs, key, factor, digits) for key, (_, factor, digits) in columns.items()]
                lines.append("| " + " | ".join([*cells, f"{mean_of(runs, 'seconds'):.1f}"]) + " |")
    lines += [
        "",
        "## How the defaults were chosen",
        "",
        f"By these trials on other tables ({', '.join(CHOSEN_ON)}; of mlbench), two splits each: NLL on the test rows. "
        "The estimators have the settings of the fourth line; the logits began at 0 in these trials, and begin at the "
        "log of the classes' shares now.",
        "",
        "| settings | " + " | ".join(CHOSEN_ON) + " |",
        "|---" * (len(CHOSEN_ON) + 1) + "|",
    ]
    for trial in stored["trials"]:
        settings = ", ".join(f"{name} {value:g}" for name, value in trial["settings"].items())
        lines.append(
            "| " + " | ".join([settings, *(f"{mean_of(runs, 'nll'):.3f}" for runs in trial["runs"].values())]) + " |"
        )
    lines += [
        "",
        f"`python experiments/tabular.py measure MLBENCH` on {made['cpu']}, one thread, torch {made['torch']}.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("measure", "select", "page"))
    parser.add_argument("mlbench", nargs="?", type=Path)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.action == "page":
        if given.check:
            stale = not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page()
            sys.exit(f"{PAGE.name} differs from the results: run python experiments/tabular.py page" if stale else 0)
        PAGE.write_text(page(), encoding="utf-8")
    elif given.mlbench is None:
        parser.error(f"{given.action} needs MLBENCH, the folder data/ of R's package mlbench")
    else:
        torch.set_num_threads(1)
        {"measure": measure, "select": select}[given.action](given.mlbench, given.seeds)


if __name__ == "__main__":
    main()

"""Which settings of `bayesbinn train` suit many networks at once: short runs, judged on held-out training examples.

    python experiments/default_trials.py SETS --workers 2 [--only digits letters]   # SETS: see experiments/own/data.py
    python experiments/default_trials.py SETS --render    # only the table of docs/design/default.md

A sixth of the training set is held out (own networks: a fifth).  What is stored is not run again.
"""

import argparse
import json
import multiprocessing
import sys
import time
import warnings
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

import bayesbinn as bb
from bayesbinn.data import Data, load_data
from bayesbinn.environment import environment
from bayesbinn.files import write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "experiments" / "results" / "default-trials.json", ROOT / "docs" / "design" / "default.md"
MLP = {"width": 512, "batch_size": 100, "dropout": 0.1, "epochs": 5}
VGG = {"width_multiplier": 0.125, "augment": "crop-flip", "batch_size": 100, "dropout": 0.0, "precision": "bfloat16"}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {  # of `bayesbinn train`: data, model, settings
    "mnist": ("mnist", "mlp", MLP),
    "fashion": ("fashion-mnist", "mlp", MLP),
    "cifar": ("cifar10", "vgg-small", {**VGG, "epochs": 4}),
    "digits": ("digits", "mlp", {"width": 256, "batch_size": 32, "dropout": 0.1, "epochs": 40}),
}
OWN = {"letters": "mlp, letters", "satellite": "mlp, satellite", "gru": "gru, vowels", "dna": "mlp, dna"}


def warm(form: str = "tensor", lr: float = 3.0, kl: float = 1e-3, magnitude: float = 0.3) -> dict[str, Any]:
    shared = {"estimator": "mean", "cooling": 100.0}
    return {**shared, "form": form, "lr": lr, "kl_weight": kl, "magnitude": magnitude}


SETTINGS: dict[str, dict[str, Any]] = {
    "draw, tensor, lr 0.3, kl 0.0003": {"estimator": "draw"},
    "mean, tensor, lr 3, kl 0.001 (the default)": warm(),
    "mean, tensor, lr 3, kl 0.0003": warm(kl=3e-4),
    "mean, tensor, lr 3, kl 0.003": warm(kl=3e-3),
    "mean, tensor, lr 6, kl 0.0005, magnitude 0.6": warm(lr=6.0, kl=5e-4, magnitude=0.6),
    "mean, tensor, lr 12, kl 0.00025, magnitude 1.2": warm(lr=12.0, kl=2.5e-4, magnitude=1.2),
    "mean, weight, lr 3, kl 0.001": warm("weight"),
    "ste, lr 0.01": {"method": "ste", "lr": 0.01},
}


@cache
def held_out(name: str) -> Data:
    """A data set whose test part is a sixth of its training part."""
    train = load_data(name).train
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(1))
    cut = len(train) // 6
    parts = [(train.x[i].numpy(), train.y[i].numpy()) for i in (order[cut:], order[:cut])]
    return load_data((parts[0], parts[1]), name=name)


def run(job: tuple[str, str], sets: str) -> dict[str, Any]:
    """Train one network with one setting."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    network, label = job
    net: Any
    if network in MODELS:
        data_name, net, options = MODELS[network]
        data = held_out(data_name)
    else:
        sys.path.insert(0, str(ROOT / "experiments" / "own"))
        import networks as own  # type: ignore[import-not-found]

        task = own.ALL[OWN[network]]
        train = own.data_of(OWN[network], sets).train
        data = load_data((train.x.numpy(), train.y.numpy()), name=network)
        torch.manual_seed(0)
        net, options = task.net(data), {"epochs": task.epochs, "batch_size": task.batch_size}
    started = time.perf_counter()
    found = bb.fit(net, data, threads=1, seed=0, **options, **SETTINGS[label]).evaluation
    metrics = ("accuracy", "nll", "ece")
    result = {w: {m: found[w][m] for m in metrics} if found[w] else None for w in ("mode", "mean")}
    return {"network": network, "setting": label, **result, "seconds": time.perf_counter() - started}


def table(runs: list[dict[str, Any]]) -> str:
    """A row a setting, a column a network: accuracy of the mode and of the mean, NLL of the mean (ste: of the mode)."""
    networks = [n for n in (*MODELS, *OWN) if any(r["network"] == n for r in runs)]
    lines = [f"| | {' | '.join(networks)} |", "|---" * (1 + len(networks)) + "|"]
    for label in SETTINGS:
        cells = []
        for network in networks:
            of = [r for r in runs if (r["network"], r["setting"]) == (network, label)]
            if not of:
                cells.append("–")
                continue
            mode, mean = of[0]["mode"], of[0]["mean"]
            drawn = f" / {100 * mean['accuracy']:.2f}" if mean else ""
            cells.append(f"{100 * mode['accuracy']:.2f}{drawn}, {(mean or mode)['nll']:.4f}")
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[*MODELS, *OWN])
    parser.add_argument("--render", action="store_true")
    arguments = parser.parse_args()
    stored = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    content = {"environment": environment(), "trials": []} | stored
    known = {(r["network"], r["setting"]) for r in content["trials"]}
    todo = [(n, s) for n in arguments.only for s in SETTINGS if (n, s) not in known]
    if not arguments.render:
        with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
            for result in pool.imap_unordered(partial(run, sets=arguments.sets), todo):
                content["trials"].append(result)
                write_text(RESULTS, json.dumps(content, indent=1) + "\n")
    begin, end = "<!-- trials: begin -->", "<!-- trials: end -->"
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    made = f"torch {content['environment']['torch']}, {content['environment']['cpu']}, one seed."
    write_text(PAGE, f"{before}{begin}\n{table(content['trials'])}\n\n{made}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    main()

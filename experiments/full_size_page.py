"""The section of docs/reproduction.md on the runs of full_size.py."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from bayesbinn.training.models import ModelConfig, build_model
from experiments.figures_in_words import four, percent, published

HERE = Path(__file__).resolve().parent
FULL_SIZE, ITS_TRIALS = "cifar10-gpu-gpu", "tuning-cifar10-gpu-gpu"


def full_size() -> list[str]:
    """The section on the runs of full_size.py: results, how far they overfit, the trials behind their settings."""
    results, tried = (
        json.loads((HERE / "results" / f"{name}.json").read_text(encoding="utf-8")) for name in (FULL_SIZE, ITS_TRIALS)
    )
    runs = {run["settings"]["run"]: run for run in results["runs"]}
    recipe = tomllib.loads((HERE / "cifar10-gpu" / "gpu.toml").read_text(encoding="utf-8"))
    runs = {name: runs[name] for name in recipe["runs"]}
    lines = [
        "| run | mode % | mean % | NLL mode | NLL mean | ECE mode | ECE mean | undecided % | training NLL "
        "| lowest test NLL of the mode | min |",
        "|---" * 11 + "|",
    ]
    for name, run in runs.items():
        cells = [f"`{name}`"]
        for key, form in (("accuracy", percent), ("nll", four), ("ece", four)):
            cells += [form(run[which][key]) if run[which] else "–" for which in ("mode", "mean")]
        lowest = min(run["curve"], key=lambda point: float(point["nll"]))
        cells += [f"{100 * run['undecided']:.1f}" if "undecided" in run else "–", four(run["curve"][-1]["train_nll"])]
        cells += [f"{four(lowest['nll'])}, epoch {lowest['epoch']}", f"{run['train_seconds'] / 60:.1f}"]
        lines.append("| " + " | ".join(cells) + " |")
    ours, older = runs["bayesbinn"], runs["bayesbinn-2020"]
    nlls = sorted((min(run[w]["nll"] for w in ("mode", "mean") if run[w]), name) for name, run in runs.items())
    best = max(run[w]["accuracy"] for run in (ours, older) for w in ("mode", "mean"))
    behind = 100 * (older["mode"]["accuracy"] - ours["mode"]["accuracy"])
    paper = tomllib.loads((HERE / "published.toml").read_text(encoding="utf-8"))["cifar10"][
        "BayesBiNN (Meng et al., 2020)"
    ]
    rows = []
    for run in tried["runs"]:
        s, mean = run["settings"], run["mean"]
        names = [n for n in ("lr", "kl_weight", "cooling", "magnitude", "data_factor") if n in s]
        own = ", ".join(f"{n} {s[n]:g}" for n in names)
        nll = four(mean["nll"]) if mean else "–"
        cells = [f"`{s['method']}`", own, percent(run["mode"]["accuracy"]), four(run["mode"]["nll"]), nll]
        rows.append((s["method"], -run["mode"]["accuracy"], "| " + " | ".join(cells) + " |"))
    first = results["runs"][0]
    return [
        "",
        f"## {results['title']}",
        "",
        *lines,
        "",
        f"The paper's {paper} was not reached: the best binary network or mean here has {percent(best)}. All overfit: "
        "the training NLL is next to nothing at the end, and each mode had a lower test NLL before. "
        f"The mean of `{nlls[0][1]}` has the lowest NLL, {four(nlls[0][0])}; the next is `{nlls[1][1]}` with "
        f"{four(nlls[1][0])}. The mode of `bayesbinn` is {behind:.2f} points behind that of `bayesbinn-2020`.",
        "",
        f"{recipe['note']} One seed; NLL in nats; bfloat16; means of {first['settings']['samples']} networks; every "
        "network has its own batch-norm statistics; *training NLL* is that of the last epoch, as trained. "
        f"`bayesbinn reproduce cifar10-gpu --budget gpu` on one {first['environment']['device']}, all runs at once (so "
        f"*min* is an upper bound), torch {first['environment']['torch']}. `experiments/carry.py` packs the data set "
        "for a machine that cannot download it.",
        *estimate(results["runs"]),
        *published("cifar10"),
        "",
        f"Trials, `bayesbinn reproduce tuning-cifar10-gpu --budget gpu`. {tried['note']}",
        "",
        "| method | settings | accuracy of the mode % | NLL of the mode | NLL of the mean |",
        "|---|---|---|---|---|",
        *(row for _, _, row in sorted(rows)),
    ]


def estimate(runs: list[dict[str, Any]]) -> list[str]:
    """What the recipe of more epochs would take on the device of these runs, which shared it."""
    recipe = tomllib.loads((HERE / "cifar10-gpu" / "paper.toml").read_text(encoding="utf-8"))
    config = ModelConfig(model="vgg-small", dropout=0.0)
    net = build_model(config, (3, 32, 32), 10, torch.zeros(3), torch.ones(3)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 32, 32))
    each = 3 * counter.get_total_flops()  # the backward pass takes twice the forward pass
    rate = each * sum(run["settings"]["epochs"] for run in runs) * 50_000 / max(run["train_seconds"] for run in runs)
    images = recipe["settings"]["epochs"] * 45_000
    return [
        "",
        f"Prepared and not run, for want of a CUDA device: `bayesbinn reproduce cifar10-gpu --budget paper --again`, "
        f"{recipe['settings']['epochs']} epochs with a tenth held out. A training step takes {each / 1e9:.2f} GFLOP an "
        f"image; the {len(runs)} runs above did {rate / 1e12:.0f} TFLOP a second together, at which a row would take "
        f"{each * images / rate / 60:.1f} minutes.",
    ]

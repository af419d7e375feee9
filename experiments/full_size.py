"""The networks of the paper at full width on one CUDA device: every run of a recipe in its own process, all at once.

    bayesbinn reproduce cifar10-gpu --budget gpu       # experiments/cifar10-gpu/gpu.toml
    python experiments/full_size.py --config RECIPE.toml --output RESULT.json

Data and augmentation stay on the device, layers compute in bfloat16 (where ±1 is exact), images lie channels last.
A run that is stored already is not run again.  Settings of a run: `method`, what that method takes, and what all share:
data, model, width_multiplier, augment, epochs, batch_size, validation, dropout, affine, output_scale, real_lr, samples,
device, curve_epochs.  `carry.py` packs the data for a machine that cannot download them.
"""

import argparse
import json
import math
import multiprocessing
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn.binarizers import MeanWeight, Reference2020, SignSTE, StraightThroughSample
from bayesbinn.data import AUGMENTATIONS, Data, Examples, channels_last, load_data, to_device
from bayesbinn.environment import environment
from bayesbinn.files import write_text
from bayesbinn.optim import BayesBiNN, NetworkOptimizer
from bayesbinn.training.models import ModelConfig, build_model

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHARED: dict[str, Any] = {
    **{"data": "cifar10", "model": "vgg-small", "width_multiplier": 1.0, "augment": "crop-flip", "epochs": 100},
    **{"batch_size": 250, "validation": 0.0, "dropout": 0.0, "affine": True, "output_scale": True, "real_lr": 0.01},
    **{"samples": 32, "device": "cuda", "curve_epochs": 10},
}
METHODS: dict[str, dict[str, Any]] = {
    "bayesbinn": {
        **{"estimator": "mean", "form": "tensor", "lr": 3.0, "kl_weight": 0.0005, "momentum": 0.9},
        **{"cooling": 100.0, "magnitude": 0.3},
    },
    "bayesbinn-2020": {"form": "plain", "lr": 3e-4, "data_factor": 10.0, "magnitude": 10.0, "temperature": 1e-10},
    "ste": {"lr": 0.01, "magnitude": 0.1},
    "float": {"lr": 0.003},
}


def make(net: nn.Module, s: dict[str, Any], num_data: int) -> NetworkOptimizer:
    """Make `net` what the method trains, and its optimizer."""
    method = s["method"]
    adam = {"fused": s["device"] == "cuda"}
    if method == "float":
        return NetworkOptimizer(torch.optim.Adam(net.parameters(), s["lr"], **adam))
    estimators = {"mean": MeanWeight, "draw": StraightThroughSample}
    binarizer = {
        "bayesbinn": lambda: estimators[s["estimator"]](),
        "bayesbinn-2020": lambda: Reference2020(s["temperature"]),
        "ste": SignSTE,
    }[method]()
    bb.binarize_(net, binarizer=binarizer, magnitude=s["magnitude"])
    binary, real = bb.split_parameters(net)
    first: torch.optim.Optimizer
    if method == "ste":
        first = torch.optim.Adam(binary, s["lr"], **adam)
    elif method == "bayesbinn":
        options = {name: s[name] for name in ("form", "momentum")}
        first = BayesBiNN(binary, s["lr"], num_data=num_data, kl_weight=s["kl_weight"] * s["cooling"], **options)
    else:
        first = BayesBiNN(binary, s["lr"], num_data=num_data * s["data_factor"], form=s["form"])
    return NetworkOptimizer(first, torch.optim.Adam(real, s["real_lr"], **adam))


def run(s: dict[str, Any]) -> dict[str, Any]:
    """Train with the settings `s`, and measure: on the validation part if there is one, else on the test set."""
    torch.set_num_threads(1)
    torch.manual_seed(s["seed"])
    device = torch.device(s["device"])
    data = to_device(load_data(s["data"], s["validation"]), device)
    names = ("model", "width_multiplier", "dropout", "affine", "output_scale")
    net: nn.Module = build_model(
        ModelConfig(**{n: s[n] for n in names}), data.input_shape, data.num_classes, data.mean, data.std
    )
    net = net.to(device, memory_format=torch.channels_last)
    optimizer = make(net, s, len(data.train))
    rates = [group["lr"] for group in optimizer.param_groups]
    steps, size = len(data.train) // s["batch_size"], s["batch_size"]
    total, cooling = s["epochs"] * steps, s.get("cooling", 1.0)
    augment, curve, done, started = AUGMENTATIONS[s["augment"]], [], 0, time.perf_counter()
    for epoch in range(1, s["epochs"] + 1):
        net.train()
        order, losses = torch.randperm(len(data.train), device=device), torch.zeros((), device=device)
        for i in range(steps):
            share = 0.5 * (1 + math.cos(math.pi * done / total))
            optimizer.temper_(cooling ** (-1 / total))
            done += 1
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                # an adaptive lr is in units of λ, and grows with λ as the posterior cools
                rise = cooling ** (done / total - 1) if group.get("form", "plain") != "plain" else 1.0
                group["lr"] = rate * share * rise
            chosen = order[i * size : (i + 1) * size]
            x = channels_last(augment(data.train.x[chosen].float()))
            with torch.autocast(device.type, torch.bfloat16):
                logits = net(x)
            loss = F.cross_entropy(logits.float(), data.train.y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.detach()
        if not math.isfinite(float(losses)):
            raise SystemExit(f"{s['run']}: the loss became {float(losses)} in epoch {epoch}")
        if epoch % s["curve_epochs"] == 0 or epoch == s["epochs"]:
            point = {"epoch": epoch, "train_nll": float(losses) / steps, "seconds": time.perf_counter() - started}
            curve.append(point | measure(net, data, s, 0))
            print(s["run"], {k: round(v, 4) for k, v in curve[-1].items()}, flush=True)
    seconds = time.perf_counter() - started
    result = {"settings": s, "train_seconds": seconds, "curve": curve, "mode": measure(net, data, s, 0), "mean": None}
    if s["method"].startswith("bayesbinn"):
        result["mean"] = measure(net, data, s, s["samples"])
        result["undecided"] = bb.posterior_summary(net).total.undecided
    result["environment"] = environment() | {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    return result


def measure(net: nn.Module, data: Data, s: dict[str, Any], num_samples: int) -> dict[str, float]:
    """Accuracy, NLL and ECE with batch-norm statistics of the network's own, on augmented training inputs."""
    part: Examples = data.validation or data.test
    bb.calibrate_(net, data.calibration(s["augment"]), num_samples=min(8, max(num_samples, 1)))
    probs: Tensor = bb.predict(net, channels_last(part.x.float()), num_samples).probs
    return {name: float(getattr(bb.metrics, name)(probs, part.y)) for name in ("accuracy", "nll", "ece")}


def settings_of(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """The settings of every run and seed, complete.

    Raises:
        SystemExit: for a setting that a method does not take.
    """
    found = []
    for seed in recipe.get("seeds", [0]):
        for name, own in recipe["runs"].items():
            given = {"method": name, **recipe.get("settings", {}), **own}
            known = {**SHARED, **METHODS[given["method"]], "method": ""}
            wrong = given.keys() - known.keys()
            if wrong:
                raise SystemExit(f"run {name} takes no {', '.join(sorted(wrong))}: it takes {', '.join(known)}")
            found.append({"run": name, "seed": seed, **known, **given})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=16, help="runs side by side")
    arguments = parser.parse_args()
    recipe = tomllib.loads(arguments.config.read_text(encoding="utf-8"))
    stored = json.loads(arguments.output.read_text(encoding="utf-8"))["runs"] if arguments.output.exists() else []
    known = [result["settings"] for result in stored]
    todo = [s for s in settings_of(recipe) if s not in known]
    context = multiprocessing.get_context("spawn")
    with context.Pool(max(1, min(arguments.jobs, len(todo))), maxtasksperchild=1) as pool:
        for result in pool.imap_unordered(run, todo):
            stored.append(result)
            head = {"name": arguments.output.stem, "title": recipe["title"], "note": recipe.get("note", "")}
            content = {**head, "runs": stored}
            write_text(arguments.output, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            s, mode, mean = result["settings"], result["mode"], result["mean"]
            best = f", mean {mean['accuracy']:.2%} {mean['nll']:.4f}" if mean else ""
            print(f"{s['run']}, seed {s['seed']}: mode {mode['accuracy']:.2%} {mode['nll']:.4f}{best}", flush=True)


if __name__ == "__main__":
    main()

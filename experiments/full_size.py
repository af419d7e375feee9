"""The networks of the paper at full width on one CUDA device: every run of a recipe in its own process, all at once.

    bayesbinn reproduce cifar10-gpu --budget gpu       # experiments/cifar10-gpu/gpu.toml
    python experiments/full_size.py --config RECIPE.toml --output RESULT.json

Data and augmentation stay on the device, layers compute in bfloat16 (where ±1 is exact), images lie channels last, and
a CUDA device replays the forward and backward pass of a step as one graph.  A run that is stored already is not run
again.  Settings of a run: `method`, what that method takes, and what all share:

* data, model, width_multiplier, dropout, affine, output_scale, augment, epochs, batch_size, real_lr, device, compile
  (by torch.compile: fewer passes over memory, after a minute).
* validation: share of the training set that is kept back.  report: the part whose figures the run has, "validation"
  (where there is one) or "test"; with "test" the validation part gives the temperature of the scaled figures.
* samples: draws of the mean.  curve_epochs: epochs between two points of the curve.  cool_every: steps between two
  coolings.

`carry.py` packs the data for a machine that cannot download them.
"""

import argparse
import json
import math
import multiprocessing
import sys
import time
from collections.abc import Iterable
from contextlib import ExitStack
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
    **{"samples": 32, "device": "cuda", "curve_epochs": 10, "compile": False, "report": "validation", "cool_every": 1},
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


class Step:
    """The forward and backward pass of one batch, by index; on CUDA captured once, and replayed.

    The gradients, which every pass overwrites, and the sum of the losses (nats) stay where they are.
    """

    def __init__(self, net: nn.Module, examples: Examples, s: dict[str, Any]) -> None:
        device = examples.y.device
        self.net, self.examples, self.augment = net, examples, AUGMENTATIONS[s["augment"]]
        self.forward = torch.compile(net) if s["compile"] else net
        self.chosen = torch.arange(s["batch_size"], device=device)
        self.losses = torch.zeros((), device=device)
        self.graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    self._pass()
            torch.cuda.current_stream().wait_stream(side)
            net.zero_grad()  # capture writes gradients of its own
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self._pass()
            self.losses.zero_()

    def _pass(self) -> None:
        x, y = self.examples.x[self.chosen].float(), self.examples.y[self.chosen]
        with torch.autocast(x.device.type, torch.bfloat16, cache_enabled=False):
            logits = self.forward(channels_last(self.augment(x)))
        loss = F.cross_entropy(logits.float(), y)
        loss.backward()
        self.losses += loss.detach()

    def __call__(self, chosen: Tensor) -> None:
        self.chosen.copy_(chosen)
        if self.graph is None:
            self.net.zero_grad()
            self._pass()
        else:
            self.graph.replay()


def run(s: dict[str, Any]) -> dict[str, Any]:
    """Train with the settings `s`, and measure."""
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
    net.train()
    step, curve, done = Step(net, data.train, s), [], 0
    started = time.perf_counter()
    for epoch in range(1, s["epochs"] + 1):
        net.train()
        order = torch.randperm(len(data.train), device=device)
        step.losses.zero_()
        for i in range(steps):
            if done % s["cool_every"] == 0:
                optimizer.temper_(cooling ** (-s["cool_every"] / total))
            share = 0.5 * (1 + math.cos(math.pi * done / total))
            done += 1
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                # an adaptive lr is in units of λ, and grows with λ as the posterior cools
                rise = cooling ** (done / total - 1) if group.get("form", "plain") != "plain" else 1.0
                group["lr"] = rate * share * rise
            step(order[i * size : (i + 1) * size])
            optimizer.step()
        train_nll = float(step.losses) / steps
        if not math.isfinite(train_nll):
            raise SystemExit(f"{s['run']}: the loss became {train_nll} in epoch {epoch}")
        if epoch % s["curve_epochs"] == 0 or epoch == s["epochs"]:
            point = {"epoch": epoch, "train_nll": train_nll, "seconds": time.perf_counter() - started}
            curve.append(point | measure(net, data, s, 0, data.validation or data.test)[0])
            print(s["run"], {k: round(v, 4) for k, v in curve[-1].items()}, flush=True)
    seconds = time.perf_counter() - started
    result = {"settings": s, "train_seconds": seconds, "curve": curve, "mean": None}
    for name, samples in (("mode", 0), ("mean", s["samples"])):
        if not samples or s["method"].startswith("bayesbinn"):
            result[name] = report(net, data, s, samples)
    if s["method"].startswith("bayesbinn"):
        result["undecided"] = bb.posterior_summary(net).total.undecided
    result["environment"] = environment() | {"device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu"}
    return result


def report(net: nn.Module, data: Data, s: dict[str, Any], num_samples: int) -> dict[str, float]:
    """The figures of a run; of the test set also those at the temperature that fits the validation part."""
    if s["report"] != "test" or not data.validation:
        return measure(net, data, s, num_samples, data.validation or data.test)[0]
    seen, probs = measure(net, data, s, num_samples, data.validation)
    temperature = bb.metrics.fit_temperature(probs, data.validation.y)
    figures, probs = measure(net, data, s, num_samples, data.test)
    scaled = bb.metrics.scale_probs(probs, temperature)
    figures |= {f"{name}_scaled": float(getattr(bb.metrics, name)(scaled, data.test.y)) for name in ("nll", "ece")}
    return figures | {"temperature": temperature, "validation_accuracy": seen["accuracy"]}


def measure(
    net: nn.Module, data: Data, s: dict[str, Any], num_samples: int, part: Examples
) -> tuple[dict[str, float], Tensor]:
    """Accuracy, NLL and ECE with batch-norm statistics of the network's own, on augmented training inputs."""
    bb.calibrate_(net, data.calibration(s["augment"]), num_samples=max(num_samples, 1))
    probs: Tensor = bb.predict(net, channels_last(part.x.float()), num_samples).probs
    return {name: float(getattr(bb.metrics, name)(probs, part.y)) for name in ("accuracy", "nll", "ece")}, probs


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
    parser.add_argument(
        "--jobs",
        type=int,
        default=16,
        help="runs side by side, each in a process of its own; 1: one after the other in this one",
    )
    arguments = parser.parse_args()
    recipe = tomllib.loads(arguments.config.read_text(encoding="utf-8"))
    stored = json.loads(arguments.output.read_text(encoding="utf-8"))["runs"] if arguments.output.exists() else []
    known = [{**SHARED, **result["settings"]} for result in stored]
    todo = [s for s in settings_of(recipe) if s not in known]
    jobs = min(arguments.jobs, len(todo))
    with ExitStack() as stack:
        each: Iterable[dict[str, Any]] = map(run, todo)
        if jobs > 1:
            pool = stack.enter_context(multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1))
            each = pool.imap_unordered(run, todo)
        for result in each:
            stored.append(result)
            head = {"name": arguments.output.stem, "title": recipe["title"], "note": recipe.get("note", "")}
            content = {**head, "runs": stored}
            write_text(arguments.output, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            s, mode, mean = result["settings"], result["mode"], result["mean"]
            best = f", mean {mean['accuracy']:.2%} {mean['nll']:.4f}" if mean else ""
            print(f"{s['run']}, seed {s['seed']}: mode {mode['accuracy']:.2%} {mode['nll']:.4f}{best}", flush=True)


if __name__ == "__main__":
    main()

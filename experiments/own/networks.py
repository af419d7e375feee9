"""Networks that people bring, trained with the defaults: float, ste and bayesbinn, three seeds, beside each other.

    python experiments/own/networks.py SETS --output experiments/results/own-networks.json --workers 2 [--only vit ...]
    python experiments/own/networks.py SETS --output ... --page docs/own-networks.md  # writes the tables

SETS is the folder that own/data.py wrote.  A network is given as a person would write it, and epochs and batch size as
a person would choose them, the same for every method.  The methods `ste` and `bayesbinn` have their defaults; `float`
takes the best of four learning rates on a fifth of the training set.  A run that is stored is not run again.
"""

import argparse
import json
import math
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn.data import Data, load_data
from bayesbinn.environment import environment
from bayesbinn.files import write_text

RATES = (0.0003, 0.001, 0.003, 0.01)
SEEDS = (0, 1, 2)


def mlp(inputs: int, classes: int, width: int = 128) -> nn.Module:
    """No norm at all."""
    hidden = [nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(width, classes))


class Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.down = nn.Sequential()
        if stride > 1:
            self.down = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.silu(self.bn1(self.conv1(x)))
        return F.silu(self.bn2(self.conv2(y)) + self.down(x))


def resnet(width: int = 16) -> nn.Module:
    """SiLU, downsampling shortcuts."""
    stem = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.SiLU()]
    blocks = [Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10))


class ConvNeXtBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.wide, self.narrow = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.narrow(F.gelu(self.wide(y))).permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """LayerNorm, depthwise convolutions, GELU."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        self.stem, self.down = nn.Conv2d(3, width, 4, 4), nn.Conv2d(width, 2 * width, 2, 2)
        self.blocks1 = nn.Sequential(ConvNeXtBlock(width), ConvNeXtBlock(width))
        self.blocks2 = nn.Sequential(ConvNeXtBlock(2 * width), ConvNeXtBlock(2 * width))
        self.norm, self.head = nn.LayerNorm(2 * width), nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.blocks2(self.down(self.blocks1(self.stem(x))))
        return self.head(self.norm(y.mean((2, 3))))


class ViT(nn.Module):
    """Torch's own encoder layers, norm first."""

    def __init__(self, width: int = 64, depth: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.position = nn.Parameter(0.02 * torch.randn(64, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.1, F.gelu, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.encoder(tokens)).mean(1))


class GRU(nn.Module):
    """Sequences; the mean of the states is read out."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(inputs, 64, batch_first=True), nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x.squeeze(1))[0].mean(1))


@dataclass(frozen=True)
class Task:
    """A network on a data set."""

    net: Callable[[Data], nn.Module]
    data: str
    epochs: int
    batch_size: int


def _table(name: str, epochs: int = 40) -> Task:
    return Task(lambda d: mlp(d.input_shape[0], d.num_classes), f"npz:{{sets}}/{name}.npz", epochs, 32)


TASKS = {
    "gru, vowels": Task(lambda d: GRU(12, 9), "npz:{sets}/vowels.npz", 60, 16),
    "mlp, letters": _table("letterrecognition", 20),
    "mlp, satellite": _table("satellite"),
    "mlp, dna": _table("dna"),
    "mlp, vehicle": _table("vehicle", 80),
    "mlp, vowel": _table("vowel", 80),
    "mlp, sonar": _table("sonar", 80),
    "mlp, mails": _table("mails", 20),
    "mlp, MNIST": Task(lambda d: mlp(784, 10, 512), "mnist", 5, 64),
    "convnext, CIFAR-10": Task(lambda d: ConvNeXt(), "cifar10", 8, 64),
    "vit, CIFAR-10": Task(lambda d: ViT(), "cifar10", 8, 64),
    "resnet, CIFAR-10": Task(lambda d: resnet(), "cifar10", 8, 64),
}
WIDER = {  # the networks that are behind float, and wider ones: name -> the task, a wider task
    "mlp 512, letters": ("mlp, letters", replace(TASKS["mlp, letters"], net=lambda d: mlp(16, 26, 512))),
    "convnext ×2, CIFAR-10": ("convnext, CIFAR-10", replace(TASKS["convnext, CIFAR-10"], net=lambda d: ConvNeXt(96))),
    "vit ×2, CIFAR-10": ("vit, CIFAR-10", replace(TASKS["vit, CIFAR-10"], net=lambda d: ViT(128))),
    "resnet ×2, CIFAR-10": ("resnet, CIFAR-10", replace(TASKS["resnet, CIFAR-10"], net=lambda d: resnet(32))),
}
ALL = TASKS | {name: task for name, (_, task) in WIDER.items()}
CIFAR, CIFAR_TEST = 10_000, 2_000  # images of CIFAR-10, the first of each part
SAMPLES = 16


@cache
def data_of(name: str, sets: str) -> Data:
    """The data set of a task."""
    data = load_data(ALL[name].data.format(sets=sets))
    if not name.endswith("CIFAR-10"):
        return data
    cuts = ((data.train, CIFAR), (data.test, CIFAR_TEST))
    parts = [(part.x[:n].numpy(), part.y[:n].numpy()) for part, n in cuts]
    return load_data((parts[0], parts[1]), name=data.name)


def train(name: str, method: str, lr: float | None, seed: int, validation: float, sets: str) -> dict[str, Any]:
    """Train and test one network with what `bb.fit` does by default."""
    task, data = ALL[name], data_of(name, sets)
    if validation:
        part = load_data((data.train.x.numpy(), data.train.y.numpy()), name=data.name)  # a fifth becomes the test part
        data = part
    torch.manual_seed(seed)
    net = task.net(data)
    options: dict[str, Any] = {"epochs": task.epochs, "batch_size": task.batch_size, "method": method, "seed": seed}
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # notes on the data
        fitted = bb.fit(net, data, threads=1, samples=SAMPLES, **options, **({} if lr is None else {"lr": lr}))
    found = {which: fitted.evaluation[which] for which in ("mode", "mean")}
    total = sum(p.numel() for p in fitted.net.parameters())
    binary = sum(layer.natural.numel() for _, layer in bb.nn.binary_layers(fitted.net))
    return {
        **{which: {m: v[m] for m in ("accuracy", "nll", "ece")} for which, v in found.items() if v},
        "seconds": round(time.perf_counter() - started, 1),
        "binary": binary,
        "real": total - binary,
    }


def logistic(name: str, sets: str) -> dict[str, Any]:
    """scikit-learn's logistic regression on the same split, C by cross-validation."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = data_of(name, sets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        regression = LogisticRegressionCV(Cs=8, scoring="neg_log_loss", max_iter=2000, use_legacy_attributes=False)
        model = make_pipeline(StandardScaler(), regression).fit(data.train.x.numpy(), data.train.y.numpy())
    probs = torch.from_numpy(model.predict_proba(data.test.x.numpy()))
    return {"mode": {m: float(getattr(bb.metrics, m)(probs, data.test.y)) for m in ("accuracy", "nll", "ece")}}


def job(given: tuple[str, str, float | None, int, float, str]) -> tuple[str, dict[str, Any]]:
    """A run's key and what it found."""
    torch.set_num_threads(1)
    name, method, lr, seed, validation, sets = given
    if method == "logistic":
        return f"{name} | logistic", logistic(name, sets)
    return key(name, method, lr, seed, validation), train(*given)


def key(name: str, method: str, lr: float | None, seed: int, validation: float) -> str:
    return f"{name} | {method} | {'trial' if validation else 'test'} | lr {lr} | seed {seed}"


def chosen_rate(name: str, runs: dict[str, Any]) -> float | None:
    """The learning rate of `float` that is best on held-out data, once all were tried."""
    trials = {lr: runs.get(key(name, "float", lr, 0, 0.2)) for lr in RATES}
    if not all(trials.values()):
        return None
    return max(RATES, key=lambda lr: trials[lr]["mode"]["accuracy"])  # type: ignore[index]


def todo(names: list[str], runs: dict[str, Any], sets: str, stage: int) -> list[Any]:
    """Runs that are not stored: first the trials and what needs none, then `float` at its chosen rate."""
    jobs: list[tuple[str, str, float | None, int, float, str]] = []
    for name in names:
        if name in WIDER:
            jobs += [(name, "bayesbinn", None, seed, 0.0, sets) for seed in SEEDS if stage == 1]
        elif stage == 0:
            jobs += [(name, method, None, seed, 0.0, sets) for seed in SEEDS for method in ("bayesbinn", "ste")]
            jobs += [(name, "float", lr, 0, 0.2, sets) for lr in RATES]
            if TASKS[name].data.startswith("npz") and name.startswith("mlp"):
                jobs.append((name, "logistic", None, 0, 0.0, sets))
        elif (rate := chosen_rate(name, runs)) is not None:
            jobs += [(name, "float", rate, seed, 0.0, sets) for seed in SEEDS]
    jobs.sort(key=lambda j: j[3])  # a first seed of every network before a second of any
    return [j for j in jobs if (f"{j[0]} | logistic" if j[1] == "logistic" else key(*j[:5])) not in runs]


def spread(values: list[float], digits: int) -> str:
    sd = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{sd}"


def table(runs: dict[str, Any]) -> str:
    """A row a network and method."""
    lines = ["| network, data | method | mode % | mean % | NLL mode | NLL mean | ECE mode | ECE mean | binary % |"]
    lines.append("|---" * 9 + "|")
    for name in TASKS:
        rate = chosen_rate(name, runs)
        for method, label in (("float", f"float, lr {rate}"), ("ste", "ste"), ("bayesbinn", "**bayesbinn**")):
            found = [runs.get(key(name, method, rate if method == "float" else None, seed, 0.0)) for seed in SEEDS]
            done = [r for r in found if r]
            if not done:
                continue
            cells = []
            for metric, scale, digits in (("accuracy", 100, 2), ("nll", 1, 4), ("ece", 1, 4)):
                for which in ("mode", "mean"):
                    values = [scale * r[which][metric] for r in done if which in r]
                    cells.append(spread(values, digits) if values else "–")
            share = 100 * done[0]["binary"] / (done[0]["binary"] + done[0]["real"])
            seeds = "" if len(done) == len(SEEDS) else f" ({len(done)} seed{'s' * (len(done) > 1)})"
            lines.append(f"| {name} | {label}{seeds} | {' | '.join(cells)} | {share:.1f} |")
        if found := runs.get(f"{name} | logistic"):
            m = found["mode"]
            cells = [f"{100 * m['accuracy']:.2f}", "–", f"{m['nll']:.4f}", "–", f"{m['ece']:.4f}", "–", "–"]
            lines.append(f"| {name} | logistic regression | {' | '.join(cells)} |")
    return "\n".join(lines)


def wider(runs: dict[str, Any]) -> str:
    """A row a wider network, beside float at the first width."""
    lines = [
        "| network, data | seeds | mode % | mean % | binary weights | float at the first width % | float weights |"
    ]
    lines.append("|---" * 7 + "|")
    for name, (first, _) in WIDER.items():
        own = [r for seed in SEEDS if (r := runs.get(key(name, "bayesbinn", None, seed, 0.0)))]
        rate = chosen_rate(first, runs)
        real = [r for seed in SEEDS if (r := runs.get(key(first, "float", rate, seed, 0.0)))]
        if own and real:
            figures = [spread([100 * r[which]["accuracy"] for r in own], 2) for which in ("mode", "mean")]
            float_figure = spread([100 * r["mode"]["accuracy"] for r in real], 2)
            lines.append(f"| {name} | {len(own)} | {figures[0]} | {figures[1]} | {own[0]['binary']:,} | "
                         f"{float_figure} | {real[0]['real']:,} |")  # fmt: skip
    return "\n".join(lines)


def write_page(page: Path, stored: dict[str, Any]) -> None:
    """Write the table between the marks of the page."""
    begin, end = "<!-- own networks: begin -->", "<!-- own networks: end -->"
    text, made = page.read_text(encoding="utf-8"), stored["environment"]
    before, after = text.partition(begin)[0], text.partition(end)[2]
    about = f"`{made['command']}` on {made['cpu']}, torch {made['torch']}."
    write_text(page, f"{before}{begin}\n{table(stored['runs'])}\n\n{wider(stored['runs'])}\n\n{about}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("sets", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(ALL))
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no run after this long")
    parser.add_argument("--page", type=Path, help="write the table into this page, run nothing")
    arguments = parser.parse_args()
    if arguments.page:
        write_page(arguments.page, json.loads(arguments.output.read_text()))
        return
    runs = json.loads(arguments.output.read_text())["runs"] if arguments.output.exists() else {}
    names = [name for name in ALL if any(part in name for part in arguments.only)]
    deadline = time.monotonic() + arguments.seconds
    with multiprocessing.get_context("spawn").Pool(arguments.workers, maxtasksperchild=8) as pool:
        for stage in (0, 1):
            for run, found in pool.imap_unordered(job, todo(names, runs, str(arguments.sets), stage)):
                runs[run] = found
                print(run, json.dumps(found), flush=True)
                write_text(arguments.output, json.dumps({"environment": environment(), "runs": runs}, indent=1) + "\n")
                if time.monotonic() > deadline:
                    pool.terminate()
                    return


if __name__ == "__main__":
    main()

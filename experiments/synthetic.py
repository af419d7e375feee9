"""The paper's two synthetic problems: two moons (classification) and a 1-d regression with a gap.

    bayesbinn reproduce two-moons --budget day --again
    bayesbinn reproduce snelson --budget day --again

Meng, Bachmann & Khan (2020), Sec. 4.1.  The Snelson points of the paper's regression come without a licence that allows
to ship them: `points = "FILE"` (two columns, x and y) in the recipe uses them, else a set of the same kind is made, 200
noisy points of a smooth function with a gap in the middle.  Networks: 64-64 tanh units, every weight and bias binary.
Figures are drawn from the results by experiments/tables.py.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import make_moons
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn import binarizers
from bayesbinn.environment import environment
from bayesbinn.errors import UserError, unknown
from bayesbinn.files import write_text
from bayesbinn.training.config import read_toml

DEFAULTS: dict[str, Any] = {
    "problem": "two-moons",
    "epochs": 3000,
    "lr_steps": [],  # epochs at which every learning rate is divided by 10
    "scale": "none",  # of the layers
    "ste_lr": 0.1,
    "num_samples": 100,
    "points": "",
    "posteriors": {},  # name: settings that differ from POSTERIOR
}
POSTERIOR: dict[str, Any] = {
    "estimator": "draw",
    "temperature": 1.0,  # of a relaxation
    "magnitude": 1.0,
    "samples": 5,  # gradients in one step
    "lr_end": 0.0,  # above 0: lr falls to this geometrically
    "lr": 0.3,
    "kl_weight": 0.0003,
    "form": "tensor",
    "momentum": 0.9,
}
ESTIMATORS = {
    "draw": binarizers.StraightThroughSample,
    "concrete": binarizers.Concrete,
    "2020": binarizers.Reference2020,
}
REGRESSION = "regression-1d"
UNSURE = 0.5  # nats: between 20 % and 80 %, of at most 0.693
GRID = 160  # points a side of the plane

Summary = dict[str, dict[str, float]]


class WithBias(nn.Module):
    """A linear layer whose bias is the weight of a constant input, and so binary too."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs + 1, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.cat([x, torch.ones_like(x[:, :1])], 1))


def network(inputs: int, problem: str) -> nn.Sequential:
    layers = [WithBias(inputs, 64), nn.Tanh(), WithBias(64, 64), nn.Tanh(), WithBias(64, 1)]
    if problem == REGRESSION:
        layers.append(nn.BatchNorm1d(1, affine=False, eps=1e-4, momentum=0.15))
    return nn.Sequential(*layers)


def train(
    net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, s: dict[str, Any], samples: int, end: float
) -> None:
    loss_of = F.mse_loss if s["problem"] == REGRESSION else F.binary_cross_entropy_with_logits
    starts = [group["lr"] for group in optimizer.param_groups]
    for epoch in range(s["epochs"]):
        factor = 0.1 ** sum(epoch >= step for step in s["lr_steps"])
        if end:
            factor = (end / starts[0]) ** (epoch / s["epochs"])
        for group, start in zip(optimizer.param_groups, starts, strict=True):
            group["lr"] = start * factor
        optimizer.zero_grad()
        for _ in range(samples):
            (loss_of(net(x), y) / samples).backward()
        optimizer.step()


def networks(x: Tensor, y: Tensor, s: dict[str, Any], seed: int) -> dict[str, nn.Module]:
    """The STE network and the posteriors, all trained on (x, y)."""
    torch.manual_seed(seed)
    layers = {"scale": s["scale"], "quiet": True}
    ste = bb.binarize_(network(x.shape[1], s["problem"]), binarizer=binarizers.SignSTE(), magnitude=0.1, **layers)
    train(ste, torch.optim.Adam(ste.parameters(), s["ste_lr"]), x, y, s, samples=1, end=0)
    found: dict[str, nn.Module] = {"STE": ste}
    for name, own in s["posteriors"].items():
        p = {**POSTERIOR, **own}
        torch.manual_seed(seed)
        made = ESTIMATORS[p["estimator"]]
        binarizer = made() if p["estimator"] == "draw" else made(p["temperature"])
        net = bb.binarize_(network(x.shape[1], s["problem"]), binarizer=binarizer, magnitude=p["magnitude"], **layers)
        options = {k: p[k] for k in ("lr", "form", "momentum", "kl_weight")}
        optimizer = bb.optimizer_for(net, num_data=len(x), **options)
        train(net, optimizer, x, y, s, samples=p["samples"], end=p["lr_end"])
        found[name] = net
    return found


def predictors(trained: dict[str, nn.Module], num_samples: int) -> list[tuple[str, nn.Module, int]]:
    """(row of the table, network, number of samples)."""
    rows = [("STE", trained["STE"], 0)]
    for name, net in trained.items():
        if name != "STE":
            rows += [(f"{name}, mode", net, 0), (f"{name}, mean", net, num_samples)]
    return rows


class TwoLogits(nn.Module):
    """A logit z of class 1 as the logits (0, z) that `predict` takes."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        z = self.net(x)
        return torch.cat([torch.zeros_like(z), z], 1)


def _unsure(prediction: bb.Prediction, grid: Tensor, region: Tensor) -> float:
    """Share of unsure points among those of a region within 0.5 of the boundary between the classes: its width."""
    classes = prediction.probs.argmax(-1).reshape(GRID, GRID)
    edge = torch.zeros_like(classes, dtype=torch.bool)
    edge[1:] |= classes[1:] != classes[:-1]
    edge[:, 1:] |= classes[:, 1:] != classes[:, :-1]
    beside = region & (torch.cdist(grid, grid[edge.flatten()]).amin(1) < 0.5)
    return float((prediction.entropy[beside] > UNSURE).double().mean())


def two_moons(s: dict[str, Any], seed: int) -> tuple[Summary, dict[str, Any]]:
    """What each network says at the data, at new data and over the plane; the plane in whole percent."""
    raw, labels = make_moons(200, noise=0.1, random_state=0)
    x, y = torch.tensor(raw).float(), torch.tensor(labels).float()[:, None]
    center, spread = x.mean(0), x.std(0)
    test, of_test = (torch.tensor(v) for v in make_moons(2000, noise=0.1, random_state=1))

    axes = [torch.linspace(float(x[:, i].min()) - 1.5, float(x[:, i].max()) + 1.5, GRID) for i in (0, 1)]
    grid = torch.cartesian_prod(*axes)
    distance = torch.cdist(grid, x).amin(1)
    near, far = distance < 0.5, distance > 1.0
    summary, plane = {}, {}
    for name, net, samples in predictors(networks((x - center) / spread, y, s, seed), s["num_samples"]):
        model = TwoLogits(net)
        on_test, on_grid = (
            bb.predict(model, (points - center) / spread, samples) for points in (test.float(), grid.float())
        )
        plane[name] = (100 * on_grid.probs[:, 1]).round().int().reshape(GRID, GRID)[::2, ::2].tolist()
        summary[name] = {
            "test accuracy %": 100 * bb.metrics.accuracy(on_test.probs, of_test),
            "test NLL": bb.metrics.nll(on_test.probs, of_test),
            "unsure near the data %": 100 * _unsure(on_grid, grid, near),
            "unsure far away %": 100 * _unsure(on_grid, grid, far),
        }
    points = [[round(float(v), 3) for v in p] + [int(label)] for p, label in zip(raw, labels, strict=True)]
    lines = [[round(float(v), 4) for v in axis[::2]] for axis in axes]
    return summary, {"axes": lines, "plane": plane, "points": points}


def regression(s: dict[str, Any], seed: int) -> tuple[Summary, dict[str, Any]]:
    """How well each network fits the points, and how far the outputs of the posterior's networks differ."""
    if s["points"]:
        if not Path(s["points"]).is_file():
            raise UserError(
                f"there is no file {s['points']}, where the recipe's points should be: two columns, x and y"
            )
        try:
            raw_x, raw_y = np.loadtxt(s["points"]).T
        except ValueError as error:
            raise UserError(f"{s['points']} must have two columns of numbers, x and y: {error}") from None
    else:
        rng = np.random.default_rng(0)
        raw_x = np.sort(np.concatenate([rng.uniform(0.0, 2.2, 100), rng.uniform(3.8, 6.0, 100)]))
        raw_y = np.sin(2.2 * raw_x) + 0.3 * raw_x + rng.normal(0, 0.2, 200)
    x, y = (torch.tensor((v - v.mean()) / v.std()).float()[:, None] for v in (raw_x, raw_y))
    span = float(x.max() - x.min())
    t = torch.linspace(float(x.min()) - span / 3, float(x.max()) + span / 3, 200)[:, None]
    distance = torch.cdist(t, x).amin(1)
    near, far = distance < 0.05, distance > 0.25
    summary: Summary = {}
    lines: dict[str, Any] = {}
    for name, net, samples in predictors(networks(x, y, s, seed), s["num_samples"]):
        # the last layer's batch norm sets the scale of the output, so statistics are those of the network at hand
        fit, line = (bb.predict_regression(net, v, samples, calibration=x) for v in (x, t))
        summary[name] = {"training RMSE": float((fit.mean - y).square().mean().sqrt())}
        lines[name] = {"mean": [round(float(v), 4) for v in line.mean]}
        if samples:
            summary[name]["spread at the data"] = float(line.std[near].mean())
            summary[name]["spread far away"] = float(line.std[far].mean())
            lines[name]["std"] = [round(float(v), 4) for v in line.std]
    if s["points"]:  # not ours to store
        return summary, {}
    points = [[round(float(v), 3) for v in pair] for pair in zip(x[:, 0], y[:, 0], strict=True)]
    return summary, {"x": [round(float(v), 4) for v in t[:, 0]], "lines": lines, "points": points}


PROBLEMS = {"two-moons": two_moons, REGRESSION: regression}


def checked(recipe: dict[str, Any], path: Path) -> dict[str, Any]:
    """The recipe's settings with the defaults.

    Raises:
        UserError: for a setting, problem or estimator that does not exist, naming the nearest.
    """
    given = recipe.get("settings", {})
    for key in given:
        if key not in DEFAULTS:
            raise unknown(f"setting of {path}", key, DEFAULTS)
    if given.get("problem", DEFAULTS["problem"]) not in PROBLEMS:
        raise unknown(f"problem of {path}", given["problem"], PROBLEMS)
    for name, own in given.get("posteriors", {}).items():
        if own.get("estimator", "draw") not in ESTIMATORS:
            raise unknown(f"estimator of {path}, posterior {name!r}", own["estimator"], ESTIMATORS)
        for key in own:
            if key not in POSTERIOR:
                raise unknown(f"setting of {path}, posterior {name!r}", key, POSTERIOR)
    return {**DEFAULTS, **given}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        recipe = read_toml(options.config)
        settings = checked(recipe, options.config)
        solve = PROBLEMS[settings["problem"]]
        torch.set_num_threads(1)
        runs = [solve(settings, seed) for seed in recipe.get("seeds", [0])]
    except UserError as error:
        parser.exit(1, f"{error}\n")
    found = {row: [summary[row] for summary, _ in runs] for row in runs[0][0]}
    result = {
        "name": options.output.stem,
        "title": recipe["title"],
        "settings": settings,
        "seeds": recipe.get("seeds", [0]),
        "summary": found,
        "drawn": runs[0][1],
        "environment": environment(),
    }
    write_text(options.output, json.dumps(result, ensure_ascii=False) + "\n")
    for row, seeds in found.items():
        print(row, {k: round(statistics.fmean(one[k] for one in seeds), 4) for k in seeds[0]})


if __name__ == "__main__":
    main()

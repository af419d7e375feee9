"""The paper's two synthetic problems: two moons (classification) and a 1-d regression with a gap, as figures.

    bayesbinn reproduce two-moons --budget day --again
    bayesbinn reproduce snelson --budget day --again

Meng, Bachmann & Khan (2020), Sec. 4.1.  The Snelson points of the paper's regression come without a licence that allows
to ship them: `points = "FILE"` (two columns, x and y) in the recipe uses them, else a set of the same kind is made, 200
noisy points of a smooth function with a gap in the middle.  Networks: 64-64 tanh units, every weight and bias binary.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import make_moons
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn.environment import environment
from bayesbinn.errors import UserError, unknown
from bayesbinn.files import write_text
from bayesbinn.training.config import read_toml

DEFAULTS: dict[str, Any] = {
    "problem": "two-moons",
    "form": "plain",  # of the rule
    "epochs": 3000,
    "lr": 1e-3,
    "lr_steps": [],  # epochs at which lr is divided by 10
    "lr_end": 0.0,  # or: lr falls to this geometrically
    "momentum": 0.99,
    "temperature": 1.0,  # of the paper's relaxation; 0: hard draws with the straight-through gradient
    "magnitude": 15.0,
    "kl_weight": 1.0,
    "train_samples": 5,
    "ste_lr": 0.1,
    "num_samples": 100,
    "seed": 0,
    "points": "",
}

UNSURE = 0.5  # nats: between 20 % and 80 %, of at most 0.693


class WithBias(nn.Module):
    """A linear layer whose bias is the weight of a constant input, and so binary too."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs + 1, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.cat([x, torch.ones_like(x[:, :1])], 1))


def network(inputs: int, regression: bool) -> nn.Sequential:
    layers = [WithBias(inputs, 64), nn.Tanh(), WithBias(64, 64), nn.Tanh(), WithBias(64, 1)]
    if regression:
        layers.append(nn.BatchNorm1d(1, affine=False, eps=1e-4, momentum=0.15))
    return nn.Sequential(*layers)


def train(
    net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, s: dict[str, Any], samples: int
) -> None:
    loss_of = F.mse_loss if s["problem"] == "regression-1d" else F.binary_cross_entropy_with_logits
    start = optimizer.param_groups[0]["lr"]
    for epoch in range(s["epochs"]):
        factor = 0.1 ** sum(epoch >= step for step in s["lr_steps"])
        if s["lr_end"] and isinstance(optimizer, bb.BayesBiNN):
            factor = (s["lr_end"] / start) ** (epoch / s["epochs"])
        optimizer.param_groups[0]["lr"] = start * factor
        optimizer.zero_grad()
        for _ in range(samples):
            (loss_of(net(x), y) / samples).backward()
        optimizer.step()


def networks(x: Tensor, y: Tensor, s: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """The STE network and the posterior, both trained on (x, y)."""
    regression = s["problem"] == "regression-1d"
    torch.manual_seed(s["seed"])
    ste = bb.binarize_(network(x.shape[1], regression), binarizer=bb.binarizers.SignSTE(), magnitude=0.1)
    train(ste, torch.optim.Adam(bb.split_parameters(ste)[0], s["ste_lr"]), x, y, s, samples=1)
    torch.manual_seed(s["seed"])
    temperature = s["temperature"]
    draw = bb.binarizers.Concrete(temperature) if temperature else bb.binarizers.StraightThroughSample()
    net = bb.binarize_(network(x.shape[1], regression), binarizer=draw, magnitude=s["magnitude"])
    options = {k: s[k] for k in ("lr", "form", "momentum", "kl_weight")}
    rule = bb.BayesBiNN(bb.split_parameters(net)[0], num_data=len(x), **options)
    train(net, rule, x, y, s, samples=s["train_samples"])
    return ste, net


def both(net: nn.Module) -> nn.Module:
    """A logit z of class 1 as the logits (0, z) that `predict` takes."""

    class TwoLogits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            z = self.net(x)
            return torch.cat([torch.zeros_like(z), z], 1)

    return TwoLogits()


def _unsure(prediction: bb.Prediction, grid: Tensor, region: Tensor) -> float:
    """Share of unsure points among those of a region within 0.5 of the boundary between the classes: its width."""
    classes = prediction.probs.argmax(-1).reshape(160, 160)
    edge = torch.zeros_like(classes, dtype=torch.bool)
    edge[1:] |= classes[1:] != classes[:-1]
    edge[:, 1:] |= classes[:, 1:] != classes[:, :-1]
    beside = region & (torch.cdist(grid, grid[edge.flatten()]).amin(1) < 0.5)
    return float((prediction.entropy[beside] > UNSURE).double().mean())


def two_moons(s: dict[str, Any], figure: Path) -> dict[str, Any]:
    raw, labels = make_moons(200, noise=0.1, random_state=s["seed"])
    x, y = torch.tensor(raw).float(), torch.tensor(labels).float()[:, None]
    center, spread = x.mean(0), x.std(0)
    ste, net = networks((x - center) / spread, y, s)
    test, test_labels = make_moons(2000, noise=0.1, random_state=s["seed"] + 1)
    t = (torch.tensor(test).float() - center) / spread

    axes = [torch.linspace(float(x[:, i].min()) - 1.5, float(x[:, i].max()) + 1.5, 160) for i in (0, 1)]
    grid = torch.cartesian_prod(*axes)
    g = (grid - center) / spread
    distance = torch.cdist(grid, x).amin(1)
    far = distance > 1.0
    panels, summary = {}, {}
    for name, model, samples in (("STE", ste, 0), ("mode", net, 0), ("mean", net, s["num_samples"])):
        model = both(model)
        on_data, on_grid, on_test = (bb.predict(model, points, samples) for points in ((x - center) / spread, g, t))
        panels[name] = on_grid.probs[:, 1].reshape(160, 160)
        summary[name] = {
            "test_accuracy": bb.metrics.accuracy(on_test.probs, torch.tensor(test_labels)),
            "test_nll": bb.metrics.nll(on_test.probs, torch.tensor(test_labels)),
            "entropy_at_the_data": float(on_data.entropy.mean()),
            "entropy_far_away": float(on_grid.entropy[far].mean()),
            "unsure_beside_the_boundary_near_the_data": _unsure(on_grid, grid, distance < 0.5),
            "unsure_beside_the_boundary_far_away": _unsure(on_grid, grid, far),
        }

    plt = pyplot()
    figures, cells = plt.subplots(1, 3, figsize=(12, 4), sharey=True, layout="constrained")
    for ax, (name, p) in zip(cells, panels.items(), strict=True):
        filled = ax.contourf(axes[0], axes[1], p.T, levels=np.linspace(0, 1, 11), cmap="RdBu_r")
        ax.scatter(*raw.T, c=labels, cmap="RdBu_r", edgecolors="black", s=14)
        ax.set_title({"STE": "STE", "mode": "BayesBiNN, mode", "mean": f"BayesBiNN, mean of {s['num_samples']}"}[name])
    figures.colorbar(filled, ax=cells, label="P(class 1)")
    figures.savefig(figure, metadata={"Date": None})
    return summary


def regression(s: dict[str, Any], figure: Path) -> dict[str, Any]:
    rng = np.random.default_rng(s["seed"])
    if s["points"]:
        raw_x, raw_y = np.loadtxt(s["points"]).T
    else:
        raw_x = np.sort(np.concatenate([rng.uniform(0.0, 2.2, 100), rng.uniform(3.8, 6.0, 100)]))
        raw_y = np.sin(2.2 * raw_x) + 0.3 * raw_x + rng.normal(0, 0.2, 200)
    x, y = (torch.tensor((v - v.mean()) / v.std()).float()[:, None] for v in (raw_x, raw_y))
    ste, net = networks(x, y, s)
    span = float(x.max() - x.min())
    t = torch.linspace(float(x.min()) - span / 3, float(x.max()) + span / 3, 500)[:, None]
    distance = torch.cdist(t, x).amin(1)
    predictors = (("STE", ste, 0), ("mode", net, 0), ("mean", net, s["num_samples"]))
    # the last layer's batch norm sets the scale of the output, so its statistics must be those of the network at hand
    lines = {n: bb.predict_regression(m, t, k, calibration=x) for n, m, k in predictors}
    near, far = distance < 0.05, distance > 0.25
    fits = {n: bb.predict_regression(m, x, k, calibration=x) for n, m, k in predictors}
    summary = {name: {"training_rmse": float((fit.mean - y).square().mean().sqrt())} for name, fit in fits.items()}
    summary["mean"] |= {"std_at_the_data": float(lines["mean"].std[near].mean())}
    summary["mean"] |= {"std_far_away": float(lines["mean"].std[far].mean())}

    plt = pyplot()
    figures, ax = plt.subplots(figsize=(8, 4.5), layout="constrained")
    ax.scatter(x, y, s=8, c="black", label="data")
    mean, std = lines["mean"].mean[:, 0], lines["mean"].std[:, 0]
    ax.plot(t, lines["STE"].mean, c="tab:red", label="STE")
    ax.plot(t, lines["mode"].mean, c="tab:blue", ls="--", label="BayesBiNN, mode")
    ax.plot(t, mean, c="tab:blue", label=f"BayesBiNN, mean of {s['num_samples']} ± 2 standard deviations")
    ax.fill_between(t[:, 0], mean - 2 * std, mean + 2 * std, color="tab:blue", alpha=0.2)
    ax.legend()
    figures.savefig(figure, metadata={"Date": None})
    return summary


def pyplot() -> Any:
    try:
        import matplotlib as mpl
    except ImportError:
        raise UserError("figures need matplotlib: pip install matplotlib") from None
    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "bayesbinn"  # the same figure gives the same file
    import matplotlib.pyplot as plt

    return plt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    recipe = read_toml(options.config)
    for key in recipe.get("settings", {}):
        if key not in DEFAULTS:
            raise unknown(f"setting of {options.config}", key, DEFAULTS)
    settings = {**DEFAULTS, **recipe.get("settings", {})}
    solve = {"two-moons": two_moons, "regression-1d": regression}[settings["problem"]]
    torch.set_num_threads(1)
    folder = options.output.parent.parent.parent / "docs" / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    figure = folder / f"{options.output.stem}.svg"
    summary = solve(settings, figure)
    result = {
        "name": options.output.stem,
        "title": recipe["title"],
        "settings": settings,
        "figure": f"figures/{figure.name}",
        "summary": summary,
        "environment": environment(),
    }
    write_text(options.output, json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

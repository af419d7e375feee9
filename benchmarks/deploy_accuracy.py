"""What packing costs in accuracy and what it saves in bytes: the packed network against torch, on the test set.

    BAYESBINN_DATA=FOLDER python benchmarks/deploy_accuracy.py --output benchmarks/results/deploy_accuracy.json

Trains an MLP (784-512×3-10) on MNIST and vgg-small with a quarter of the channels on CIFAR-10, shortly: the question is
the difference that packing makes, not the accuracy itself.
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import bayesbinn as bb
from bayesbinn.train.models import ModelConfig, build_model


def load(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """x (N, C, H, W) float32 in 0 … 255 and labels of the two parts."""
    with np.load(Path(os.environ["BAYESBINN_DATA"]) / f"{name}.npz") as data:
        parts = []
        for part in ("train", "test"):
            x = torch.from_numpy(data[f"x_{part}"]).float()
            parts += [x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2), torch.from_numpy(data[f"y_{part}"]).long()]
    return parts[0].contiguous(), parts[1].reshape(-1), parts[2].contiguous(), parts[3].reshape(-1)


def train(config: ModelConfig, x: torch.Tensor, y: torch.Tensor, epochs: int) -> torch.nn.Module:
    mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3))
    net = bb.binarize_(build_model(config, tuple(x.shape[1:]), 10, mean, std), magnitude=1.0)
    binary, real = bb.split_parameters(net)
    steps = epochs * (len(x) // 100)
    bayes = bb.BayesBiNN(binary, lr=6000 / len(x), num_data=len(x), kl_weight=0.01)
    adam = torch.optim.Adam(real, lr=1e-2)
    schedules = [torch.optim.lr_scheduler.CosineAnnealingLR(o, steps) for o in (bayes, adam)]
    for _ in range(epochs):
        for batch in torch.randperm(len(x))[: steps // epochs * 100].split(100):
            F.cross_entropy(net(x[batch]), y[batch]).backward()
            for part in (bayes, adam, *schedules):
                part.step()
            bayes.zero_grad()
            adam.zero_grad()
    return net.eval()


def compare(net: torch.nn.Module, calibration: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    """Accuracies in percent and the largest difference of a mean probability, for each way to pack."""
    labels, samples = y.numpy(), 8
    mode, mean = bb.predict(net, x, 0), bb.predict(net, x, samples, seed=0)
    result: dict[str, Any] = {
        "torch": {"mode": _percent(mode.probs.numpy(), labels), "mean": _percent(mean.probs.numpy(), labels)}
    }
    for activations in ("int8", "int16"):
        for ranges in ("per input", "calibrated"):
            given = calibration if ranges == "calibrated" else None
            shape = tuple(x.shape[1:])
            raw = bb.deploy.pack(
                net,
                num_samples=samples,
                activations=activations,
                calibration=given,
                input_shape=shape,  # type: ignore[arg-type]
            )
            packed = bb.runtime.load(raw)
            probs = packed.predict(x.numpy())
            result[f"{activations}, {ranges}"] = {
                "mode": _percent(packed.predict(x.numpy(), 0), labels),
                "mean": _percent(probs, labels),
                "largest difference of a mean probability": float(np.abs(probs - mean.probs.numpy()).max()),
            }
    return result


def sizes() -> dict[str, Any]:
    """Bytes of the file with the mode alone, per model of full width, against float32 and against its bits."""
    table = {}
    for name, config in {
        "mlp 784-2048×3-10": ModelConfig(model="mlp", width=2048),
        "vgg-small": ModelConfig(model="vgg-small"),
        "resnet18": ModelConfig(model="resnet18"),
    }.items():
        shape = (1, 28, 28) if config.model == "mlp" else (3, 32, 32)
        net = bb.binarize_(build_model(config, shape, 10))
        described = bb.deploy.describe(bb.deploy.load_program(bb.deploy.pack(net, input_shape=shape)))
        table[name] = {
            "bytes": described.total.num_bytes,
            "over the bits": 8 * described.total.num_bytes / described.total.num_weights - 1,
            "below float32 weights": 4 * described.total.num_weights / described.total.num_bytes,
        }
    return table


def _percent(probs: np.ndarray, labels: np.ndarray) -> float:
    return round(100 * float((probs.argmax(-1) == labels).mean()), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--epochs", type=int, nargs=2, default=[5, 3], help="of the MLP and of vgg-small")
    parser.add_argument("--examples", type=int, default=60_000, help="of the training set, at most")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "command": "python benchmarks/deploy_accuracy.py " + " ".join(sys.argv[1:]),
        "epochs": arguments.epochs,
        "examples": arguments.examples,
        "sizes": sizes(),
        "accuracy": {},
    }
    configs = {"mnist": ModelConfig(width=512), "cifar10": ModelConfig(model="vgg-small", width_multiplier=0.25)}
    for (data, config), epochs in zip(configs.items(), arguments.epochs, strict=True):
        torch.manual_seed(0)
        x, y, x_test, y_test = load(data)
        x, y = x[: arguments.examples], y[: arguments.examples]
        start = time.monotonic()
        net = train(config, x, y, epochs)
        print(f"{data}: trained in {time.monotonic() - start:.0f} s", file=sys.stderr)
        result["accuracy"][f"{config.model}, {data}"] = compare(net, x[:1000], x_test, y_test)
        if arguments.output:
            arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

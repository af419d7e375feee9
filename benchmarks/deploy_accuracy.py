"""What packing costs in accuracy and what it saves in bytes: packed networks against torch, on the whole test set.

    export BAYESBINN_DATA=FOLDER
    bayesbinn train mnist --width 512 --batch-size 100 --dropout 0.1 --epochs 20 --estimator draw --form plain \\
        --momentum 0 --lr 0.001 --kl-weight 0.01 --seed 1 --output runs/mlp
    bayesbinn train cifar10 --model resnet18 --width-multiplier 0.125 --epochs 4 --batch-size 100 --dropout 0 \\
        --seed 0 --output runs/resnet18
    bayesbinn train cifar10 --model vgg-small --width-multiplier 0.25 --epochs 4 --batch-size 100 --dropout 0 \\
        --estimator draw --form plain --momentum 0 --lr 0.0012 --kl-weight 0.01 --seed 0 --output runs/vgg-small
    python benchmarks/deploy_accuracy.py runs/mlp runs/vgg-small runs/resnet18 \\
        --output benchmarks/results/deploy_accuracy.json
    python benchmarks/deploy_accuracy.py --table benchmarks/results/deploy_accuracy.json
"""

import argparse
import json
import sys
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bayesbinn as bb
from bayesbinn.data import load_data
from bayesbinn.deploy.file import MAX_LOSS
from bayesbinn.deploy.mixing import difference
from bayesbinn.training import load_run
from bayesbinn.training.models import ModelConfig, build_model

SAMPLES, CALIBRATION = 8, 1000
WANTED = {"int6": 0.2, "auto": 0.2, "int8": 0.1, "int16": 0.02}  # points of accuracy that packing may cost


def compare(net: torch.nn.Module, calibration: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> dict[str, Any]:
    """Accuracies in percent and the largest difference of a mean probability, for each way to pack."""
    labels, samples = y.numpy(), SAMPLES
    with torch.inference_mode():
        mode = torch.cat([bb.predict(net, part, 0).probs for part in x.split(500)]).numpy()
        mean = torch.cat([bb.predict(net, part, samples, seed=0).probs for part in x.split(500)]).numpy()
    result: dict[str, Any] = {
        "torch": {"mode": _percent(mode, labels), "mean": _percent(mean, labels)},
        "packed": {},
    }
    for activations in ("int6", "auto", "int8", "int16"):
        for ranges in ("per input", "calibrated")[activations == "auto" :]:
            given = calibration if ranges == "calibrated" else None
            shape = tuple(x.shape[1:])
            options: Any = {"activations": activations, "calibration": given, "input_shape": shape}
            # a file has the batch-norm statistics of the draws if it holds some: the mode has a file of its own
            alone = bb.runtime.load(bb.deploy.pack(net, **options))
            probs = bb.runtime.load(bb.deploy.pack(net, num_samples=samples, **options)).predict(x.numpy())
            result["packed"][f"{activations}, {ranges}"] = {
                "mode": _percent(alone.predict(x.numpy(), 0), labels),
                "mean": _percent(probs, labels),
                "largest difference of a mean probability": float(np.abs(probs - mean).max()),
            }
            if activations == "auto":
                kinds = Counter(op.activation.kind for op in alone.program.ops if op.activation is not None)
                with torch.inference_mode():
                    seen = net.eval()(calibration)
                loss = difference(alone.run(calibration.numpy()), seen)
                result["auto"] = {"layers": dict(kinds), "loss": loss, "max_loss": MAX_LOSS}
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


def evaluate(run: Path) -> dict[str, Any]:
    """The comparison for one run, with how it was trained."""
    net, config, _ = load_run(run)
    data = load_data(config.data)
    name = f"{config.model} {config.width if config.model == 'mlp' else config.width_multiplier:g}, {config.data}"
    print(f"{name}: {len(data.test.x)} test inputs", file=sys.stderr)
    result = compare(net, data.train.x[:CALIBRATION].float(), data.test.x.float(), data.test.y)
    return {
        "network": name,
        "epochs": config.epochs,
        "method": config.method,
        "test inputs": len(data.test.x),
        **result,
    }


def table(result: dict[str, Any]) -> str:
    """A stored result as Markdown."""
    lines = [f"{result['date']}; `{result['command']}`.", ""]
    lines += ["| network | packed as | mode | lost | wanted | mean of 8 | largest difference of a probability |"]
    lines += ["|---|---|--:|--:|--:|--:|--:|"]
    for entry in result["accuracy"]:
        exact = entry["torch"]
        lines.append(f"| {entry['network']} | torch, float32 | {exact['mode']:.2f} % | | | {exact['mean']:.2f} % | |")
        for way, found in entry["packed"].items():
            lost, wanted = exact["mode"] - found["mode"], WANTED[way.split(",")[0]]
            lines.append(
                f"| {entry['network']} | {way} | {found['mode']:.2f} % | {lost:.2f} | ≤ {wanted:g} | "
                f"{found['mean']:.2f} % | {found['largest difference of a mean probability']:.2g} |"
            )
    lines += ["", "| network, full width | bytes of the file | over the bits | below float32 weights |"]
    lines += ["|---|--:|--:|--:|"]
    for name, size in result["sizes"].items():
        below = size["below float32 weights"]
        lines.append(f"| {name} | {size['bytes']:,} | {size['over the bits']:.1%} | {below:.1f}× |")
    lines.append("")
    for entry in result["accuracy"]:
        if found := entry.get("auto"):
            layers = ", ".join(f"{count} {kind}" for kind, count in found["layers"].items())
            lines.append(
                f"`auto` for {entry['network']}: {layers} layers; mean KL divergence on the calibration data "
                f"{found['loss']:.2g} nats, {found['max_loss']:g} allowed."
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())), end="")
        return
    result: dict[str, Any] = {
        "command": "python benchmarks/deploy_accuracy.py " + " ".join(sys.argv[1:]),
        "date": datetime.now(timezone.utc).date().isoformat(),
        "sizes": sizes(),
        "accuracy": [evaluate(run) for run in arguments.runs],
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result), end="")


if __name__ == "__main__":
    main()

"""What a prediction costs beside the bare run of its networks: one call in C, and the same worked out in numpy.

    python benchmarks/predict.py --output benchmarks/results/predict.json

One input at a time, one thread; medians of interleaved rounds.
"""

import argparse
import itertools
import json
import sys
from datetime import datetime, timezone
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from torch import nn

import bayesbinn as bb
from bayesbinn.runtime.engine import summarize
from benchmarks.inference import Run, machine, measure


def mlp(sizes: tuple[int, ...]) -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
    return bb.binarize_(nn.Sequential(*layers[:-1])).eval()


CASES = {
    "MNIST mlp 784-2048×3-10": lambda: mlp((784, 2048, 2048, 2048, 10)),
    "mlp 784-512×3-10": lambda: mlp((784, 512, 512, 512, 10)),
    "digits mlp 64-128-10": lambda: mlp((64, 128, 10)),
}


def calls(network: bb.runtime.Network, x: np.ndarray) -> dict[str, Run]:
    return {
        "run": lambda: network.run_samples(x),
        "predict": lambda: network.predict_uncertainty(x),
        "predict in numpy": lambda: summarize(network.run_samples(x).astype(np.float64)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    cases = {}
    for name, build in CASES.items():
        net = build()
        inputs = 784 if "784" in name else 64
        x = np.random.default_rng(0).normal(size=(1, inputs)).astype(np.float32)
        for samples in (1, 8):
            network = bb.runtime.load(bb.deploy.pack(net, num_samples=samples, input_shape=(inputs,)))
            times = measure(calls(network, x), 15, 0.02)
            cases[f"{name}, {samples} sample{'s' * (samples > 1)}"] = {k: round(v, 2) for k, v in times.items()}
    result = {
        "command": "python benchmarks/predict.py --output benchmarks/results/predict.json",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "microseconds": cases,
    }
    print(json.dumps(result, indent=1, ensure_ascii=False))
    if arguments.output:
        stored = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
        stored[machine()] = result
        arguments.output.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

"""The runtime as WebAssembly in node, beside the same C library run natively.

    python benchmarks/wasm.py --output benchmarks/results/wasm.json     # measures, about a minute
    python benchmarks/wasm.py --table benchmarks/results/wasm.json      # prints the stored result

Each engine takes turns with the others; a time is the median over all calls of one input, from its own language.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from torch import nn

import bayesbinn as bb
from bayesbinn.deploy.export_web import module
from bayesbinn.training.models import ModelConfig, build_model
from benchmarks.inference import machine

NATIVE = """
import os, sys, time
os.environ["BAYESBINN_ISA"] = sys.argv[4]
import numpy as np
from bayesbinn.runtime import load
net, x = load(sys.argv[1]), np.load(sys.argv[2])
for _ in range(20): net.run(x)
for _ in range(int(sys.argv[3])):
    start = time.perf_counter(); net.run(x); print(1e6 * (time.perf_counter() - start))
"""
NODE = """
import { readFileSync } from "node:fs";
import { load } from "./bayesbinn.mjs";
const [file, , calls, instructionSet] = process.argv.slice(2);
const net = await load(readFileSync(file), { instructionSet });
const x = new Float32Array(net.numInputs).map((_, i) => Math.sin(i));
for (let i = 0; i < 2000; i++) net.run(x);  // compiled in the background meanwhile
for (let i = 0; i < calls; i++) {
  const start = performance.now();
  net.run(x);
  console.log(1e3 * (performance.now() - start));
}
"""
ENGINES = {"wasm, scalar": "portable", "wasm, SIMD": "wasm", "native, portable": "portable", "native, AVX2": "avx2"}


def small_conv() -> nn.Module:
    """Two convolutions and two linear layers for 28 × 28 pixels, as a microcontroller may hold them."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1568, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 10), nn.BatchNorm1d(10),
    )  # fmt: skip
    return bb.binarize_(net).eval()


def mlp() -> nn.Module:
    return bb.binarize_(build_model(ModelConfig(model="mlp", width=512), (1, 28, 28), 10)).eval()


NETWORKS = {"MLP 784-512×3-10": mlp, "small convolutional network": small_conv}


def measure(rounds: int, calls: int) -> dict[str, dict[str, float]]:
    """Microseconds a call: {network: {engine: median}}."""
    node = shutil.which("node")
    if node is None:
        sys.exit("needs node (of version 18 or later)")
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bayesbinn.mjs").write_text(module())
        (folder / "time.mjs").write_text(NODE)
        import numpy as np

        np.save(folder / "x.npy", np.sin(np.arange(784, dtype=np.float32)).reshape(1, 1, 28, 28))
        for title, make in NETWORKS.items():
            (folder / "net.bbnn").write_bytes(bb.deploy.pack(make(), input_shape=(1, 28, 28)))
            times: dict[str, list[float]] = {engine: [] for engine in ENGINES}
            for _ in range(rounds):
                for engine, isa in ENGINES.items():
                    run = [node, "time.mjs"] if engine.startswith("wasm") else [sys.executable, "-c", NATIVE]
                    command = [*run, "net.bbnn", "x.npy", str(calls), isa]
                    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
                    times[engine] += [float(line) for line in done.stdout.split()]
            found[title] = {engine: statistics.median(values) for engine, values in times.items()}
    return found


def table(result: dict[str, Any]) -> str:
    """A stored result as Markdown."""
    lines = [
        f"{result['machine']}; node {result['node']}; {result['date']}; microseconds a call of one input, one thread, "
        f"medians of {result['rounds']} rounds in which all take turns; `{result['command']}`.",
        "",
        f"| network | {' | '.join(ENGINES)} | SIMD against scalar wasm | against native AVX2 |",
        "|---|" + "--:|" * (len(ENGINES) + 2),
    ]
    for title, micro in result["microseconds"].items():
        simd = micro["wasm, SIMD"]
        gain, slower = micro["wasm, scalar"] / simd, simd / micro["native, AVX2"]
        cells = [f"{micro[engine]:,.1f}" for engine in ENGINES]
        lines.append(f"| {title} | {' | '.join(cells)} | {gain:.1f}× as fast | {slower:.1f}× the time |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=1000)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())))
        return
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    result = {
        "command": "python benchmarks/wasm.py --output benchmarks/results/wasm.json",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "node": version.removeprefix("v"),
        "rounds": arguments.rounds,
        "microseconds": measure(arguments.rounds, arguments.calls),
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()

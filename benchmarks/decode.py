"""Tokens a second of 1-bit decoders, one at a time: ours and llama.cpp on the same GGUF file, in turns, one thread.

    pip install xllamacpp gguf
    python benchmarks/decode.py --output benchmarks/results/decode.json

llama.cpp is the wheel xllamacpp, built from llama.cpp as it is; its figure is its own (`predicted_per_second`), without
what the server around it takes.  Ours is measured from Python, with choosing the likeliest token.
"""

import argparse
import json
import sys
import tempfile
import time
import urllib.request
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

import bayesbinn as bb
from bayesbinn.data.tokens import written
from bayesbinn.deploy.gguf import save_gguf
from bayesbinn.nn.gpt import GPT, GPTShape
from bayesbinn.runtime.decoder import Decoder
from benchmarks.inference import machine

CASES = {
    "3 M": GPTShape(256, 256, 4, 4, 2, 768, 256),
    "26 M": GPTShape(256, 768, 5, 12, 4, 1536, 256),
}
LENGTH = 200


def made(shape: GPTShape, folder: Path) -> Path:
    """A GGUF file of a network that has learned nothing: speed does not depend on it."""
    torch.manual_seed(0)
    net = bb.binarize_(torch.nn.Sequential(GPT(shape)), quiet=True).eval()
    save_gguf(net, folder / "net.gguf", *written(""))
    return folder / "net.gguf"


class LlamaCpp:
    """llama.cpp on one thread."""

    def __init__(self, path: Path, context: int) -> None:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.n_gpu_layers = context, 1, 0
        params.warmup, params.verbosity, params.cpuparams.n_threads = True, 0, 1
        self.server = xllamacpp.Server(params)

    def run(self, length: int) -> float:
        """Tokens a second."""
        asked = {"prompt": [10], "n_predict": length, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        body, kind = json.dumps(asked).encode(), {"Content-Type": "application/json"}
        request = urllib.request.Request(self.server.listening_address + "/completion", body, kind)
        with urllib.request.urlopen(request) as answer:
            timings = json.load(answer)["timings"]
        if timings["predicted_n"] != length:
            raise RuntimeError(f"llama.cpp wrote {timings['predicted_n']} tokens, not {length}")
        return float(timings["predicted_per_second"])


class Ours:
    """Ours on one thread."""

    def __init__(self, path: Path) -> None:
        self.decoder = Decoder.from_gguf(path)

    def run(self, length: int) -> float:
        """Tokens a second."""
        self.decoder.reset()
        token = int(self.decoder.step(10).argmax())
        started = time.perf_counter()
        for _ in range(length):
            token = int(self.decoder.step(token).argmax())
        return length / (time.perf_counter() - started)


def measure(shape: GPTShape, rounds: int) -> dict[str, Any]:
    """{engine: tokens a second, the median of the rounds}, and sizes."""
    with tempfile.TemporaryDirectory() as folder:
        path = made(shape, Path(folder))
        engines = {"llama.cpp": LlamaCpp(path, shape.context), "ours": Ours(path)}
        found: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(rounds):
            for name, engine in engines.items():
                found[name].append(engine.run(LENGTH))
        weights = sum(out * own for out, own in shape.matrices.values())
        medians = {name: float(np.median(values)) for name, values in found.items()}
        spread = {name: [min(values), max(values)] for name, values in found.items()}
        return {"binary_weights": weights, "bytes": path.stat().st_size, "tokens_per_second": medians, "range": spread}


def table(results: dict[str, Any]) -> str:
    """As Markdown, machine by machine."""
    lines = []
    for name, result in results.items():
        engines = ", ".join(f"{engine} {number}" for engine, number in result["versions"].items())
        lines += [
            f"{name}, `{result['instruction_set']}`, {result['date']}; {engines}; medians of {result['rounds']} rounds",
            f"of {LENGTH} tokens, in turns, one thread; `{result['command']}`.",
            "",
            "| ±1 weights | file, bytes | llama.cpp, tokens a second | ours | faster |",
            "|--:|--:|--:|--:|--:|",
        ]
        for case in result["cases"].values():
            theirs, ours = case["tokens_per_second"]["llama.cpp"], case["tokens_per_second"]["ours"]
            row = f"{case['binary_weights']:,} | {case['bytes']:,} | {theirs:,.0f} | {ours:,.0f} | {ours / theirs:.1f}×"
            lines.append(f"| {row} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    stored = json.loads(arguments.output.read_text()) if arguments.output and arguments.output.exists() else {}
    stored[machine()] = {
        "command": "python benchmarks/decode.py --output benchmarks/results/decode.json",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "instruction_set": bb._native.chosen(),
        "rounds": arguments.rounds,
        "versions": {"xllamacpp": version("xllamacpp"), "bayesbinn": bb.__version__},
        "cases": {name: measure(shape, arguments.rounds) for name, shape in CASES.items()},
    }
    print(table(stored))
    if arguments.output:
        arguments.output.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()

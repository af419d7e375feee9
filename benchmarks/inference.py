"""Packed inference against the engines people use, interleaved in one run.

    python benchmarks/inference.py --output benchmarks/results/inference.json     # measures, takes some minutes
    python benchmarks/inference.py --table benchmarks/results/inference.json      # prints the stored result

Each case is one layer or network; its rivals take turns, in an order shuffled every round, and the median of each is
kept.  Our time includes checking the input and quantising the activations.  Rivals that are not installed are left out.
Cases that the output file already holds are not measured again, so that a long run can be made in parts.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn import _native, bernoulli
from bayesbinn.training.models import ModelConfig, build_model
from benchmarks import peers

Run = Callable[[], Any]
LOW_BIT = ("onnxruntime 2-bit", "onnxruntime 2-bit LUT", "onnxruntime 4-bit", "ggml Q1_0")
FLOAT = ("onnxruntime float32", "openvino float32", "torch float32")


class Sign(nn.Module):
    """±1 activations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return bernoulli.sign(x)


def ours(net: nn.Module, x: np.ndarray, threads: int, samples: int = 0, activations: str = "int8") -> Run:
    raw = bb.deploy.pack(net, num_samples=samples, input_shape=x.shape[1:], activations=activations)  # type: ignore[arg-type]
    network = bb.runtime.load(raw, threads=threads)
    return (lambda: network.run_samples(x)) if samples else (lambda: network.run(x))


def linear(size: int, batch: int, threads: int) -> tuple[dict[str, Run], int]:
    net = bb.binarize_(nn.Sequential(nn.Linear(size, size, bias=False))).eval()
    x = np.random.default_rng(0).normal(size=(batch, size)).astype(np.float32)
    weight = net[0].weight.numpy()  # type: ignore[index, union-attr, operator]
    builders: dict[str, Callable[..., Run]] = {
        "onnxruntime float32": peers.ort_linear,
        "openvino float32": peers.openvino_linear,
        "torch float32": peers.torch_linear,
        "onnxruntime 2-bit": peers.ort_bits(2),
        "onnxruntime 2-bit LUT": peers.ort_bits(2, lut=True),
        "onnxruntime 4-bit": peers.ort_bits(4),
        "ggml Q1_0": peers.ggml_linear,
    }
    runs = built({name: (lambda b=b: b(x, weight, threads)) for name, b in builders.items()})
    runs["ours int8"] = ours(net, x, threads)
    runs["ours int16"] = ours(net, x, threads, activations="int16")
    runs["ours 1-bit"] = ours(nn.Sequential(Sign(), net), x, threads)
    return runs, size * size * batch


def conv(threads: int) -> tuple[dict[str, Run], int]:
    net = bb.binarize_(nn.Sequential(nn.Conv2d(256, 256, 3, padding=1, bias=False))).eval()
    x = np.random.default_rng(0).normal(size=(1, 256, 14, 14)).astype(np.float32)
    weight = net[0].weight.numpy()  # type: ignore[index, union-attr, operator]
    builders: dict[str, Callable[..., Run]] = {
        "onnxruntime float32": peers.ort_conv,
        "openvino float32": peers.openvino_conv,
        "torch float32": peers.torch_conv,
        "openvino BinaryConvolution": peers.openvino_binary_conv,
    }
    runs = built({name: (lambda b=b: b(x, weight, threads)) for name, b in builders.items()})
    runs["ours int8"] = ours(net, x, threads)
    runs["ours int16"] = ours(net, x, threads, activations="int16")
    runs["ours 1-bit"] = ours(nn.Sequential(Sign(), net), x, threads)
    return runs, 256 * 256 * 9 * 14 * 14


def network(model: str, batch: int, threads: int) -> tuple[dict[str, Run], int]:
    shape = (1, 28, 28) if model == "mlp" else (3, 32, 32)
    net = build_model(ModelConfig(model=model, width=2048), shape, 10).eval()
    x = np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)
    runs = {"torch float32": peers.torch_network(net, x, threads)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        torch.onnx.export(net, (torch.from_numpy(x),), str(path), dynamo=False, input_names=["x"])
        runs |= built({"onnxruntime float32": lambda: peers.ort_session(path.read_bytes(), x, threads)})
    binary = bb.binarize_(build_model(ModelConfig(model=model, width=2048), shape, 10)).eval()
    runs["ours int8"] = ours(binary, x, threads)
    runs["ours int16"] = ours(binary, x, threads, activations="int16")
    if model == "mlp":
        runs["ours int8, 8 samples"] = ours(binary, x, threads, samples=8)
    program = bb.deploy.load_program(bb.deploy.pack(binary, input_shape=shape))
    return runs, sum(op.num_macs for op in program.ops) * batch


def built(builders: dict[str, Callable[[], Run]]) -> dict[str, Run]:
    """The rivals that can be built; says which cannot."""
    runs = {}
    for name, build in builders.items():
        try:
            runs[name] = build()
        except (ImportError, peers.UnavailableError, OSError) as error:
            print(f"left out: {name} ({error})", file=sys.stderr)
    return runs


def measure(runs: dict[str, Run], rounds: int, seconds: float) -> dict[str, float]:
    """Median time of one call in microseconds, over the calls of `rounds` rounds in which all take turns.

    Calls are timed one by one: what else the machine does then falls on few of them, as long as they are short.
    """
    random_ = random.Random(0)
    repeats, times = {}, {name: [] for name in runs}  # type: dict[str, int], dict[str, list[float]]
    for name, run in runs.items():
        run(), run()
        start = time.perf_counter()
        run()
        repeats[name] = max(1, round(seconds / (time.perf_counter() - start)))
    for _ in range(rounds):
        for name in random_.sample(list(runs), len(runs)):
            time.sleep(0.01)  # threads of the one before, which wait for work by spinning, go to sleep
            run = runs[name]
            run()
            for _ in range(repeats[name]):
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
    return {name: 1e6 * statistics.median(values) for name, values in times.items()}


CASES: dict[str, Callable[[int], tuple[dict[str, Run], int]]] = {
    **{f"linear {n}², batch {b}": lambda t, n=n, b=b: linear(n, b, t) for n in (1024, 4096) for b in (1, 32, 64)},
    "conv 3×3 256→256, 14×14": conv,
    **{f"mlp 784-2048×3-10, batch {b}": lambda t, b=b: network("mlp", b, t) for b in (1, 64)},
    **{f"vgg-small, batch {b}": lambda t, b=b: network("vgg-small", b, t) for b in (1, 8)},
}


def targets(case: str, times: dict[str, float]) -> list[tuple[str, float, float]]:
    """(what, measured ratio, wanted ratio) for the promises that a case bears on."""

    def ratio(what: str, rivals: tuple[str, ...], mine: str, wanted: float) -> list[tuple[str, float, float]]:
        known = [times[r] for r in rivals if r in times]
        return [(what, min(known) / times[mine], wanted)] if known else []

    low = "best low-bit engine"
    if case.startswith("linear"):
        if case.endswith("batch 1"):
            if "4096" in case:
                return ratio("onnxruntime float32", FLOAT[:1], "ours int8", 15) + ratio(low, LOW_BIT, "ours int8", 3)
            return ratio("best peer", (*LOW_BIT, *FLOAT[:2]), "ours int8", 3)
        return ratio("onnxruntime float32", FLOAT[:1], "ours int8", 2.5) + ratio(low, LOW_BIT, "ours int8", 1.5)
    if case.startswith("conv"):
        faster = ratio("faster of onnxruntime and openvino float32", FLOAT[:2], "ours int8", 2)
        return faster + ratio("openvino BinaryConvolution", ("openvino BinaryConvolution",), "ours 1-bit", 1)
    if case == "mlp 784-2048×3-10, batch 1":
        eight = ratio("one torch float32 pass, eight samples", FLOAT[2:], "ours int8, 8 samples", 1)
        return ratio("torch float32", FLOAT[2:], "ours int8", 10) + eight
    return ratio("torch float32", FLOAT[2:], "ours int8", 2) if case.startswith("vgg") else []


def table(result: dict[str, Any]) -> str:
    """A stored result as Markdown."""
    lines = [
        f"{result['machine']}; {result['date']}; medians of {result['rounds']} interleaved rounds; instruction set "
        f"`{result['instruction_set']}`; load average before a case {loads(result)};",
        ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version) + "; made by",
        f"`{result['command']}`.",
        "",
    ]
    for threads, unordered in result["threads"].items():
        cases = {case: unordered[case] for case in CASES if case in unordered}
        lines += [f"### Threads: {threads}", "", "| case | engine | µs | MAC/ns |", "|---|---|--:|--:|"]
        for case, entry in cases.items():
            for name, micro in sorted(entry["microseconds"].items(), key=lambda item: item[1]):
                lines.append(f"| {case} | {name} | {micro:,.1f} | {entry['macs'] / micro / 1000:,.1f} |")
        lines += ["", "| case | faster than | wanted | measured | |", "|---|---|--:|--:|---|"]
        for case, entry in cases.items():
            for what, ratio, wanted in targets(case, entry["microseconds"]):
                verdict = "met" if ratio >= wanted else "missed"
                lines.append(f"| {case} | {what} | {wanted:g}× | {ratio:.1f}× | {verdict} |")
        lines.append("")
    return "\n".join(lines)


def loads(result: dict[str, Any]) -> str:
    """Least and most load of the machine before a case."""
    found = sorted(float(entry["load"]) for cases in result["threads"].values() for entry in cases.values())
    return f"{found[0]:.1f} to {found[-1]:.1f}"


def machine() -> str:
    """The processor's name and what it can do."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        cleaned = {key.strip(): value.strip() for key, value in fields.items()}
        cpu = f"{cleaned.get('model name', cpu)} (family {cleaned.get('cpu family')}, model {cleaned.get('model')})"
    return f"{cpu}, {os.cpu_count()} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cases", default="", help="only the cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.03, help="of each engine in each round")
    arguments = parser.parse_args()
    if arguments.table:
        print("\n".join(table(result) for result in json.loads(arguments.table.read_text()).values()))
        return
    torch.manual_seed(0)
    result = started(arguments.rounds)
    # a result for each machine
    stored = json.loads(arguments.output.read_text()) if arguments.output and arguments.output.exists() else {}
    stored[result["machine"]] = result = resumed(stored.get(result["machine"], result), result)
    for threads in arguments.threads:
        cases = result["threads"].setdefault(str(threads), {})
        for case, build in CASES.items():
            if arguments.cases not in case or case in cases:
                continue
            load = f"{os.getloadavg()[0]:.1f}"
            runs, macs = build(threads)
            times = measure(runs, arguments.rounds, arguments.seconds)
            cases[case] = {"macs": macs, "load": load, "microseconds": times}
            print(threads, case, {n: round(t, 1) for n, t in times.items()}, file=sys.stderr)
            if arguments.output:
                arguments.output.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
    print(table(result))


def started(rounds: int) -> dict[str, Any]:
    """A result without cases: what it is measured with."""
    versions: dict[str, str | None] = {"torch": torch.__version__}
    for name in ("onnxruntime", "openvino", "xllamacpp"):
        try:
            versions[name] = __import__(name).__version__
        except ImportError:
            versions[name] = None
    return {
        "command": "python benchmarks/inference.py --output benchmarks/results/inference.json",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": machine(),
        "instruction_set": _native.chosen() if _native.library() else "numpy",
        "rounds": rounds,
        "versions": versions,
        "import": import_seconds(),
        "threads": {},
    }


def import_seconds() -> dict[str, Any]:
    """Fastest of five fresh interpreters: numpy, `bayesbinn.runtime` after it, and whether torch came along."""
    code = (
        "import sys, time; a = time.perf_counter(); import numpy; b = time.perf_counter(); import bayesbinn.runtime;"
        "c = time.perf_counter(); print(b - a, c - b, int('torch' in sys.modules))"
    )
    lines = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(5)]
    numpy_, runtime, torch_ = zip(*(map(float, line.split()) for line in lines), strict=True)
    return {"numpy": min(numpy_), "bayesbinn.runtime after it": min(runtime), "imports torch": any(torch_)}


def resumed(stored: dict[str, Any], fresh: dict[str, Any]) -> dict[str, Any]:
    """The stored result, if it was measured with the same things; exits otherwise."""
    for key in ("machine", "instruction_set", "versions", "rounds"):
        if stored[key] != fresh[key]:
            sys.exit(f"the output file was measured with {key} {stored[key]}, now {fresh[key]}: name another file")
    return stored


if __name__ == "__main__":
    main()

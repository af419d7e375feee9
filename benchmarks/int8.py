"""Packed inference against the same layers and networks in int8, interleaved in one run.

    python benchmarks/int8.py --output benchmarks/results/int8.json     # adds this machine's figures to the file
    python benchmarks/int8.py --table benchmarks/results/int8.json

How it measures is said in `inference.py`.  Results of several processors stand side by side, by their names.
"""

import argparse
import json
import os
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn import _native
from bayesbinn.training.models import ModelConfig, build_model
from benchmarks import peers_int8 as peers
from benchmarks.inference import Run, built, machine, measure, ours, started

LINEAR = {"onnxruntime int8": peers.ort_static_linear, "onnxruntime int8, dynamic": peers.ort_dynamic_linear,
          "openvino int8": peers.openvino_linear, "torch int8": peers.torch_linear}  # fmt: skip
CONV = {
    "onnxruntime int8": peers.ort_qlinear_conv,
    "openvino int8": peers.openvino_conv,
    "torch int8": peers.torch_conv,
}
OURS = ("ours int8", "ours int6")


def mine(net: nn.Module, x: np.ndarray, threads: int) -> dict[str, Run]:
    return {name: ours(net, x, threads, activations=name.split()[1]) for name in OURS}


def linear(size: int, batch: int, threads: int) -> tuple[dict[str, Run], int]:
    net = bb.binarize_(nn.Sequential(nn.Linear(size, size, bias=False))).eval()
    x = np.random.default_rng(0).normal(size=(batch, size)).astype(np.float32)
    weight = net[0].weight.numpy()  # type: ignore[index, union-attr, operator]
    runs = built({name: (lambda b=b: b(x, weight, threads)) for name, b in LINEAR.items()})
    return runs | mine(net, x, threads), size * size * batch


def conv(channels: int, size: int, threads: int) -> tuple[dict[str, Run], int]:
    net = bb.binarize_(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False))).eval()
    x = np.random.default_rng(0).normal(size=(1, channels, size, size)).astype(np.float32)
    weight = net[0].weight.numpy()  # type: ignore[index, union-attr, operator]
    runs = built({name: (lambda b=b: b(x, weight, threads)) for name, b in CONV.items()})
    return runs | mine(net, x, threads), channels * channels * 9 * size * size


def network(model: str, batch: int, threads: int) -> tuple[dict[str, Run], int]:
    shape = (3, 32, 32)
    net = build_model(ModelConfig(model=model), shape, 10).eval()
    x = np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        torch.onnx.export(net, (torch.from_numpy(x),), str(path), dynamo=False, input_names=["x"])
        raw = peers.quantised_network(path.read_bytes(), x)
    runs = built({
        "onnxruntime int8": lambda: peers.ort_network(raw, x, threads),
        "openvino int8": lambda: peers.openvino_network(raw, x, threads),
    })  # fmt: skip
    binary = bb.binarize_(build_model(ModelConfig(model=model), shape, 10)).eval()
    program = bb.deploy.load_program(bb.deploy.pack(binary, input_shape=shape))
    return runs | mine(binary, x, threads), sum(op.num_macs for op in program.ops) * batch


CASES = {
    **{f"linear {n}², batch {b}": lambda t, n=n, b=b: linear(n, b, t) for n in (1024, 4096) for b in (1, 32, 64)},
    **{f"conv 3×3 {c}→{c}, {s}×{s}": lambda t, c=c, s=s: conv(c, s, t) for c, s in ((64, 56), (256, 14), (512, 7))},
    **{f"{m}, batch {b}": lambda t, m=m, b=b: network(m, b, t) for m in ("vgg-small", "resnet18") for b in (1, 8)},
}
WANTED = {
    "linear batch 1": {"ours int8": 2.5},
    "linear": {"ours int8": 1.5, "ours int6": 2.5},
    "other": {"ours int8": 1.3, "ours int6": 2},
}


def wanted(case: str, name: str) -> float | None:
    kind = "other" if not case.startswith("linear") else "linear batch 1" if case.endswith("batch 1") else "linear"
    return WANTED[kind].get(name)


def table(stored: dict[str, Any]) -> str:
    """A stored result as Markdown: ratios to the fastest int8 engine."""
    lines = []
    for result in stored.values():
        about = f"{result['machine']}, {', '.join(result['can']) or 'neither VNNI nor AMX'}; {result['date']}; "
        versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items() if version)
        lines += [
            f"{about}medians of {result['rounds']} interleaved rounds; {versions};",
            f"`{result['command']}`.",
            "",
        ]
        lines += [
            "| threads | case | fastest int8 engine | µs | ours | µs | faster | wanted |",
            "|--:|---|---|--:|---|--:|--:|--:|",
        ]
        for threads, cases in result["threads"].items():
            for case in (c for c in CASES if c in cases):
                times = cases[case]["microseconds"]
                rival = min((n for n in times if not n.startswith("ours")), key=times.__getitem__)
                for name in (n for n in times if n.startswith("ours")):
                    aim = wanted(case, name)
                    lines.append(
                        f"| {threads} | {case} | {rival} | {times[rival]:,.0f} | {name} | {times[name]:,.0f} | "
                        f"{times[rival] / times[name]:.2f}× | {'' if aim is None else f'{aim:g}×'} |"
                    )
        lines.append("")
    return "\n".join(lines)


def can() -> list[str]:
    """What the processor has for products of int8."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    return [flag for flag in ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp") if flag in flags]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cases", default="", help="only the cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.03, help="of each engine in each round")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())))
        return
    torch.manual_seed(0)
    stored = json.loads(arguments.output.read_text()) if arguments.output and arguments.output.exists() else {}
    result = started(arguments.rounds) | {
        "command": "python benchmarks/int8.py --output benchmarks/results/int8.json",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "can": can(),
    }
    result.pop("import")
    stored[machine()] = result
    for threads in arguments.threads:
        cases = result["threads"].setdefault(str(threads), {})
        for case, build in CASES.items():
            if arguments.cases not in case:
                continue
            load = f"{os.getloadavg()[0]:.1f}"
            runs, macs = build(threads)
            times = measure(runs, arguments.rounds, arguments.seconds)
            cases[case] = {"macs": macs, "load": load, "microseconds": times}
            print(
                threads,
                case,
                {n: f"{t:.0f} µs, {macs / t / 1000:.0f} MAC/ns" for n, t in times.items()},
                file=sys.stderr,
            )
            if arguments.output:
                arguments.output.write_text(json.dumps(stored, indent=1) + "\n")
    print(_native.chosen())
    print(table({machine(): result}))


if __name__ == "__main__":
    main()

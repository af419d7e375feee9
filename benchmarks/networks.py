"""Networks of other people's kinds: trained, packed, and the same in every form that a file can be written as.

    export BAYESBINN_DATA=FOLDER
    python benchmarks/networks.py --output benchmarks/results/networks.json --page docs/deploy.md

For each: a short training on CIFAR-10 (the GRU reads the rows of an image as steps, the last network an image and its
mean colours), then the packed file on 256 test images: largest difference of a logit to torch (a share of the largest
logit), images whose class differs, whether numpy, every instruction set here and the C export give the same bits, and
the difference of ONNX in onnxruntime.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn import _native
from bayesbinn.data import load_data
from bayesbinn.files import write_text
from benchmarks.inference import machine
from experiments.own.networks import Block, ConvNeXt, ViT

IMAGES, TESTED, BATCH = 8_000, 256, 50
MORE = {"GRU, two directions": 8}  # times the epochs of the others, which are quick or learn quickly


def resnet18(width: int = 16) -> nn.Module:
    """Four stages of two blocks with SiLU, without the first pool."""
    stem = [nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.SiLU()]
    stages: list[nn.Module] = []
    channels = width
    for i in range(4):
        out = width << i
        stages += [Block(channels, out, 2 if i else 1), Block(out, out, 1)]
        channels = out
    return nn.Sequential(*stem, *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


class Rows(nn.Module):
    """A GRU of two directions over the 32 rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(96, 64, bidirectional=True, batch_first=True), nn.Linear(128, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x.transpose(1, 2).flatten(2))[0].mean(1))


class TwoInputs(nn.Module):
    """An image and six numbers."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, 32, 4, 4), nn.BatchNorm2d(32), nn.ReLU())
        self.conv = nn.Sequential(first, nn.Conv2d(32, 64, 3), nn.GELU())
        self.numbers, self.head = nn.Sequential(nn.Linear(6, 64), nn.Tanh()), nn.Linear(128, 10)

    def forward(self, image: Tensor, numbers: Tensor) -> Tensor:
        return self.head(torch.cat([self.conv(image).mean((2, 3)), self.numbers(numbers)], 1))


NETWORKS = {
    "ResNet-18, SiLU": resnet18,
    "ConvNeXt blocks": ConvNeXt,
    "ViT": ViT,
    "GRU, two directions": Rows,
    "two inputs": TwoInputs,
}


def inputs_of(name: str, x: Tensor) -> tuple[Tensor, ...]:
    return (x, torch.cat([x.mean((2, 3)), x.std((2, 3))], 1)) if name == "two inputs" else (x,)


def train(name: str, net: nn.Module, x: Tensor, y: Tensor, epochs: int) -> None:
    optimizer = bb.optimizer_for(net, num_data=len(x))
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(*inputs_of(name, x[rows])), y[rows]).backward()
            optimizer.step()
    net.eval()


def run_c(program: Any, x: np.ndarray) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        bb.deploy.save_c(program, folder, "net")
        library = Path(folder) / "net.so"
        flags = ["-std=c99", "-O2", "-ffp-contract=off", "-shared", "-fPIC"]
        subprocess.run(["cc", *flags, str(Path(folder) / "net.c"), "-o", str(library)], check=True)
        call = ctypes.CDLL(str(library)).net_run
        out = np.empty((len(x), *program.output_shape), np.float32)
        for row, to in zip(x, out, strict=True):
            row = np.ascontiguousarray(row)
            call(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(to.ctypes.data))
        return out


def check(name: str, x: Tensor, y: Tensor, test_x: Tensor, test_y: Tensor, epochs: int) -> dict[str, Any]:
    import onnxruntime

    torch.manual_seed(0)
    net = bb.binarize_(NETWORKS[name]())
    started = time.perf_counter()
    train(name, net, x, y, epochs * MORE.get(name, 1))
    given = inputs_of(name, test_x)
    with torch.no_grad():
        exact = net(*given).numpy()
    seen = inputs_of(name, x[:512])
    calibration = seen[0] if len(seen) == 1 else seen
    raw = bb.deploy.pack(net, num_samples=2, calibration=calibration)
    mode = bb.deploy.load_program(bb.deploy.pack(net, calibration=calibration))
    arrays = tuple(part.numpy() for part in given)
    inputs: Any = arrays[0] if len(arrays) == 1 else arrays
    outputs = {}
    for engine in (*_native.instruction_sets(), "numpy"):
        os.environ["BAYESBINN_ISA"] = engine
        network = bb.runtime.load(raw)
        assert network.engine == engine
        outputs[engine] = network.run(inputs)
    os.environ.pop("BAYESBINN_ISA")
    program = bb.deploy.load_program(raw)
    packed = outputs["numpy"]
    flat = network._joined(inputs)
    from_c = run_c(program, flat[:32])
    session = onnxruntime.InferenceSession(bb.deploy.to_onnx(program, stock=True), providers=["CPUExecutionProvider"])
    feeds = {"x": inputs} if len(arrays) == 1 else {f"x{i}": part for i, part in enumerate(arrays)}
    (from_onnx,) = session.run(None, feeds)
    size = float(np.abs(exact).max())
    total = sum(p.numel() for p in net.parameters())
    return {
        "parameters": total,
        "bytes of the mode": bb.deploy.describe(mode).total.num_bytes,
        "operations": len(program.ops),
        "train seconds": round(time.perf_counter() - started, 1),
        "accuracy": round(100 * float((exact.argmax(1) == test_y.numpy()).mean()), 2),
        "largest difference": float(np.abs(packed - exact).max()) / size,
        "other classes": int((packed.argmax(1) != exact.argmax(1)).sum()),
        "same bits": sorted(e for e, o in outputs.items() if np.array_equal(o, packed)),
        "c export same bits": bool(np.array_equal(from_c, packed[:32])),
        "onnx difference": float(np.abs(from_onnx - exact).max()) / size,
    }


def table(stored: dict[str, Any]) -> str:
    """A row a network."""
    heads = ("network", "parameters", "bytes of the file", "accuracy % (short training)", "int8 off torch by")
    heads += (f"other classes of {TESTED}", "ONNX off by", "numpy, C, C export")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, r in stored["networks"].items():
        equal = r["c export same bits"] and len(r["same bits"]) == len(stored["engines"])
        cells = [name, f"{r['parameters']:,}", f"{r['bytes of the mode']:,}", f"{r['accuracy']:.1f}"]
        cells += [f"{r['largest difference']:.2%}", str(r["other classes"]), f"{r['onnx difference']:.1e}"]
        lines.append(f"| {' | '.join(cells)} | {'the same bits' if equal else 'differ'} |")
    about = f"`{stored['command']}`, {stored['machine']}, {stored['date']}"
    return "\n".join([*lines, "", f"{about}; differences are shares of the largest logit."])


def write_page(page: Path, stored: dict[str, Any]) -> None:
    begin, end = "<!-- networks: begin -->", "<!-- networks: end -->"
    text = page.read_text(encoding="utf-8")
    before, after = text.partition(begin)[0], text.partition(end)[2]
    write_text(page, f"{before}{begin}\n{table(stored)}\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--page", type=Path, help="write the table of --output into this page, and run nothing if it exists"
    )
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    if not (arguments.page and arguments.output.exists()):
        torch.set_num_threads(1)
        data = load_data("cifar10")
        x, y = data.train.x[:IMAGES].float(), data.train.y[:IMAGES]
        test_x, test_y = data.test.x[:TESTED].float(), data.test.y[:TESTED]
        stored = {
            "command": "python benchmarks/networks.py --output benchmarks/results/networks.json",
            "date": datetime.now(timezone.utc).date().isoformat(),
            "machine": machine(),
            "engines": [*_native.instruction_sets(), "numpy"],
            "networks": {},
        }
        for name in NETWORKS:
            stored["networks"][name] = check(name, x, y, test_x, test_y, arguments.epochs)
            print(name, json.dumps(stored["networks"][name]), flush=True)
        write_text(arguments.output, json.dumps(stored, indent=1) + "\n")
    if arguments.page:
        write_page(arguments.page, json.loads(arguments.output.read_text()))


if __name__ == "__main__":
    main()

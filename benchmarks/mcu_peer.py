"""The network of mcu.py in int8 by BakeNN, beside our C export, on emulated microcontrollers.

    pip install --no-deps bakenn
    python benchmarks/mcu_peer.py --output benchmarks/results/mcu_peer.json
    python benchmarks/mcu_peer.py --table benchmarks/results/mcu_peer.json

Both are linked into the same firmware and built with the flags of `deploy.c_targets`.  BakeNN's part has its portable
kernels, the arena that it asks for, and what turns 784 floats into its int8 inputs.  Its network has no
batch norm, which it would fold away.  RAM is static memory; neither needs a heap.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn.deploy.c_targets import TARGETS
from benchmarks.mcu import BOARDS, FIRMWARE, build, run, sizes
from benchmarks.wasm import small_conv

BOARD_NAMES = ("cortex-m3", "cortex-m4", "cortex-m7")  # the arena does not fit beside the rest in 16 KB of an M0+
WRAPPER = """
#include "net.h"
#include "bknn_net.h"
static uint8_t arena[BKNN_NET_ARENA_SIZE] __attribute__((aligned(BKNN_NET_ARENA_ALIGNMENT)));
static int8_t input[BKNN_NET_INPUT_BYTES], output[BKNN_NET_OUTPUT_BYTES];
void net_run(const float *x, float *y) {
    for (unsigned i = 0; i < BKNN_NET_INPUT_SIZE; i++) {
        int level = (int)(x[i] / BKNN_NET_INPUT_SCALE + 0.5f) + BKNN_NET_INPUT_ZERO_POINT;
        input[i] = (int8_t)(level > 127 ? 127 : level);
    }
    bknn_net_infer(arena, input, output);
    for (unsigned i = 0; i < BKNN_NET_OUTPUT_SIZE; i++)
        y[i] = (float)(output[i] - BKNN_NET_OUTPUT_ZERO_POINT) * BKNN_NET_OUTPUT_SCALE;
}
"""


def float_twin() -> nn.Module:
    """The layers of `small_conv`, real and without batch norm."""
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(1568, 128), nn.ReLU(), nn.Linear(128, 10)),
    ).eval()


def bakenn_firmware(folder: Path, target: str, sources: list[Path], out: str) -> Path:
    """As `mcu.firmware`, in C11."""
    board, chosen = BOARDS[target], TARGETS[target]
    symbols = [f"-Wl,--defsym={n}={v:#x}" for n, v in
               (("CODE", board.code), ("DATA", board.data), ("STACK", board.stack))]  # fmt: skip
    command = [
        *(chosen.compiler, "-std=gnu11", "-O2", "-ffp-contract=off", *chosen.flags, "-ffreestanding", "-fno-builtin"),
        *("-nostartfiles", "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", f"-I{folder}"),
        *(*map(str, sources), *symbols, f"-Wl,-T,{FIRMWARE / 'layout.ld'}", "-nostdlib", "-lgcc"),
        *("-Wl,--no-warn-rwx-segments", "-o", str(folder / out)),
    ]
    subprocess.run(command, check=True, cwd=folder)
    return folder / out


def bakenn(x: np.ndarray[Any, Any], target: str) -> dict[str, Any]:
    import bakenn as peer

    net = float_twin()
    typical = torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peer.compile_torch_ptq(net, typical[:1], [one[None] for one in typical], folder, name="net")
        (folder / "net.h").write_text(
            "enum { NET_INPUTS = 784, NET_OUTPUTS = 10 };\nvoid net_run(const float *, float *);\n"
        )
        words = x.reshape(len(x), -1).view(np.uint32)
        rows = ",\n".join("{" + ", ".join(f"{word:#x}u" for word in row) + "}" for row in words.tolist())
        (folder / "inputs.h").write_text(
            f"enum {{ NUM_INPUTS = {len(x)} }};\nstatic const unsigned inputs[{len(x)}][784] = {{\n{rows}}};\n"
        )
        (folder / "net.c").write_text(WRAPPER)
        (folder / "empty.c").write_text(
            '#include "net.h"\nvoid net_run(const float *x, float *y) { (void)x, (void)y; }\n'
        )
        start, made = FIRMWARE / "start.c", sorted(folder.glob("bknn_*.c"))
        whole = bakenn_firmware(folder, target, [folder / "net.c", *made, start], "net.elf")
        empty = bakenn_firmware(folder, target, [folder / "empty.c", start], "empty.elf")
        flash, ram = (a - b for a, b in zip(sizes(target, whole), sizes(target, empty), strict=True))
        outputs, instructions = run(target, whole, 10)
    with torch.no_grad():
        error = float((torch.from_numpy(outputs) - net(torch.from_numpy(x))).abs().max())
    return {"flash": flash, "ram": ram, "instructions": instructions, "largest error of a logit": error}


def ours(x: np.ndarray[Any, Any], target: str, calibrated: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    how: dict[str, Any] = {"calibration": torch.rand(64, 1, 28, 28)} if calibrated else {"input_shape": (1, 28, 28)}
    program = bb.deploy.load_program(bb.deploy.pack(small_conv(), **how))
    with tempfile.TemporaryDirectory() as folder:
        whole, flash, ram = build(Path(folder), target, program, x)
        _, instructions = run(target, whole, 10)
    return {"flash": flash, "ram": ram, "instructions": instructions}


def table(result: dict[str, Any]) -> str:
    """A stored result as Markdown."""
    lines = ["| target | | flash | RAM | million instructions |", "|---|---|--:|--:|--:|"]
    for target, both in result["targets"].items():
        for name, r in both.items():
            lines.append(f"| `{target}` | {name} | {r['flash']:,} | {r['ram']:,} | {r['instructions'] / 1e6:.1f} |")
    return "\n".join([*lines, "", f"{result['made']}; `{result['command']}`."])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text(encoding="utf-8"))))
        return
    x = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
    targets = {
        t: {
            "bayesbinn, 1-bit weights": ours(x, t, False),
            "the same, calibrated": ours(x, t, True),
            "BakeNN, int8, calibrated": bakenn(x, t),
        }
        for t in BOARD_NAMES
    }
    first = subprocess.run(["arm-none-eabi-gcc", "--version"], capture_output=True, text=True, check=True).stdout
    result = {
        "command": "mcu_peer.py --output benchmarks/results/mcu_peer.json",
        "made": f"bakenn {version('bakenn')}, {first.splitlines()[0]}, qemu",
        "targets": targets,
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(targets, indent=1))
    print(table(result))


if __name__ == "__main__":
    main()

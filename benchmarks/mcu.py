"""The C export on emulated microcontrollers: results, memory by the linker, instructions by qemu.

    python benchmarks/mcu.py --output benchmarks/results/mcu.json     # some minutes
    python benchmarks/mcu.py --table benchmarks/results/mcu.json      # prints the stored result
    python benchmarks/mcu.py --code                                   # the sizes of code for deploy/c_targets.py

Needs arm-none-eabi-gcc, riscv64-unknown-elf-gcc, qemu-system-arm and qemu-system-riscv32.  A firmware holds the
network, some inputs and little else.  What the network takes is the firmware's size less that of one whose network does
nothing.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from numpy.typing import NDArray

import bayesbinn as bb
from bayesbinn.deploy.c_plan import plan
from bayesbinn.deploy.c_targets import PARTS, TARGETS
from bayesbinn.deploy.export_c import FLAGS, _body, c_budget, save_c
from bayesbinn.runtime.container import read, write
from bayesbinn.runtime.program import Program, check
from benchmarks.wasm import small_conv
from tests.deploy.nets import NETWORKS
from tests.deploy.plans import random_plan

FIRMWARE = Path(__file__).parents[1] / "tests" / "deploy" / "firmware"


@dataclass(frozen=True)
class Board:
    """An emulated machine: its emulator, where code and data go, and instructions in a tick of its timer."""

    emulator: str
    machine: tuple[str, ...]
    code: int
    data: int
    stack: int
    tick: float


MPS2 = (0x0, 0x20000000, 0x20100000, 40.0)
BOARDS = {
    "cortex-m0plus": Board("qemu-system-arm", ("-M", "microbit"), 0x0, 0x20000000, 0x20004000, 62.5),
    "cortex-m3": Board("qemu-system-arm", ("-M", "mps2-an385"), *MPS2),
    "cortex-m4": Board("qemu-system-arm", ("-M", "mps2-an386"), *MPS2),
    "cortex-m7": Board("qemu-system-arm", ("-M", "mps2-an500"), *MPS2),
    "riscv32": Board("qemu-system-riscv32", ("-M", "virt", "-bios", "none"), 0x80000000, 0x80400000, 0x80500000, 1.0),
}


def missing(target: str) -> str | None:
    """A program that is needed for a target and is not installed."""
    needed = (TARGETS[target].compiler, BOARDS[target].emulator)
    return next((name for name in needed if shutil.which(name) is None), None)


def firmware(folder: Path, target: str, sources: list[Path], out: str) -> Path:
    """Compile and link; `folder` holds net.h and inputs.h."""
    board, chosen = BOARDS[target], TARGETS[target]
    symbols = [
        f"-Wl,--defsym={n}={v:#x}" for n, v in (("CODE", board.code), ("DATA", board.data), ("STACK", board.stack))
    ]
    flags = [f for f in FLAGS.split() if f != "-std=c99"]
    command = [
        chosen.compiler, "-std=gnu99", *flags, *chosen.flags, "-ffreestanding", "-fno-builtin", "-nostartfiles",
        "-ffunction-sections", "-fdata-sections", "-Wl,--gc-sections", f"-I{folder}", *map(str, sources), *symbols,
        f"-Wl,-T,{FIRMWARE / 'layout.ld'}", "-nostdlib", "-lgcc", "-Wl,--no-warn-rwx-segments", "-o", str(folder / out),
    ]  # fmt: skip
    subprocess.run(command, check=True, cwd=folder)
    return folder / out


def sizes(target: str, file: Path) -> tuple[int, int]:
    """(bytes of code and constants, of static memory) by the linker."""
    size = TARGETS[target].compiler.removesuffix("gcc") + "size"
    done = subprocess.run([size, str(file)], capture_output=True, text=True, check=True)
    text, data, bss = map(int, done.stdout.splitlines()[1].split()[:3])
    return text + data, data + bss


def build(
    folder: Path, target: str, program: Program, x: NDArray[np.float32], ram: int | None = None
) -> tuple[Path, int, int]:
    """The firmware, and the bytes of (flash, ram) that the network takes in it."""
    save_c(program, folder, target=target, ram=ram)
    words = x.reshape(len(x), -1).view(np.uint32)
    rows = ",\n".join("{" + ", ".join(f"{word:#x}u" for word in row) + "}" for row in words.tolist())
    inputs = (
        f"enum {{ NUM_INPUTS = {len(x)} }};\nstatic const unsigned inputs[{len(x)}][{words.shape[1]}] = {{\n{rows}}};\n"
    )
    (folder / "inputs.h").write_text(inputs)
    (folder / "empty.c").write_text('#include "net.h"\nvoid net_run(const float *x, float *y) { (void)x, (void)y; }\n')
    start = FIRMWARE / "start.c"
    whole = firmware(folder, target, [folder / "net.c", start], "net.elf")
    empty = firmware(folder, target, [folder / "empty.c", start], "empty.elf")
    flash, static = (a - b for a, b in zip(sizes(target, whole), sizes(target, empty), strict=True))
    return whole, flash, static


def run(target: str, file: Path, num_outputs: int) -> tuple[NDArray[np.float32], int]:
    """Outputs (B, O) and instructions of the first input."""
    board = BOARDS[target]
    command = [
        board.emulator, *board.machine, "-nographic", "-monitor", "none", "-serial", "none", "-icount", "shift=0",
        "-semihosting-config", "enable=on,target=native", "-kernel", str(file),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    lines = re.findall(r"^[0-9a-f]{8}$", done.stdout + done.stderr, re.MULTILINE)
    words = np.array([int(line, 16) for line in lines], np.uint32).reshape(-1, 1 + num_outputs)
    return words[:, 1:].copy().view(np.float32), round(int(words[0, 0]) * board.tick)


NAMES = {  # of the functions of a part, where they are others than its own name
    "core": ("put", "clip", "nearest", "into"),
    "levels": ("into_levels",),
    "window": ("meet",),
    "exp": ("exponential",),
    "apply": ("apply", "tanh_of", "erf_of"),
    "lanes": ("clear", "take", "sum_of"),
    "normalize": ("normalize", "normalize_part", "root"),
}
GATHERS = 19  # seed of a random plan that no sizes and strides describe


def code(target: str) -> dict[str, int]:
    """Bytes of each part of the template, of a line of the network's function, and of the compiler's own routines."""
    found: dict[str, int] = {}
    bodies: list[tuple[int, int]] = []
    size = TARGETS[target].compiler.removesuffix("gcc") + "nm"
    programs = [check(read(write(*random_plan(GATHERS))))]
    for make, shape in NETWORKS:
        torch.manual_seed(0)
        programs.append(bb.deploy.load_program(bb.deploy.pack(make(), input_shape=shape)))
    for program in programs:
        shape = program.input_shape
        with tempfile.TemporaryDirectory() as folder:
            file, flash, _ = build(Path(folder), target, program, np.zeros((1, *shape), np.float32))
            text = subprocess.run([size, "-S", str(file)], capture_output=True, text=True, check=True).stdout
        symbols = {line.split()[3]: int(line.split()[1], 16) for line in text.splitlines() if len(line.split()) == 4}
        budget = c_budget(program, target="any")
        lines = len(_body(program, plan(program))[1])
        parts = {part: NAMES.get(part, (part,)) for part in PARTS}
        for part, names in parts.items():
            if names[0] in symbols:
                found[part] = sum(symbols[name] for name in names)
        bodies.append((symbols["net_run"], lines))
        own = sum(symbols[n] for names in parts.values() for n in names if n in symbols) + symbols["net_run"]
        found["compiler"] = max(found.get("compiler", 0), flash - own - budget.constants)
    total, lines = (sum(values) for values in zip(*bodies, strict=True))
    return {**found, "call": round(total / lines)}


def networks() -> dict[str, Program]:
    net = small_conv()
    torch.manual_seed(0)
    x = torch.rand(64, 1, 28, 28)
    return {
        "small convolutional network": bb.deploy.load_program(bb.deploy.pack(net, input_shape=(1, 28, 28))),
        "the same, calibrated": bb.deploy.load_program(bb.deploy.pack(net, calibration=x)),
    }


def measure() -> dict[str, Any]:
    found: dict[str, Any] = {}
    x = np.random.default_rng(0).random((2, 1, 28, 28), np.float32)
    for name, program in networks().items():
        expected = bb.runtime.Network(program).run(x)
        for target in BOARDS:
            with tempfile.TemporaryDirectory() as folder:
                file, flash, static = build(Path(folder), target, program, x)
                outputs, instructions = run(target, file, expected.shape[1])
            budget = c_budget(program, target=target)
            found.setdefault(name, {})[target] = {
                "same_bits": bool(np.array_equal(outputs, expected)),
                "flash": flash, "ram": static, "told_flash": budget.flash, "told_ram": budget.ram,
                "instructions": instructions,
            }  # fmt: skip
            print(name, target, found[name][target], file=sys.stderr)
    return found


def table(result: dict[str, Any]) -> str:
    """A stored result as Markdown."""
    lines = [
        f"{result['compilers']}; {result['emulator']}; {result['date']}; `{result['command']}`.",
        "",
        "| network | target | RAM | told | flash | told | million instructions | same bits as the runtime |",
        "|---|---|--:|--:|--:|--:|--:|---|",
    ]
    for name, targets in result["networks"].items():
        for target, r in targets.items():
            cells = [f"{r[key]:,}" for key in ("ram", "told_ram", "flash", "told_flash")]
            same = "yes" if r["same_bits"] else "**no**"
            lines.append(f"| {name} | `{target}` | {' | '.join(cells)} | {r['instructions'] / 1e6:.1f} | {same} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--code", action="store_true")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(json.loads(arguments.table.read_text())))
        return
    for target in BOARDS:
        if name := missing(target):
            sys.exit(f"needs {name}")
    if arguments.code:
        for target in BOARDS:
            found = code(target)
            print(target, tuple(found[part] for part in PARTS))
        return

    def version(name: str) -> str:
        return subprocess.run([name, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]

    result = {
        "command": "python benchmarks/mcu.py --output benchmarks/results/mcu.json",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "compilers": "; ".join(version(name) for name in ("arm-none-eabi-gcc", "riscv64-unknown-elf-gcc")),
        "emulator": version("qemu-system-arm"),
        "networks": measure(),
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()

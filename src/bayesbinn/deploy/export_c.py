"""A packed network as a folder of C99: bits as constants, no heap, no library, the runtime's results bit for bit."""

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import write_bytes
from ..runtime.program import Op, Program

TEMPLATE = Path(__file__).with_name("export_c.c.txt")


def to_c(program: Program, name: str = "net") -> dict[str, str]:
    """The files {name: text} of a C99 folder with the mode: NAME.h, NAME.c and a Makefile.

    `void NAME_run(const float *x, float *y)` maps one input of the network's shape (C, H, W order, as in torch) to its
    output.  It must be compiled without contraction of float operations (`-ffp-contract=off`), or its results may
    differ in the last bit.

    Raises:
        ValueError: if `name` is not a C identifier.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a C identifier, got {name!r}")
    inputs, outputs = (math.prod(shape) for shape in (program.input_shape, program.output_shape))
    header = f"""/* Made by bayesbinn from a packed binary network. */
#ifndef {name.upper()}_H
#define {name.upper()}_H

enum {{ {name.upper()}_INPUTS = {inputs}, {name.upper()}_OUTPUTS = {outputs} }};

/* x: {"×".join(map(str, program.input_shape))} floats; y: {"×".join(map(str, program.output_shape))} floats */
void {name}_run(const float *x, float *y);

#endif
"""
    constants: list[str] = []
    slots, buffers = _buffers(program)
    lines = []
    for index, op in enumerate(program.ops):
        sources = [slots[i] for i in op.inputs]
        lines.append(_call(index, op, sources, slots[index + 1], constants))
    largest = max([math.prod(op.source) for op in program.ops if op.kind == "binary"], default=1)
    body = TEMPLATE.read_text().replace("LARGEST_INPUT", str(largest))
    arrays = "".join(f"static float {buffer}[{size}];\n" for buffer, size in buffers.items())
    calls = "\n".join(f"    {line}" for line in lines)
    source = (
        f'#include "{name}.h"\n\n{body}\n{"".join(constants)}\n{arrays}\n'
        f"void {name}_run(const float *x, float *y) {{\n{calls}\n}}\n"
    )
    flags = "-std=c99 -O2 -Wall -Wextra -ffp-contract=off"
    makefile = f"{name}.o: {name}.c {name}.h\n\t$(CC) {flags} -c {name}.c -o {name}.o\n"
    return {f"{name}.h": header, f"{name}.c": source, "Makefile": makefile}


def save_c(program: Program, folder: str | Path, name: str = "net") -> list[Path]:
    """Write the files of `to_c` into `folder` (made if need be); returns their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for file, text in to_c(program, name).items():
        write_bytes(folder / file, text.encode())
        paths.append(folder / file)
    return paths


def _buffers(program: Program) -> tuple[list[str], dict[str, int]]:
    """The C name that holds each value, and the sizes of the static buffers; one is reused when its value is done."""
    last = {0: 0}
    for index, op in enumerate(program.ops):
        for value in op.inputs:
            last[value] = index
    names, sizes, owner = ["x"], {}, {}  # type: list[str], dict[str, int], dict[str, int]
    for index, op in enumerate(program.ops):
        if index + 1 == len(program.ops):
            names.append("y")
            continue
        free = [b for b, value in owner.items() if last.get(value, value - 1) < index]
        name = free[0] if free else f"buffer{len(sizes)}"
        owner[name] = index + 1
        sizes[name] = max(sizes.get(name, 0), math.prod(op.shape))
        names.append(name)
    return names, sizes


def _call(index: int, op: Op, sources: list[str], to: str, constants: list[str]) -> str:
    if op.kind == "flatten":
        return f"copy({sources[0]}, {math.prod(op.shape)}, {to});"
    arrays = {"scale": "0", "shift": "0", "weight": "0", "bits": "0"}
    for field in arrays:
        value = getattr(op, field)
        if value is not None:
            arrays[field] = f"{field}{index}"
            constants.append(_array(arrays[field], value[0] if field == "bits" else value))
    a = op.activation
    levels = a.levels if a is not None and a.kind != "sign" else 0
    step = 0.0 if a is None or a.step is None else a.step
    zero = 0 if a is None else a.zero
    pairs = (f"{{{first}, {second}}}" for first, second in (op.kernel, op.stride, op.padding, op.dilation))
    sizes = [*op.source, *op.shape, *pairs, op.groups]
    fields = ", ".join([*map(str, sizes), str(levels), _number(step), str(zero), _number(op.low), _number(op.high)])
    constants.append(f"static const layer layer{index} = {{{fields}, {', '.join(arrays.values())}}};\n")
    return f"{op.kind}(&layer{index}, {', '.join(sources)}, {to});"


def _array(name: str, values: NDArray[np.generic]) -> str:
    flat = values.reshape(-1)
    kind, text = ("unsigned char", str) if flat.dtype == np.uint8 else ("float", _number)
    words = [text(value) for value in flat.tolist()]
    rows = [", ".join(words[i : i + 16]) for i in range(0, len(words), 16)]
    return f"static const {kind} {name}[] = {{\n    " + ",\n    ".join(rows) + "};\n"


def _number(value: float) -> str:
    """A float32 as a C constant, exactly."""
    value = float(np.float32(value))
    if math.isinf(value):
        return "-INF" if value < 0 else "INF"
    return f"{value!r}f" if "." in repr(value) or "e" in repr(value) else f"{value!r}.0f"

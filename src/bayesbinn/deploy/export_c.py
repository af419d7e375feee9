"""A packed network as a folder of C99: bits as constants, no heap, no library, the runtime's results bit for bit."""

import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files import write_bytes
from ..runtime.operation import CELLS, LEVELS, Op, Shape
from ..runtime.program import Program
from .about_texts import about_c
from .c_arduino import to_arduino
from .c_plan import Buffer, Plan, Step, plan
from .c_targets import Budget, budget_of
from .export_c_floats import FLOATS, float_call, number

TEMPLATE = Path(__file__).with_name("export_c.c.txt")
FLAGS = "-std=c99 -O2 -Wall -Wextra -ffp-contract=off"
NEEDS = {
    "binary": ("outputs",),
    "real": ("window", "outputs"),
    "copy": ("outputs",),
    "function": ("exp", "apply"),
    "softmax": ("exp", "lanes"),
    "normalize": ("lanes",),
    "recurrent": ("exp", "apply", "levels", "measure", "outputs"),
}
PARTS = {"levels": "into_levels(", "measure": "measure("}  # of the template, and the calls that need them
POOLS = {None: 0, "max_pool": 1, "avg_pool": 2}


def to_c(program: Program, name: str = "net", *, ram: int | None = None, flash: int | None = None,
         target: str = "any") -> dict[str, str]:  # fmt: skip
    """The files {name: text} of a C99 folder with the mode: NAME.h, NAME.c and a Makefile.

    `void NAME_run(const float *x, float *y)` maps one input of the network's shape (C, H, W order, as in torch) to its
    output.  Its memory is one static array, planned here; `c_budget` tells its size.  Compilers other than GCC and
    clang must be told not to contract float operations, or the results may differ in the last bit.

    Args:
        ram: bytes that it may take; what is left of them is used to compute fewer layers twice (None: as few bytes as
            possible).
        flash: bytes of code and constants that it may take.
        target: a row of `c_targets.TARGETS`; it sets the Makefile's flags and says how large the code is.

    Raises:
        ValueError: if `name` is not a C identifier, there is no such target, or the network does not fit.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"name must be a C identifier, got {name!r}")
    program = program.of(0)
    planned = plan(program, ram)
    budget = c_budget(program, ram=ram, target=target)
    for what, need, have in (("ram", budget.ram, ram), ("flash", budget.flash, flash)):
        if have is not None and need > have:
            raise ValueError(f"the network needs {need} bytes of {what}, {have} are allowed: make it smaller")
    inputs, outputs = (math.prod(shape) for shape in (program.input_shape, program.output_shape))
    header = f"""/* Made by bayesbinn from a packed binary network: {budget}. */
#ifndef {name.upper()}_H
#define {name.upper()}_H

enum {{ {name.upper()}_INPUTS = {inputs}, {name.upper()}_OUTPUTS = {outputs} }};

#ifdef __cplusplus
extern "C" {{
#endif

{about_c(program, name.upper())}
void {name}_run(const float *x, float *y);

#ifdef __cplusplus
}}
#endif

#endif
"""
    constants, calls, used = _body(program, planned)
    memory = (
        f"static union {{\n    float alignment;\n    unsigned char bytes[{planned.ram}];\n}} memory;\n\n"
        if planned.ram
        else ""
    )
    measured = sorted({step.to.value for step in planned.steps if step.to.activation is not None})
    scales = "".join(f"    scale scale{value};\n" for value in measured)
    reads = any(buffer.value == 0 for step in planned.steps for buffer in step.sources)
    unread = "" if reads else "    (void)x;\n"
    source = (
        f'#include "{name}.h"\n\n{_template(used)}\n{"".join(constants)}\n{memory}'
        f"void {name}_run(const float *x, float *y) {{\n    sink out;\n{scales}{unread}{''.join(calls)}}}\n"
    )
    flags = " ".join([FLAGS, *budget.flags])
    compiler = "" if target == "any" else f"CC = {budget.compiler}\n"
    makefile = f"{compiler}{name}.o: {name}.c {name}.h\n\t$(CC) {flags} -c {name}.c -o {name}.o\n"
    return {f"{name}.h": header, f"{name}.c": source, "Makefile": makefile}


def save_c(program: Program, folder: str | Path, name: str = "net", *, ram: int | None = None, flash: int | None = None,
           target: str = "any", arduino: bool = False) -> list[Path]:  # fmt: skip
    """Write the files of `to_c`, or of an Arduino library with them, into `folder`; returns their paths."""
    files = to_c(program, name, ram=ram, flash=flash, target=target)
    if arduino:
        files = to_arduino(files, name)
    paths = []
    for file, text in files.items():
        path = Path(folder) / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode())
        paths.append(path)
    return paths


def c_budget(program: Program, *, ram: int | None = None, target: str = "any") -> Budget:
    """Bytes of memory, constants and code that the C folder takes; arguments as in `to_c`."""
    program = program.of(0)
    planned = plan(program, ram)
    constants, calls, used = _body(program, planned)
    tables = sum(4 * (line.count(",") + 1) for line in constants if line.startswith("static const int"))
    arrays: dict[int, int] = {}
    layers = 0
    for step in planned.steps:
        layers += step.op is not None and step.op.kind in ("binary", "real", "max_pool", "avg_pool", "recurrent")
        op = step.op
        if op is not None and op.bits is not None:
            arrays[op.bits.ctypes.data] = tap_bits(op.product if op.kind == "recurrent" else op).nbytes
        for array in () if op is None else (op.scale, op.shift, op.weight, op.value):
            if array is not None:
                arrays[array.ctypes.data] = array.nbytes
    states = sum(4 * state_floats(op) for op in program.ops if op.kind == "recurrent")
    return budget_of(target, planned.ram + states, sum(arrays.values()) + tables, layers, used, calls)


def _body(program: Program, planned: Plan) -> tuple[list[str], list[str], set[str]]:
    """The constants, the lines of the function, and the parts of the template that they need."""
    constants: list[str] = []
    names: dict[int, str] = {}  # of arrays that are written already, by address: a layer may be used twice
    lines: list[str] = []
    used: set[str] = set()
    shapes = [program.input, *(op.shape for op in program.ops)]
    for place, step in enumerate(planned.steps):
        function, call = _call(place, step, planned, shapes, constants, names)
        used |= {function, *NEEDS.get(function, ())}
        if step.op is not None and step.op.kind == "recurrent":
            used |= {step.op.product.kind, *NEEDS[step.op.product.kind]}
        written = _lines(step, call, _address(planned, step.to))
        used |= {part for part, name in PARTS.items() if any(name in line for line in written)}
        lines += written
    return constants, [f"    {line}\n" for line in lines], used


def _lines(step: Step, call: str, to: str) -> list[str]:
    a = step.to.activation
    if a is None:
        return [f"into(&out, FLOATS, {to});", call]
    scale = f"scale{step.to.value}"
    if a.kind == "sign":
        return [f"{scale}.step = 1, {scale}.zero = 0;", f"into(&out, SIGNS, {to});", call]
    lines = []
    if step.twice:
        lines += ["into(&out, RANGE, 0);", call, f"measure(&{scale}, &out, {LEVELS[a.kind]});"]
    else:
        assert a.step is not None
        lines.append(f"{scale}.step = {number(a.step)}, {scale}.zero = {a.zero};")
    return [*lines, f"into_levels(&out, {to}, &{scale}, {LEVELS[a.kind]});", call]


def _address(planned: Plan, buffer: Buffer) -> str:
    offset = planned.offsets.get(buffer)
    if offset is not None:
        return f"memory.bytes + {offset}"
    return "(void *)x" if buffer.value == 0 else "y"


def _call(
    place: int, step: Step, planned: Plan, shapes: list[Shape], constants: list[str], names: dict[int, str]
) -> tuple[str, str]:
    """The function of the template, and the call of it."""
    op, size = step.op, (step.sources or (step.to,))[0].size
    floats = [f"(const float *)({_address(planned, b)})" if b in planned.offsets else "x" for b in step.sources]
    if op is None or op.kind == "flatten":
        return "pass", f"pass({floats[0]}, {size}, &out);"
    limits = f"{number(op.low)}, {number(op.high)}"
    if op.kind == "recurrent":
        return _recurrent(op, floats[0], place, constants, names)
    if (op.kind in FLOATS and op.kind != "add") or (op.kind == "add" and shapes[op.inputs[1]] != op.source):
        arrays = {field: _constant(op, field, constants, names) for field in ("scale", "shift", "value")}
        function, arguments = float_call(op, shapes, arrays, place, constants)
        return function, f"{function}({', '.join([*floats, *arguments])}, &out);"
    if op.kind == "add":
        return "add", f"add({floats[0]}, {floats[1]}, {size}, {limits}, &out);"
    if op.kind == "clamp":
        return "clamp", f"clamp({floats[0]}, {size}, {limits}, &out);"
    if op.kind == "sign":
        return "sign", f"sign({floats[0]}, {size}, &out);"
    arrays = {field: _constant(op, field, constants, names) for field in ("scale", "shift", "weight", "bits")}
    if op.kind == "affine":
        plane = op.shape[1] * op.shape[2]
        return "affine", f"affine({floats[0]}, {plane}, {size}, {arrays['scale']}, {arrays['shift']}, {limits}, &out);"
    function = op.kind if op.kind in ("binary", "real") else "copy"
    wide = step.sources[0].activation is not None and step.sources[0].activation.kind == "int16"
    constants.append(_layer(f"layer{place}", step.pool, op, arrays, wide))
    source = _address(planned, step.sources[0]) if step.sources[0] in planned.offsets else "x"
    scale = f"&scale{step.sources[0].value}" if step.sources[0].activation is not None else "0"
    return function, f"outputs(&layer{place}, {function}, {source}, {scale}, &out);"


def _recurrent(op: Op, x: str, place: int, constants: list[str], names: dict[int, str]) -> tuple[str, str]:
    a, product = op.activation, op.product
    arrays = {field: _constant(product, field, constants, names) for field in ("scale", "shift", "weight", "bits")}
    constants.append(_layer(f"layer{place}", None, product, arrays, a is not None and a.kind == "int16"))
    top, fixed = 0 if a is None else a.levels, "0"
    if a is not None and a.step is not None:
        fixed = f"&step{place}"
        constants.append(f"static const scale step{place} = {{{number(a.step)}, {a.zero}}};\n")
    size = state_floats(op)
    constants.append(f"static float state{place}[{size}];\n")
    cell, steps = list(CELLS).index(op.function), op.shape[2]
    settings = f"{cell}, {int(op.reverse)}, {steps}, {top}, {fixed}, state{place}"
    return "recurrent", f"recurrent({x}, &layer{place}, {product.kind}, {settings}, &out);"


def state_floats(op: Op) -> int:
    """Numbers that a recurrent layer keeps: its state and memory, its gates, and the levels of its state."""
    return 2 * op.shape[0] + op.source[0] + (op.shape[0] + 1) // 2


def _layer(name: str, pool: Op | None, op: Op, arrays: dict[str, str], wide: bool) -> str:
    if op.kind in ("max_pool", "avg_pool"):
        pool, op = op, _nothing(op)
    pooled = op if pool is None else pool
    pairs = [op.kernel, op.stride, op.padding, op.dilation]
    fields: list[str] = [*map(str, (*op.source, *op.shape)), *(f"{{{a}, {b}}}" for a, b in pairs), str(op.groups)]
    window = [(1, 1), (1, 1), (0, 0)] if pool is None else [pool.kernel, pool.stride, pool.padding]
    fields += [*(f"{{{a}, {b}}}" for a, b in window), str(POOLS[None if pool is None else pool.kind])]
    fields += [str(pooled.shape[1]), str(pooled.shape[2]), str(int(wide)), number(op.low), number(op.high)]
    share = 1 if pool is None else 1 / math.prod(pool.kernel)
    fields += [number(pooled.low), number(pooled.high), number(share), *arrays.values()]
    return f"static const layer {name} = {{{', '.join(fields)}}};\n"


def _nothing(pool: Op) -> Op:
    """The operation before a pool that stands alone: it hands each value on."""
    return Op("copy", pool.name, pool.inputs, pool.source, pool.source, pool.rank)


def _constant(op: Op, field: str, constants: list[str], names: dict[int, str]) -> str:
    value: NDArray[np.generic] | None = getattr(op, field)
    if value is None:
        return "0"
    if value.ctypes.data not in names:
        names[value.ctypes.data] = f"{field}_{len(names)}"
        constants.append(_array(names[value.ctypes.data], tap_bits(op) if field == "bits" else value))
    return names[value.ctypes.data]


def tap_bits(op: Op) -> NDArray[np.uint8]:
    """The mode's bits with the channels of a tap side by side, (O, kH, kW, bytes): eight of them cost one load."""
    assert op.bits is not None
    bits = np.unpackbits(op.bits[0], count=op.num_weights, bitorder="little").reshape(op.weight_shape)
    return np.packbits(bits.transpose(0, 2, 3, 1), axis=-1, bitorder="little")


def _template(used: set[str]) -> str:
    """The parts of the template in `used`, and what comes before the first."""
    first, *rest = re.split(r"/\* ---- @(\w+) ---- \*/\n", TEMPLATE.read_text(encoding="utf-8"))
    parts = zip(rest[::2], rest[1::2], strict=True)
    return first + "".join(text for part, text in parts if part in used)


def _array(name: str, values: NDArray[np.generic]) -> str:
    flat = values.reshape(-1)
    kind, text = ("unsigned char", str) if flat.dtype == np.uint8 else ("float", number)
    words = [text(value) for value in flat.tolist()]
    rows = [", ".join(words[i : i + 16]) for i in range(0, len(words), 16)]
    return f"static const {kind} {name}[] = {{\n    " + ",\n    ".join(rows) + "};\n"

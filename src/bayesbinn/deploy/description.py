"""What a `.bbnn` file holds: shapes, bits, bytes and multiply-accumulates per operation; they add up to its size."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..runtime.operation import Op
from ..runtime.program import Program, user_shape


@dataclass(frozen=True)
class Row:
    """One line of a description.

    Attributes:
        name: of the layer, or "header" or "total".
        kind: of the operation, with the activation type it reads.
        shape: of its output, without the batch.
        num_weights: binary or real weights of one network.
        num_bytes: in the file, for all networks.
        num_macs: multiply-accumulates for one input and one network.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    num_weights: int
    num_bytes: int
    num_macs: int


@dataclass(frozen=True)
class Description:
    """`rows` (operations, then "header"), and their `total`, whose bytes are the file's size; `str()` is a table."""

    rows: list[Row]
    total: Row
    num_samples: int
    float_bytes: int

    def __str__(self) -> str:
        cells: list[tuple[str, ...]] = [("layer", "operation", "output", "weights", "bytes", "MACs")]
        for row in [*self.rows, self.total]:
            numbers = (f"{n:,}" if n else "-" for n in (row.num_weights, row.num_bytes, row.num_macs))
            cells.append((row.name, row.kind, "×".join(map(str, row.shape)), *numbers))
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
            for line in cells
        ]
        ratio = self.float_bytes / self.total.num_bytes
        networks = "the mode" + (f" and {self.num_samples} samples" if self.num_samples else "")
        lines.append(f"{networks}; as float32 the mode alone takes {self.float_bytes:,} bytes ({ratio:.1f}×)")
        return "\n".join(line.rstrip() for line in lines)


def describe(program: Program) -> Description:
    """Describe a program from `load_program`.

    >>> from bayesbinn.nn import BinaryLinear
    >>> from bayesbinn.deploy import load_program, pack
    >>> description = describe(load_program(pack(BinaryLinear(64, 8), input_shape=(64,))))
    >>> description.rows[0].num_weights, description.total.num_macs
    (512, 512)
    """
    rows, counted, real = [], set[int](), 0
    for op in program.ops:
        kind = op.kind if op.activation is None else f"binary × {op.activation.kind}"
        new = _new(op, counted)  # a layer that is called twice has its weights once, and its work twice
        weights = op.num_weights if any(t is op.bits or t is op.weight for t in new) else 0
        networks = 1 + program.num_samples if op.own else 1  # that have rows of their own; the mode is one of them
        real += sum(t.nbytes // networks for t in new if t is op.scale or t is op.shift)
        num_bytes = sum(t.nbytes for t in new)
        rows.append(Row(op.name, kind, user_shape(op.shape, op.rank), weights, num_bytes, op.num_macs))
    rest = program.num_bytes - sum(row.num_bytes for row in rows)
    rows.append(Row("header", "plan and index", (), 0, rest, 0))
    total = Row(
        "total",
        "",
        program.output_shape,
        sum(row.num_weights for row in rows),
        program.num_bytes,
        sum(row.num_macs for row in rows),
    )
    return Description(rows, total, program.num_samples, 4 * total.num_weights + real)


def _new(op: Op, counted: set[int]) -> list[np.ndarray[Any, Any]]:
    """The tensors of `op` that no earlier operation shares; they are `counted` now."""
    found = [t for t in (op.bits, op.weight, op.scale, op.shift) if t is not None and t.ctypes.data not in counted]
    counted.update(t.ctypes.data for t in found)
    return found

"""Random plans of the operations on float values, written as a file has them."""

import math
import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bayesbinn.runtime.operation import CELLS, FUNCTIONS, WITH_PARAMETER
from bayesbinn.runtime.reader import SINCE_2

KINDS = (*SINCE_2, "add", "affine")
MOST = 5_000  # numbers in a value

Plan = tuple[dict[str, Any], dict[str, NDArray[Any]]]


def random_plan(seed: int) -> Plan:
    """A plan of up to 12 operations, and its tensors."""
    rs, tensors = random.Random(seed), {}
    numbers = np.random.default_rng(seed)

    def tensor(*shape: int) -> str:
        tensors[f"t{len(tensors)}"] = numbers.normal(size=shape).astype(np.float32)
        return f"t{len(tensors) - 1}"

    def bits(count: int) -> str:
        packed = np.packbits(numbers.integers(0, 2, count).astype(np.uint8), bitorder="little")
        tensors[f"t{len(tensors)}"] = packed[None]
        return f"t{len(tensors) - 1}"

    values: list[tuple[int, ...]] = [tuple(rs.randint(1, 20) for _ in range(rs.randint(1, 3)))]
    ops: list[dict[str, Any]] = []
    while not ops or len(ops) < rs.randint(1, 12):
        place = rs.randrange(len(values))
        made = _operation(rs, rs.choice(KINDS), place, values, tensor, bits)
        if made is not None and math.prod(made[1]) <= MOST:
            ops.append(made[0])
            values.append(made[1])
    used = {value for op in ops for value in op.values() if isinstance(value, str)}
    plan = {"version": 2, "producer": "test", "input": list(values[0]), "num_samples": 0, "ops": ops}
    return plan, {name: value for name, value in tensors.items() if name in used}


def with_samples(plan: Plan, count: int, seed: int) -> Plan:
    """The plan with `count` networks beside the mode, which have bits of their own, and some real numbers too."""
    rs, numbers = random.Random(seed), np.random.default_rng(seed)
    entries, tensors = plan[0]["ops"], dict(plan[1])
    ops = []
    for entry in entries:
        reals = [entry[name] for name in ("scale", "shift", "weight", "value") if name in entry]
        own = bool(reals) and rs.random() < 0.7
        for name in reals if own else ():
            more = numbers.normal(size=(count, *tensors[name].shape)).astype(np.float32)
            tensors[name] = np.concatenate([tensors[name][None], more])
        if "bits" in entry:
            bits = tensors[entry["bits"]]
            tensors[entry["bits"]] = np.concatenate([bits, *(bits ^ (bits * rs.randint(0, 1)) for _ in range(count))])
        ops.append(entry | ({"own": True} if own else {}))
    return {**plan[0], "version": 3, "num_samples": count, "ops": ops}, tensors


def _operation(
    rs: random.Random, kind: str, place: int, values: list[tuple[int, ...]], tensor: Any, bits: Any
) -> tuple[dict[str, Any], tuple[int, ...]] | None:
    """The entry and the shape of its output, or None where there is none of this kind."""
    shape = values[place]
    entry: dict[str, Any] = {"op": kind, "inputs": [place]}
    match kind:
        case "function":
            entry["function"] = rs.choice(FUNCTIONS)
            if entry["function"] in WITH_PARAMETER:
                entry["parameter"] = 0.3
        case "normalize" | "affine":
            entry |= {"scale": tensor(shape[0]), "shift": tensor(shape[0])}
            if kind == "normalize":
                groups = rs.choice([n for n in range(1, shape[0] + 1) if shape[0] % n == 0])
                entry |= {"groups": groups, "eps": 1e-5, "center": rs.random() < 0.5, "whole": rs.random() < 0.5}
        case "matmul":
            fits = [
                (other, transposed)
                for other, y in enumerate(values)
                for transposed in (True, False)
                if len(y) == len(shape) > 1 and y[1:-1] == shape[1:-1] and (y[0] if transposed else y[-1]) == shape[0]
            ]
            if not fits:
                return None
            other, transposed = rs.choice(fits)
            entry |= {"inputs": [place, other], "transposed": transposed}
            return entry, (values[other][-1 if transposed else 0], *shape[1:])
        case "binary_recurrent" | "real_recurrent":
            cells = [cell for cell, gates in CELLS.items() if len(shape) == 2 and shape[0] % gates == 0]
            if not cells:
                return None
            entry |= {"cell": rs.choice(cells), "reverse": rs.random() < 0.5}
            size = shape[0] // CELLS[entry["cell"]]
            entry |= {"scale": tensor(shape[0]), "shift": tensor(shape[0])}
            if kind == "real_recurrent":
                return entry | {"weight": tensor(shape[0], size)}, (size, shape[1])
            entry |= {
                "bits": bits(shape[0] * size),
                "activation": {"type": rs.choice(["int6", "int8", "int16", "sign"])},
            }
            return entry, (size, shape[1])
        case "concat":
            fits = [
                (other, axis)
                for other, y in enumerate(values)
                for axis in range(len(shape))
                if len(y) == len(shape) and y[:axis] == shape[:axis] and y[axis + 1 :] == shape[axis + 1 :]
            ]
            other, axis = rs.choice(fits)
            entry |= {"inputs": [place, other], "axis": axis}
            return entry, tuple(n + (i == axis) * values[other][i] for i, n in enumerate(shape))
        case "view":
            sizes = [rs.randint(1, 4) for _ in range(rs.randint(1, 4))]
            strides = [rs.randint(-3, 5) for _ in sizes]
            reach = [(n - 1) * s for n, s in zip(sizes, strides, strict=True)]
            low, high = (sum(f(0, r) for r in reach) for f in (min, max))
            if high - low >= math.prod(shape):
                return None
            total = math.prod(sizes)
            first = rs.choice([n for n in range(1, total + 1) if total % n == 0])
            rest = total // first
            made = rs.choice([(total,), (first, rest), (first, 1, rest), (1, first, rest)])
            offset = rs.randint(-low, math.prod(shape) - 1 - high)
            return entry | {"shape": list(made), "sizes": sizes, "strides": strides, "offset": offset}, made
        case "constant":
            made = tuple(rs.choice([1, n]) for n in shape)
            return {"op": kind, "inputs": [], "value": tensor(*made)}, made
        case "add" | "multiply":
            fits = [
                other
                for other, y in enumerate(values)
                if len(y) == len(shape) and all(n in (1, m) for n, m in zip(y, shape, strict=True))
            ]
            entry["inputs"] = [place, rs.choice(fits)]
            if rs.random() < 0.5:
                entry["clamp"] = [-1.0, None]
    return entry, shape

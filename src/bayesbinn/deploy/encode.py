"""Captured steps, and the bits of every network, as the bytes of a `.bbnn` file."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__
from ..runtime import container
from ..runtime.about import About
from ..runtime.operation import LEVELS, MIN_STEP
from ..runtime.reader import SINCE_2
from .capture import Capture
from .steps import joint_shape

Limits = tuple[float, float]


def encode(
    captured: Capture,
    bits: dict[str, NDArray[np.uint8]],
    num_samples: int,
    activations: str | Mapping[int, str],
    about: About,
    limits: Mapping[int, Limits],
) -> bytes:
    """The bytes of a file with the captured steps, the bits of their layers, and `about`.

    Args:
        activations: of all layers, or by place of a step.
        limits: by place of a step, the range that its quantised input has, which contains 0; steps that are not in it
            measure each input as it passes.

    Raises:
        ValueError: for numbers that a file cannot hold.
    """
    ops: list[dict[str, Any]] = []
    tensors: dict[str, NDArray[Any]] = {}
    signs: set[int] = set()  # values that are ±1
    for index, step in enumerate(captured.steps):
        entry = {**step.entry, "inputs": step.inputs}
        name = step.entry.get("name", "") or f"op{index}"
        if step.kind == "sign" or (step.kind in ("flatten", "view", "max_pool") and step.inputs[0] in signs):
            signs.add(index + 1)
        if step.layer is not None:
            entry["bits"] = _store(tensors, f"{name}.bits", bits[step.layer])
            is_sign = step.inputs[0] in signs
            kind = activations if isinstance(activations, str) else activations[index]
            entry["activation"] = {"type": "sign"} if is_sign else _activation(kind, limits.get(index))
        if step.value is not None:
            unique = name if f"{name}.value" not in tensors else f"{name}@{index}"  # several constants of one function
            entry["value"] = _store(tensors, f"{unique}.value", step.value)
        if step.weight is not None:
            entry["weight"] = _store(tensors, f"{name}.weight", step.weight)
        if step.scale is not None and step.shift is not None:
            unique = name if f"{name}.scale" not in tensors else f"{name}@{index}"  # a module called twice
            entry["scale"] = _store(tensors, f"{unique}.scale", step.scale)
            entry["shift"] = _store(tensors, f"{unique}.shift", step.shift)
        ops.append(entry | ({"own": True} if step.own else {}))
    plan = {
        "version": max(_version(op) for op in ops),
        "producer": f"bayesbinn {__version__}",
        "input": list(joint_shape(captured.input_shapes)),
        **({"inputs": [list(s) for s in captured.input_shapes]} if len(captured.input_shapes) > 1 else {}),
        **({"outputs": [list(s) for s in captured.output_shapes]} if len(captured.output_shapes) > 1 else {}),
        "num_samples": num_samples,
        "ops": ops,
        **({} if about == About() else {"about": about.as_json()}),
    }
    return container.write(plan, tensors)


def _version(op: dict[str, Any]) -> int:
    """The oldest version of the format that has an operation."""
    if "own" in op:
        return 3
    return 2 if op["op"] in SINCE_2 or op.get("activation", {}).get("type") == "int6" else 1


def _store(tensors: dict[str, NDArray[Any]], name: str, values: Tensor | NDArray[np.uint8]) -> str:
    array = values.detach().cpu().to(torch.float32).numpy() if isinstance(values, Tensor) else values
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or inf (or numbers beyond float32): the network cannot be packed")
    tensors[name] = array
    return name


def _activation(kind: str, limits: Limits | None) -> dict[str, Any]:
    """The JSON of an activation type, with the fixed step and zero that cover `limits` (they contain 0)."""
    if limits is None:
        return {"type": kind}
    low, high = limits
    if not math.isfinite(high - low):
        raise ValueError(f"the calibration data reach {low} to {high}: the network cannot be packed")
    top = LEVELS[kind]
    step = float(np.float32(max((high - low) / (2 * top), MIN_STEP * 1.001)))
    return {"type": kind, "step": step, "zero": round(min(max(-low / step, 0), 2 * top)) - top}

"""Captured steps, and the bits of every network, as the bytes of a `.bbnn` file."""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import __version__
from ..runtime import container
from ..runtime.about import About
from ..runtime.program import LEVELS, MIN_STEP
from .capture import Capture
from .networks import LayerBits


def encode(captured: Capture, layers: dict[str, LayerBits], num_samples: int, activations: str, about: About) -> bytes:
    """The bytes of a file with the captured steps, with the bits and activation ranges of `layers`, and `about`.

    Raises:
        ValueError: for numbers that a file cannot hold.
    """
    ops: list[dict[str, Any]] = []
    tensors: dict[str, NDArray[Any]] = {}
    signs: set[int] = set()  # values that are ±1
    for index, step in enumerate(captured.steps):
        entry = {**step.entry, "inputs": step.inputs}
        name = step.entry.get("name", "") or f"op{index}"
        if step.kind == "sign" or (step.kind in ("flatten", "max_pool") and step.inputs[0] in signs):
            signs.add(index + 1)
        if step.layer is not None:
            layer = layers[step.layer]
            entry["bits"] = _store(tensors, f"{name}.bits", layer.bits)
            is_sign = step.inputs[0] in signs
            entry["activation"] = {"type": "sign"} if is_sign else _activation(activations, layer.limits)
        if step.weight is not None:
            entry["weight"] = _store(tensors, f"{name}.weight", step.weight)
        if step.scale is not None and step.shift is not None:
            unique = name if f"{name}.scale" not in tensors else f"{name}@{index}"  # a module called twice
            entry["scale"] = _store(tensors, f"{unique}.scale", step.scale)
            entry["shift"] = _store(tensors, f"{unique}.shift", step.shift)
        ops.append(entry)
    plan = {
        "version": container.FORMAT_VERSION,
        "producer": f"bayesbinn {__version__}",
        "input": list(captured.input_shape),
        "num_samples": num_samples,
        "ops": ops,
        **({} if about == About() else {"about": about.as_json()}),
    }
    return container.write(plan, tensors)


def _store(tensors: dict[str, NDArray[Any]], name: str, values: Tensor | NDArray[np.uint8]) -> str:
    array = values.detach().cpu().to(torch.float32).numpy() if isinstance(values, Tensor) else values
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or inf (or numbers beyond float32): the network cannot be packed")
    tensors[name] = array
    return name


def _activation(kind: str, limits: tuple[float, float] | None) -> dict[str, Any]:
    """The JSON of an activation type, with the fixed step and zero that cover `limits` (they contain 0)."""
    if limits is None:
        return {"type": kind}
    low, high = limits
    if not math.isfinite(high - low):
        raise ValueError(f"the calibration data reach {low} to {high}: the network cannot be packed")
    top = LEVELS[kind]
    step = float(np.float32(max((high - low) / (2 * top), MIN_STEP * 1.001)))
    return {"type": kind, "step": step, "zero": round(min(max(-low / step, 0), 2 * top)) - top}

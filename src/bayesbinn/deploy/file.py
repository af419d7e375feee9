"""Write a trained network as a `.bbnn` file, and read one back as a program."""

import contextlib
import math
import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..nn import BinaryLayer, binary_layers
from ..nn.batch_norm import statistics_of
from ..nn.draws import draw, generator_for, has_posterior
from ..nn.inputs import evaluating
from ..posterior import sampled_weights
from ..runtime import container
from ..runtime.program import LEVELS, MAX_SAMPLES, MIN_STEP, Program, check
from .handlers import MODULES
from .pack import pack_signs
from .plan import Capture, capture

Activations = Literal["int8", "int16"]


def save(
    net: nn.Module,
    path: str | Path,
    *,
    num_samples: int = 0,
    seed: int = 0,
    activations: Activations = "int8",
    calibration: Tensor | None = None,
    input_shape: Sequence[int] | None = None,
) -> Program:
    """Write `net` to `path` as true bits: the mode, and `num_samples` networks drawn from the posterior.

    The samples are those of `predict(net, x, num_samples, seed=seed)`, in the same order.  Batch norm, biases and
    scales are folded into one scale and shift per channel.  The file appears under its name only when it is complete.

    Args:
        net: a network with binary layers; see docs/deploy.md for what it may consist of.
        path: of the file, by custom ending in `.bbnn`.
        num_samples: S ≥ 0; each adds one bit per binary weight.
        seed: of the draws.
        activations: "int8", or "int16" for twice the time and 256 times the resolution; layers that follow a sign
            read 1 bit either way.
        calibration: (B, ...) typical inputs, from which one fixed range per layer is taken; None: each input's own
            range is measured as it passes, which is often more precise and needs no data.
        input_shape: without the batch; needed without calibration, unless the network starts with a linear layer.

    Returns:
        The program that the file holds.

    Raises:
        UnsupportedError: listing everything in the network that the format cannot hold.
        ValueError: for settings out of range, or values that are not finite.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU())
    >>> from bayesbinn.nn import binarize_
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(binarize_(net), Path(folder) / "net.bbnn", num_samples=2).num_samples
    2
    """
    raw = pack(
        net,
        num_samples=num_samples,
        seed=seed,
        activations=activations,
        calibration=calibration,
        input_shape=input_shape,
    )
    program = check(container.read(raw))
    write_atomically(Path(path), raw)
    return program


@torch.no_grad()
def pack(
    net: nn.Module,
    *,
    num_samples: int = 0,
    seed: int = 0,
    activations: Activations = "int8",
    calibration: Tensor | None = None,
    input_shape: Sequence[int] | None = None,
) -> bytes:
    """The bytes of the file that `save` writes; arguments as there."""
    if activations not in LEVELS:
        raise ValueError(f"activations must be {' or '.join(LEVELS)}, got {activations!r}")
    if not 0 <= num_samples <= MAX_SAMPLES:
        raise ValueError(f"num_samples must be 0 to {MAX_SAMPLES}, got {num_samples}")
    if not any(binary_layers(net)):
        raise ValueError(f"{type(net).__name__} has no binary layer: make it binary with binarize_(net)")
    if num_samples and not has_posterior(net):
        raise ValueError(f"num_samples is {num_samples}, but this network has no posterior to draw from: use 0")
    if calibration is not None and (len(calibration) == 0 or not bool(torch.isfinite(calibration).all())):
        raise ValueError("calibration must hold at least one input, and neither NaN nor inf")
    if calibration is not None and input_shape is None:
        input_shape = tuple(calibration.shape[1:])
    if type(net) in MODULES:
        net = nn.Sequential(net)  # a bare layer: tracing needs something that holds it
    # all networks of a file share batch norm: with samples, that of the draws
    with evaluating(net), statistics_of(net, "draws" if num_samples else "mode"):
        captured = capture(net, input_shape)
        networks = _networks(net, num_samples, seed)
        ranges = {} if calibration is None else _ranges(net, calibration, networks)
    plan, tensors = _encode(captured, net, networks, activations, ranges)
    return container.write(plan, tensors)


def load_program(source: str | Path | bytes) -> Program:
    """The checked program in a `.bbnn` file (or its bytes); raises `FormatError` as `runtime.load` does."""
    return check(container.read(source))


def write_atomically(path: Path, raw: bytes) -> None:
    """Write `raw` to a temporary file beside `path`, flush it to disk and rename it: all of it, or nothing."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(name).chmod(0o666 & ~mask)  # mkstemp's own mode is 0600
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _networks(net: nn.Module, num_samples: int, seed: int) -> list[dict[int, Tensor]]:
    """±1 weights by id of the layer: the mode first, then the samples, as `predict` draws them."""
    layers = dict(binary_layers(net))
    networks = [{id(layer): layer.weight for layer in layers.values()}]
    generator = generator_for(net, seed) if num_samples else None
    for _ in range(num_samples):
        networks.append({id(layers[name]): weight for name, weight in draw(net, generator).items()})
    return networks


def _ranges(
    net: nn.Module, calibration: Tensor, networks: list[dict[int, Tensor]], batch_size: int = 256
) -> dict[int, tuple[float, float]]:
    """Smallest and largest input of each binary layer (by id), over the calibration data and all networks."""
    ranges: dict[int, tuple[float, float]] = {}

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        low, high = ranges.get(id(layer), (0.0, 0.0))
        ranges[id(layer)] = min(low, float(inputs[0].min())), max(high, float(inputs[0].max()))

    layers = dict(binary_layers(net))
    device = next(net.parameters()).device
    hooks = [layer.register_forward_pre_hook(look) for layer in layers.values()]
    try:
        for index, network in enumerate(networks):
            weights = {name: network[id(layer)] for name, layer in layers.items()}
            # the mode is what the network computes by itself: fixed as a draw, it would get the draws' batch norm
            with sampled_weights(net, weights=weights) if index else nullcontext():
                for start in range(0, len(calibration), batch_size):
                    net(calibration[start : start + batch_size].to(device))
    finally:
        for hook in hooks:
            hook.remove()
    return ranges


def _encode(
    captured: Capture,
    net: nn.Module,
    networks: list[dict[int, Tensor]],
    activations: str,
    ranges: dict[int, tuple[float, float]],
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """The plan and the tensors of the file."""
    from .. import __version__

    ops: list[dict[str, Any]] = []
    tensors: dict[str, NDArray[Any]] = {}
    signs: set[int] = set()  # values that are ±1
    for index, step in enumerate(captured.steps):
        entry = {**step.entry, "inputs": step.inputs}
        name = step.entry.get("name", "") or f"op{index}"
        if step.kind == "sign" or (step.kind in ("flatten", "max_pool") and step.inputs[0] in signs):
            signs.add(index + 1)
        if step.layer is not None:
            layer = net.get_submodule(step.layer)
            assert isinstance(layer, BinaryLayer)
            entry["bits"] = f"{name}.bits"
            tensors[entry["bits"]] = np.stack([pack_signs(network[id(layer)]) for network in networks])
            entry["activation"] = (
                {"type": "sign"} if step.inputs[0] in signs else _activation(activations, ranges.get(id(layer)))
            )
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
        "num_samples": len(networks) - 1,
        "ops": ops,
    }
    return plan, tensors


def _store(tensors: dict[str, NDArray[Any]], name: str, values: Tensor) -> str:
    array = values.detach().cpu().to(torch.float32).numpy()
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

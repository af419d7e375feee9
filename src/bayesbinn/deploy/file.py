"""Write a trained network as a `.bbnn` file, and read one back as a program."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ..files import write_bytes
from ..nn.inputs import warn_without_standardising
from ..runtime import container
from ..runtime.about import About
from ..runtime.engine import whole
from ..runtime.program import MAX_SAMPLES, Program, check
from .calibration import input_limits
from .capture import guess_input_shape
from .encode import encode
from .handlers import MODULES
from .mixing import LADDER, mix
from .networks import Networks
from .nodes import plain_type
from .verify import verify

CHECKED = 8  # inputs on which every network in a file is compared with its program

Activations = Literal["int6", "int8", "int16", "auto"]
MAX_LOSS = 1e-3


def save(
    net: nn.Module,
    path: str | Path,
    *,
    num_samples: int = 0,
    seed: int = 0,
    activations: Activations = "int8",
    max_loss: float | None = None,
    calibration: Tensor | Sequence[Tensor] | None = None,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    about: About | None = None,
) -> Program:
    """Write `net` to `path` as true bits: the mode, and `num_samples` networks drawn from the posterior.

    The samples are those of `predict(net, x, num_samples, seed=seed)`, in the same order.  Batch norm, biases and
    scales are folded into one scale and shift per channel.  The file appears under its name only when it is complete,
    and each of its networks agrees with `net`, layer by layer, on up to 8 of the calibration inputs (or on made ones).

    Args:
        net: a network with binary layers; see docs/deploy.md for what it may consist of.
        path: of the file, by custom ending in `.bbnn`.
        num_samples: S ≥ 0; each adds one bit per binary weight, and 8 bytes per channel where it has batch-norm
            statistics of its own.
        seed: of the draws.
        activations: "int8"; "int6", 63 levels, for about three fifths of the time; "int16" for twice the time and 256
            times the resolution; "auto": for each layer the first of int6, int8 and int16 such that the mode stays
            within `max_loss` on the calibration data.  Layers that follow a sign read 1 bit in any case.
        max_loss: of "auto": mean KL divergence from the network's own probabilities in nats (1e-3 if None), or, where
            the output is no logits, the squared error as a share of its variance.
        calibration: (B, ...) typical inputs, from which one fixed range per layer is taken; None: each input's own
            range is measured as it passes, which is often more precise and needs no data.  For a network of several
            inputs a tuple, (x, y).
        input_shape: without the batch, as in calibration; needed without it, unless the network starts with a linear
            layer.  For several inputs the shape of each.
        about: what the network is for (`runtime.About`), kept in the file.

    Returns:
        The program that the file holds.

    Raises:
        UnsupportedError: listing everything in the network that the format cannot hold, or naming the first layer
            whose packed result is not the network's.
        ValueError: for settings out of range, or values that are not finite.

    >>> import tempfile
    >>> from bayesbinn.nn import binarize_
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(binarize_(net), Path(folder) / "net.bbnn", num_samples=2).num_samples
    2
    """
    raw = pack(
        net,
        num_samples=num_samples,
        seed=seed,
        activations=activations,
        max_loss=max_loss,
        calibration=calibration,
        input_shape=input_shape,
        about=about,
    )
    write_bytes(Path(path), raw)
    return load_program(raw)


def pack(
    net: nn.Module,
    *,
    num_samples: int = 0,
    seed: int = 0,
    activations: Activations = "int8",
    max_loss: float | None = None,
    calibration: Tensor | Sequence[Tensor] | None = None,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    about: About | None = None,
) -> bytes:
    """The bytes of the file that `save` writes; arguments as there."""
    if activations not in get_args(Activations):
        raise ValueError(f"activations must be {', '.join(get_args(Activations))}, got {activations!r}")
    if activations == "auto" and calibration is None:
        raise ValueError('activations="auto" needs calibration=x, a few hundred typical inputs')
    if max_loss is not None and (activations != "auto" or not max_loss > 0):
        raise ValueError(f'max_loss is a positive number, for activations="auto" only, got {max_loss!r}')
    num_samples = whole("num_samples", num_samples, 0, MAX_SAMPLES)
    data, shapes = _joined(calibration)
    given = _shapes(input_shape)
    if data is not None and given is not None and given != shapes:
        raise ValueError(f"input_shape is {_listed(given)}, but inputs of calibration have {_listed(shapes)}")
    net = getattr(net, "_orig_mod", net)  # what torch.compile wraps
    warn_without_standardising(net)
    if plain_type(net) in MODULES:
        net = nn.Sequential(net)  # a bare layer: tracing needs something that holds it
    networks = Networks(net, num_samples, seed, shapes or given or (guess_input_shape(net),))
    x = networks.made_inputs(CHECKED) if data is None else data[:: math.ceil(len(data) / CHECKED)]
    with networks.ready():
        captured = networks.captured()
        bits = networks.bits()
        first = "int8" if activations == "auto" else activations
        raw = encode(captured, bits, num_samples, first, about or About(), {})
        if data is not None:
            made = partial(encode, captured, bits, num_samples, about=about or About())
            kinds = LADDER if activations == "auto" else (first,)
            limits = {kind: input_limits(load_program(raw), captured, networks, data, kind) for kind in kinds}
            raw = made(first, limits=limits[first])
            if activations == "auto":
                wanted = networks.mode_output(data)
                places = [i for i, step in enumerate(captured.steps) if step.layer is not None]
                raw = _mixed(made, limits, places, data, wanted, MAX_LOSS if max_loss is None else max_loss)
        points = {shown.point for of_value in captured.points for shown in of_value}
        verify(load_program(raw), captured, x, networks.records(x, points))
    return raw


def _mixed(
    made: Callable[..., bytes], limits: dict[str, Any], places: list[int], x: Tensor, wanted: Tensor, max_loss: float
) -> bytes:
    def encoded(kinds: Mapping[int, str]) -> bytes:
        return made(kinds, limits={i: limits[kind][i] for i, kind in kinds.items() if i in limits[kind]})

    return encoded(mix(places, encoded, x, wanted, max_loss))


Shapes = tuple[tuple[int, ...], ...]


def _joined(calibration: Tensor | Sequence[Tensor] | None) -> tuple[Tensor | None, Shapes]:
    """Typical inputs, several side by side, and the shape of each."""
    if calibration is None:
        return None, ()
    parts = [calibration] if isinstance(calibration, Tensor) else list(calibration)
    if (
        not parts
        or len({len(x) for x in parts}) != 1
        or not all(len(x) and bool(torch.isfinite(x).all()) for x in parts)
    ):
        raise ValueError("calibration must hold at least one input (as many of each), and neither NaN nor inf")
    shapes = tuple(tuple(x.shape[1:]) for x in parts)
    return (parts[0] if len(parts) == 1 else torch.cat([x.flatten(1) for x in parts], 1)), shapes


def _shapes(given: Sequence[int] | Sequence[Sequence[int]] | None) -> Shapes | None:
    if given is None:
        return None
    several = [s for s in given if not isinstance(s, int)]
    return tuple(tuple(s) for s in several) if several else (tuple(given),)  # type: ignore[arg-type]


def _listed(shapes: Shapes) -> str:
    return " and ".join(map(str, shapes))


def load_program(source: str | Path | bytes) -> Program:
    """The checked program in a `.bbnn` file (or its bytes); raises `FormatError` as `runtime.load` does."""
    return check(container.read(source))

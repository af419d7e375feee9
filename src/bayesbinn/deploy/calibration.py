"""The ranges of what binary layers read, on typical inputs."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..runtime.operation import LEVELS
from ..runtime.program import Program
from . import twin
from .capture import Capture
from .networks import Networks

BATCH_SIZE = 256
SHARES = tuple(n / 20 for n in range(5, 21))  # of the whole range, that are tried where levels are few
FEW_LEVELS, ENOUGH = 64, 1 << 15  # numbers of a batch of which the error is taken
Limits = tuple[float, float]


def input_limits(
    program: Program, captured: Capture, networks: Networks, x: Tensor, kind: str = "int8"
) -> dict[int, Limits]:
    """By place of each operation that quantises: a range for its input, with 0, from x (B, ...) and all networks.

    The input is what the network's own modules read; where no module reads just this, what the float twin of the
    program does.  The range is all that was seen; for a `kind` of few levels it is the share of it whose squared error
    is least, as rare large values would take levels from all others.  The state of a recurrent layer lies within ±1 by
    its tanh; with ReLU it is measured as it passes.
    """
    found = {i: (0.0, 0.0) for i, op in enumerate(program.ops) if op.kind == "binary"}
    for i, read in _reads(program, captured, networks, x, list(found)):
        low, high = found[i]
        found[i] = (min(low, float(read.min())), max(high, float(read.max())))
    if LEVELS[kind] < FEW_LEVELS:
        errors = {i: torch.zeros(len(SHARES), dtype=torch.float64) for i in found}
        for i, read in _reads(program, captured, networks, x, list(found)):
            low, high = found[i]
            read = read.flatten()[:: max(1, read.numel() // ENOUGH)]
            errors[i] += torch.stack([_error(read, share * low, share * high, LEVELS[kind]) for share in SHARES])
        found = {i: tuple(SHARES[int(errors[i].argmin())] * n for n in found[i]) for i in found}  # type: ignore[misc]
    states = [i for i, op in enumerate(program.ops) if op.kind == "recurrent" and op.function != "rnn_relu"]
    return found | dict.fromkeys(states, (-1.0, 1.0))


def _reads(
    program: Program, captured: Capture, networks: Networks, x: Tensor, places: list[int]
) -> Iterator[tuple[int, Tensor]]:
    """What the operations at `places` read, in all networks and batches."""
    shown = {i: {s.point for s in captured.points[program.ops[i].inputs[0]]} for i in places}
    points = set().union(*shown.values())
    for batch in torch.split(x, BATCH_SIZE):
        for sample, record in enumerate(networks.records(batch, points)):
            hidden = [i for i in places if not shown[i]]
            own = program.of(sample)
            values = twin.values(own, batch.float().cpu(), twin.weights(own, sample)) if hidden else []
            for i in places:
                read = [record.seen[p] for p in shown[i] if p in record.seen] or [values[program.ops[i].inputs[0]]]
                for tensor in read:
                    yield i, tensor


def _error(x: Tensor, low: float, high: float, top: int) -> Tensor:
    """Sum of squared errors of x in 2 · `top` steps from low to high."""
    step = max((high - low) / (2 * top), 1e-30)
    x = x.double()
    return (x - (x / step).round().clamp(round(low / step), round(high / step)) * step).square().sum()

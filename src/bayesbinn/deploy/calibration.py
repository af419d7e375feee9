"""The ranges of what binary layers read, on typical inputs."""

import torch
from torch import Tensor

from ..runtime.program import Program
from . import twin
from .capture import Capture
from .networks import Networks

BATCH_SIZE = 256
Limits = tuple[float, float]


def input_limits(program: Program, captured: Capture, networks: Networks, x: Tensor) -> dict[int, Limits]:
    """By place of each operation that quantises: the range of its input over x (B, ...) and all networks, with 0.

    It is what the network's own modules read; where no module reads just this, what the float twin of the program does.
    The state of a recurrent layer lies within ±1 by its tanh; with ReLU it is measured as it passes.
    """
    found = {i: (0.0, 0.0) for i, op in enumerate(program.ops) if op.kind == "binary"}
    shown = {i: {s.point for s in captured.points[program.ops[i].inputs[0]]} for i in found}
    points = set().union(*shown.values())
    for batch in torch.split(x, BATCH_SIZE):
        for sample, record in enumerate(networks.records(batch, points)):
            hidden = [i for i in found if not shown[i]]
            values = twin.values(program, batch.float().cpu(), twin.weights(program, sample)) if hidden else []
            for i, (low, high) in found.items():
                read = [record.seen[p] for p in shown[i] if p in record.seen] or [values[program.ops[i].inputs[0]]]
                found[i] = (min(low, *(float(t.min()) for t in read)), max(high, *(float(t.max()) for t in read)))
    bounded = {
        i: (-1.0, 1.0) for i, op in enumerate(program.ops) if op.kind == "recurrent" and op.function != "rnn_relu"
    }
    return found | bounded

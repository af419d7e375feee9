"""Which layers read few levels: the fastest mix of activation types whose outputs stay near the network's own."""

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..runtime.network import load
from .steps import UnsupportedError

LADDER = ("int6", "int8", "int16")  # the fastest first
Kinds = dict[int, str]


def difference(found: NDArray[np.float32], wanted: Tensor) -> float:
    """How far outputs (B, C) are from the network's: mean KL divergence of the probabilities, in nats; for anything but
    logits of two classes or more, the squared error as a share of the outputs' variance.

    >>> difference(np.array([[0.0, 1.0]], np.float32), torch.tensor([[0.0, 1.0]]))
    0.0
    """
    outputs, wanted = torch.tensor(found).double(), wanted.detach().cpu().double()
    if wanted.ndim == 2 and wanted.shape[1] > 1:
        logs = wanted.log_softmax(-1)
        return max(0.0, float((logs.exp() * (logs - outputs.log_softmax(-1))).sum(-1).mean()))
    spread = float((wanted - wanted.mean(0)).square().sum())
    return float((outputs - wanted).square().sum()) / max(spread, 1e-30)


def mix(
    places: list[int], encode: Callable[[Mapping[int, str]], bytes], x: Tensor, wanted: Tensor, max_loss: float
) -> Kinds:
    """An activation type for each of `places`, such that the mode differs from `wanted` by at most `max_loss`.

    All start as int6; those that alone change the outputs most become int8, one after the other, then int16.

    Args:
        places: of the operations that quantise.
        encode: makes a file of a mix.
        x: (B, *input shape) typical inputs, and what the network gives for them.

    Raises:
        UnsupportedError: if not even int16 is near enough.
    """
    inputs = x.float().cpu().numpy()

    def loss(kinds: Mapping[int, str]) -> float:
        return difference(load(encode(kinds)).run(inputs), wanted)

    kinds = dict.fromkeys(places, LADDER[0])
    for lower, higher in itertools.pairwise(LADDER):
        if loss(kinds) <= max_loss:
            return kinds
        best = dict.fromkeys(places, LADDER[-1])
        alone = {i: loss(best | {i: lower}) for i in places}
        for i in sorted(places, key=lambda i: -alone[i]):
            kinds[i] = higher
            if loss(kinds) <= max_loss:
                return kinds
    raise UnsupportedError(
        f"max_loss is {max_loss}, with {LADDER[-1]} for every layer it is {loss(kinds):.3g}: allow that much"
    )

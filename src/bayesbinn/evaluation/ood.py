"""Inputs from another distribution, and how well each score of uncertainty tells them apart."""

from typing import Any

import torch
from torch import Tensor

from .. import metrics
from ..data import Data, load_data
from ..errors import UserError
from ..prediction import Prediction

NOISE = "noise"

# higher = less certain = more likely from outside; mutual information needs several networks
SCORES = {
    "entropy": lambda p: p.entropy,
    "mutual_information": lambda p: p.mutual_information,
    "max_probability": lambda p: 1 - p.probs.amax(-1),
}


def ood_inputs(name: str, data: Data) -> tuple[Tensor, tuple[str, ...]]:
    """The test inputs of the data set `name`, or for "noise" as many uniform ones as `data` has for testing; and notes.

    The noise is drawn per number, from the smallest to the largest value in the test inputs, from a fixed seed.

    Raises:
        UserError: for a data set that cannot be loaded, is empty, has the test inputs of `data`, or inputs of another
            shape or other columns.

    >>> from bayesbinn.data import load_data
    >>> ood_inputs("noise", load_data("digits"))[0].shape
    torch.Size([360, 1, 8, 8])
    """
    like = data.test.x
    if name == NOISE:
        low, high = float(like.min()), float(like.max())
        return low + (high - low) * torch.rand(like.shape, generator=torch.Generator().manual_seed(0)), ()
    outside = load_data(
        name,
        offset=data.offset,
        features=data.features,
        limits=data.limits,
        image_size=data.images.size,
        channels=like.shape[1] if like.ndim == 4 else 0,
        skip_damaged=data.images.skip_damaged,
    )
    x = outside.test.x
    if x.shape[1:] != like.shape[1:]:
        found, need = tuple(x.shape[1:]), tuple(like.shape[1:])
        raise UserError(f"{name} has inputs of shape {found}, the network takes {need}: choose another for --ood")
    if torch.equal(x, like):  # by whatever name or path
        raise UserError(f"{name} is what the run is evaluated on, {data.name}: give --ood another data set")
    return x, outside.notes


def compare(inside: Prediction, outside: Prediction) -> dict[str, Any]:
    """{score: {"auroc", "fpr95"}} of every score in `SCORES`; one network has no mutual information.

    See `metrics.auroc` and `metrics.fpr95` for the directions.
    """
    names = [name for name in SCORES if name != "mutual_information" or inside.num_samples not in (0, 1)]
    pairs = {name: (SCORES[name](inside), SCORES[name](outside)) for name in names}
    return {name: {"auroc": metrics.auroc(*p), "fpr95": metrics.fpr95(*p)} for name, p in pairs.items()}

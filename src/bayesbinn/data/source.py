"""What a reader finds: a data set as it is, not checked yet, and what was left out on the way."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError

Array = np.ndarray[Any, Any]
SPLIT_SEED = 2020  # one split for every run, so that what was held out stays held out


@dataclass(frozen=True)
class Source:
    """A data set as it was found.

    Attributes:
        train, test: (x, y) of each part; a test part of None is drawn from the training part.
        validation: (x, y) held out for choosing settings, where the source has such a part.
        names: what the labels 0, 1, ... are called, where the source says so; else the labels are the names.
        layout: `channels-first` or `channels-last` where the source says so; "" to tell by the shape.
        features: names of the columns of x, where it has any.
        task: `classification` or `regression`: what the labels are.
        target, columns: of a table: the name of the column to predict, and how the others became x
            (`runtime.preparation`).
        notes: what was left out or changed, a sentence each.
    """

    train: tuple[Array, Array]
    test: tuple[Array, Array] | None
    names: tuple[str, ...] = ()
    layout: str = ""
    features: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    task: str = "classification"
    target: str = ""
    columns: Sequence[Mapping[str, Any]] = ()
    validation: tuple[Array, Array] | None = None


def as_array(values: Any) -> Array:
    """An array of whatever holds numbers or words: a tensor on any device, a list, a table of pandas.

    Raises:
        UserError: for inputs of different shapes.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.float() if values.dtype == torch.bfloat16 else values  # which numpy lacks
    try:
        array: Array = np.asarray(values)
        return array
    except ValueError:
        raise UserError("the data hold inputs of different shapes: make them equal") from None


def some(names: Iterable[object], most: int = 3) -> str:
    """The first few of many names.

    >>> some(range(10))
    '0, 1, 2, ...'
    """
    words = [str(name) for name in names]
    return ", ".join(words[:most] + ["..."] * (len(words) > most))


def hold_out_fifth(y: Array) -> Array:
    """(N,) bool, True for a fifth of each class, drawn with one seed; a class of one or two gives none away.

    >>> hold_out_fifth(np.repeat([7, 8], 50)).reshape(2, 50).sum(1).tolist()
    [10, 10]
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(len(y))
    _, classes, counts = np.unique(y[order], return_inverse=True, return_counts=True)
    chosen = np.zeros(len(y), bool)
    by_class = order[np.argsort(classes, kind="stable")]
    rank = np.arange(len(y)) - np.repeat(np.cumsum(counts) - counts, counts)  # of each example within its class
    chosen[by_class[rank % 5 == 2]] = True
    return chosen

"""What is predicted: classes or numbers.  One row for each task says how they are read, and what they become."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..runtime.columns import Cell, number, words
from .checks import FLOAT32
from .labels import label_names, numbered, sorted_classes
from .source import Array, hold_out_fifth

AUTO = "auto"  # the task that a table's target shows


@dataclass(frozen=True)
class Targets:
    """How the targets of a task are read.

    Attributes:
        of_cells: the column of a table, by its name, as `checked` takes it.
        checked: from what a source has, with its length and the names of its classes, (N,) names of classes or float64.
        classes: of checked training targets, with what messages call them; () for numbers.
        tensor: from checked targets and the classes, (N,) int64 or float32.
        groups: (N,) what a test part takes its fifth of; `fifth` says of what that is.
    """

    of_cells: Callable[[str, Sequence[Cell]], Array]
    checked: Callable[[str, Array, int, Sequence[str]], Array]
    classes: Callable[[str, Array], tuple[str, ...]]
    tensor: Callable[[str, Array, Sequence[str]], Tensor]
    groups: Callable[[Array], Array]
    fifth: str

    def held_out(self, what: str, y: Array) -> tuple[Array, str]:
        """((N,) bool: a fifth of each group for the test, a sentence that says so).

        Raises:
            UserError: where there is none to take.
        """
        chosen = hold_out_fifth(self.groups(y))
        if not chosen.any():
            raise UserError(
                f"{what} has no test part, and no class of 3 examples to take one from: give one (x_test, or a column "
                "split of a table)"
            )
        return chosen, f"{what} has no test part: {chosen.sum()} of {len(y)} examples, a fifth{self.fifth}, become it"


def class_names(name: str, y: Array) -> tuple[str, ...]:
    """The classes of training labels, at least two.

    Raises:
        UserError: for one class only, or one for each input.
    """
    classes = sorted_classes(y)
    if len(classes) < 2:
        raise UserError(f"{name}: y_train holds one class only: give at least two")
    if len(classes) == len(y) > 2:
        raise UserError(f"{name}: y_train holds {len(y)} different labels, one for each input: give classes")
    return classes


def _number_cells(name: str, own: Sequence[Cell]) -> Array:
    values = [number(cell) for cell in own]
    if None in values:
        odd = own[values.index(None)]
        raise UserError(
            f"column {name!r} holds {odd!r}, regression predicts finite numbers: take --task classification"
        )
    return np.array(values, np.float64)


def checked_numbers(what: str, y: Array, count: int, names: Sequence[str] = ()) -> Array:
    """(N,) float64.

    Raises:
        UserError: for another shape or type, or numbers that are not finite.

    >>> checked_numbers("y", np.array([[1], [2]]), 2).tolist()
    [1.0, 2.0]
    """
    if y.shape == (count, 1):
        y = y[:, 0]
    if y.shape != (count,) or y.dtype.kind not in "iubf":
        raise UserError(f"{what} has shape {y.shape} and type {y.dtype}, regression needs ({count},) numbers")
    y = y.astype(np.float64)
    if not np.isfinite(y).all():
        raise UserError(f"{what} holds NaN or infinity: leave these examples out")
    return y


def spread(name: str, y: Array) -> tuple[float, float]:
    """(mean, standard deviation) of the targets of a regression.

    Raises:
        UserError: where they do not vary, or so far from 0 that float32 cannot tell them apart.

    >>> spread("y", np.array([1.0, 3.0]))
    (2.0, 1.0)
    """
    mean, std = float(y.mean()), float(y.std())
    if not std > 1e-13 * np.abs(y).max():
        raise UserError(f"{name}: every target of training is {y[0]:g}: there is nothing to learn")
    if np.abs(y).max() > FLOAT32 * std:
        raise UserError(
            f"{name}: the targets lie around {mean:.6g} and vary by {std:.3g}, too little for float32: "
            "subtract their mean"
        )
    return mean, std


TARGETS: dict[str, Targets] = {
    "classification": Targets(
        lambda name, own: np.array(words(own), str),
        label_names,
        class_names,
        numbered,
        lambda y: y,
        " of each class",
    ),
    "regression": Targets(
        _number_cells,
        checked_numbers,
        lambda name, y: (),
        lambda what, y, classes: torch.from_numpy(y).float(),
        lambda y: np.zeros(len(y)),
        "",
    ),
}

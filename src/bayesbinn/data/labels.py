"""Names of classes and of columns: labels of any kind become numbers, and keep what they are called."""

import re
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .source import Array, some


def check_features(what: str, found: Sequence[str], features: Sequence[str]) -> None:
    """Refuse columns of other names, or in another order, than those that a network was trained on.

    Raises:
        UserError: naming the first that differs.
    """
    if found and features and list(found) != list(features):
        i = next((i for i, names in enumerate(zip(found, features, strict=False)) if names[0] != names[1]), None)
        which = f"{len(found)} columns" if i is None else f"{found[i]!r} as column {i + 1}"
        need = f"{len(features)}" if i is None else f"{features[i]!r}"
        raise UserError(f"{what} has {which}, training has {need} there: give the same columns in the same order")


def label_names(what: str, y: Array, count: int, names: Sequence[str] = ()) -> Array:
    """(N,) str, the class of each example by its name; whole numbers are their own names, or number `names`.

    Raises:
        UserError: for another shape, labels that are neither whole numbers nor words, or names that are doubled.

    >>> label_names("y", np.array([1.0, 10.0]), 2).tolist()
    ['1', '10']
    """
    if y.shape != (count,):
        raise UserError(f"{what} has shape {y.shape}, its inputs need ({count},): one label per input")
    if y.dtype.kind == "f":
        wrong = y[~(np.isfinite(y) & (y == np.floor(y)) & (np.abs(y) < 2.0**63))]
        if wrong.size:
            raise UserError(f"{what} holds label {wrong[0]}: labels must be whole numbers or names of classes")
        y = y.astype(np.int64)
    if y.dtype.kind == "S":
        y = np.char.decode(y, "utf-8", "backslashreplace")
    if y.dtype.kind == "O" and all(isinstance(label, str) for label in y):
        y = y.astype(str)
    if y.dtype.kind not in "iubU":
        raise UserError(f"{what} is of type {y.dtype}: labels must be whole numbers or names of classes")
    _check_distinct(what, names)
    if names and y.dtype.kind in "iu":
        wrong = y[(y < 0) | (y >= len(names))]
        if wrong.size:
            raise UserError(f"{what} holds label {wrong[0]}, there are names for 0 to {len(names) - 1}: add the name")
        return np.array(names)[y]
    return y.astype(str)


def named_alike(what: str, y: Array, names: Sequence[str], own: Sequence[str]) -> Array:
    """The labels of a test part by name where its classes are not those of training, so that none changes its meaning.

    >>> named_alike("y_test", np.array([0, 1]), ["cat", "dog"], ["dog", "cat"]).tolist()
    ['dog', 'cat']
    """
    return label_names(what, y, len(y), own) if names and own and list(names) != list(own) else y


def _check_distinct(what: str, names: Sequence[str]) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1}) if len({*names}) < len(names) else []
    if doubled:
        raise UserError(f"{what} has two classes named {doubled[0]!r}: give each class a name of its own")


def sorted_classes(names: Array) -> tuple[str, ...]:
    """The distinct names, whole numbers first and by size.

    >>> sorted_classes(np.array(["10", "9", "cat", "9"]))
    ('9', '10', 'cat')
    """
    return tuple(sorted(np.unique(names).tolist(), key=lambda n: (0, int(n), n) if _WHOLE(n) else (1, 0, n)))


_WHOLE = re.compile(r"[+-]?[0-9]+").fullmatch


def numbering(what: str, classes: Sequence[str]) -> tuple[str, ...]:
    """A note where the labels are whole numbers but not 0, 1, ..., C − 1.

    >>> numbering("x", ("1", "2"))
    ('the labels 1, 2 of x are numbered 0 to 1',)
    """
    if not all(map(_WHOLE, classes)) or list(classes) == list(map(str, range(len(classes)))):
        return ()
    return (f"the labels {some(classes)} of {what} are numbered 0 to {len(classes) - 1}",)


def numbered(what: str, names: Array, classes: Sequence[str]) -> Tensor:
    """(N,) int64, the place of each name in `classes`.

    Raises:
        UserError: naming the first that is not there, or a class that is there twice.
    """
    _check_distinct(what, classes)
    place = {name: i for i, name in enumerate(classes)}
    distinct, inverse = np.unique(names, return_inverse=True)
    for name in distinct.tolist():
        if name not in place:
            raise UserError(
                f"{what} holds class {name}, training knows {some(classes, 10)}: leave it out, or train on it"
            )
    return torch.tensor([place[name] for name in distinct.tolist()])[torch.from_numpy(inverse)]

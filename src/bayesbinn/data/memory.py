"""Data sets in memory: arrays, tensors and PyTorch's Datasets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch.utils.data import Dataset, Subset, TensorDataset

from ..errors import UserError
from .images import AS_THEY_ARE, Images, stacked
from .labels import named_alike
from .npz import ARRAYS, LAYOUT
from .source import Array, Source, as_array

FORMS = "(x, y), ((x_train, y_train), (x_test, y_test)), a dict of x_train, y_train, x_test, y_test, or a Dataset"
_Part = tuple[Array, Array]


def from_memory(data: Any, images: Images = AS_THEY_ARE) -> Source:
    """The data set in any of `FORMS`; x and y are arrays, tensors or lists, and the test part may be missing.

    Raises:
        UserError: for anything else.

    >>> from_memory((np.zeros((3, 2)), ["a", "b", "a"])).train[1].tolist()
    ['a', 'b', 'a']
    """
    if isinstance(data, Mapping):
        return _from_dict(data)
    pair = isinstance(data, tuple | list) and len(data) == 2
    if pair and all(isinstance(part, tuple | Dataset) for part in data):
        (train, notes), (test, more) = (_part(part, images) for part in data)
        names, own = map(_class_names, data)
        test = test[0], named_alike("the test part", test[1], names, own)
        return Source(train, test, names or own, notes=tuple(dict.fromkeys((*notes, *more))))
    if pair or isinstance(data, Dataset):
        train, notes = _part(data, images)
        return Source(train, None, _class_names(data), notes=notes)
    hint = "its .dataset" if hasattr(data, "dataset") else f"a name, {FORMS}"  # of a DataLoader
    raise UserError(f"cannot read data of type {type(data).__name__}: give {hint}")


def _from_dict(data: Mapping[str, Any]) -> Source:
    arrays = {{"x": "x_train", "y": "y_train"}.get(key, key): as_array(value) for key, value in data.items()}
    layout = str(arrays.pop(LAYOUT, ""))
    if set(arrays) not in ({*ARRAYS}, {*ARRAYS[:2]}):
        raise UserError(f"the data hold {', '.join(map(str, data)) or 'nothing'}: give {FORMS}")
    x_train, y_train, *test = (arrays[key] for key in ARRAYS if key in arrays)
    return Source((x_train, y_train), (test[0], test[1]) if test else None, layout=layout)


def _part(part: Any, images: Images) -> tuple[_Part, tuple[str, ...]]:
    """(x, y), and notes; of a Dataset, every example as it is read once."""
    if isinstance(part, TensorDataset):
        part = part.tensors
    if not isinstance(part, Dataset):
        if len(part) != 2:
            raise UserError(f"a part of the data has {len(part)} arrays: give its inputs and its labels")
        return (as_array(part[0]), as_array(part[1])), ()
    kind = type(part).__name__
    if not hasattr(part, "__len__") or len(part) == 0:
        raise UserError(f"{kind} has no length or no examples: give a Dataset with len()")
    examples: list[Any] = [part[i] for i in range(len(part))]
    if not all(isinstance(example, tuple | list) and len(example) == 2 for example in examples):
        raise UserError(f"the examples of {kind} are no pairs (input, label): make them so")
    x, notes = stacked(kind, (x for x, _ in examples), images)
    y = np.asarray([y.item() if hasattr(y, "item") else y for _, y in examples])
    return (x, y), (f"the examples of {kind} were read once: what it changes at random stays as drawn", *notes)


def _class_names(part: Any) -> tuple[str, ...]:
    """What the labels 0, 1, ... are called in a Dataset of torchvision's kind, or in one that a Subset is of."""
    while isinstance(part, Subset) and not hasattr(part, "classes"):
        part = part.dataset
    return tuple(map(str, getattr(part, "classes", ())))

"""What a `.bbnn` file says of its network beside the bits: what it predicts, and what it takes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from .container import FormatError
from .preparation import Column, check_columns, feature_names

# of each task: whether an output of so many numbers, and so many names of classes, is one of it
FITS: dict[str, Callable[[tuple[int, ...], int], bool]] = {
    "classification": lambda output, classes: classes in (0, output[0]) if len(output) == 1 else classes == 0,
    "regression": lambda output, classes: output == (1,) and classes == 0,
}


@dataclass(frozen=True)
class About:
    """What a network is for.

    Attributes:
        task: `classification`, or `regression`: one output, the mean in the target's units.
        target: the name of what is predicted; "" where it has none.
        classes: what the outputs are called; () where they are numbered.
        noise: standard deviation of the data around the mean, in the target's units (regression).
        columns: of a table, how its columns become inputs, see `preparation`; () for inputs that are numbers already.
        range: (smallest, largest) input of training; () where it is not known, or the columns make it.
        image_size: N: image files are resized to N pixels on the short side and cropped to the centre N×N; 0: they are
            taken as they are.

    >>> About(target="y").as_json()
    {'task': 'classification', 'target': 'y'}
    """

    task: str = "classification"
    target: str = ""
    classes: tuple[str, ...] = ()
    noise: float = 0.0
    columns: tuple[Column, ...] = ()
    range: tuple[float, ...] = ()
    image_size: int = 0

    def as_json(self) -> dict[str, Any]:
        """What the plan of a file holds; parts that say nothing are left out."""
        parts = {"target": self.target, "noise": self.noise, "image_size": self.image_size}
        lists = {
            "classes": list(self.classes),
            "columns": [dict(column) for column in self.columns],
            "range": list(self.range),
        }
        return {"task": self.task, **{name: value for name, value in {**parts, **lists}.items() if value}}


def check_about(found: Any, input_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> About:
    """`About` of decoded JSON, checked against the network's shapes; None is a classifier of which nothing is known.

    Raises:
        FormatError: naming the part that does not fit.
    """
    if found is None:
        return About()
    if not isinstance(found, Mapping) or found.keys() - set(About.__dataclass_fields__):
        raise FormatError("'about' must be an object of what this release knows: upgrade bayesbinn")
    task, target = found.get("task", "classification"), found.get("target", "")
    classes, noise = found.get("classes", []), found.get("noise", 0.0)
    if not isinstance(task, str) or task not in FITS:
        raise FormatError(f"about: task is {task!r}, this release knows {', '.join(FITS)}: upgrade bayesbinn")
    if not isinstance(target, str) or not isinstance(classes, list) or not all(isinstance(c, str) for c in classes):
        raise FormatError("about: target must be a text and classes a list of texts")
    if not FITS[task](output_shape, len(classes)):
        raise FormatError(f"about: {len(classes)} classes and task {task} do not fit an output of shape {output_shape}")
    if not isinstance(noise, int | float) or isinstance(noise, bool) or not 0 <= noise < np.inf:
        raise FormatError(f"about: noise must be a finite number of at least 0, found {noise!r}")
    limits, size = found.get("range", []), found.get("image_size", 0)
    if not isinstance(limits, list) or (limits and not _is_range(limits)):
        raise FormatError(f"about: range must be two finite numbers, the smaller one first, found {limits!r}")
    if type(size) is not int or (size and (len(input_shape) != 3 or (size, size) != input_shape[1:])):
        raise FormatError(f"about: an image_size of {size!r} does not fit an input of shape {input_shape}")
    columns = check_columns(found.get("columns", []))
    if columns and input_shape != (len(feature_names(columns)),):
        raise FormatError(
            f"about: the columns make {len(feature_names(columns))} numbers, the input has shape {input_shape}"
        )
    return About(task, target, tuple(classes), float(noise), columns, tuple(map(float, limits)), size)


def _is_range(limits: list[Any]) -> bool:
    numbers = len(limits) == 2 and all(type(value) in (int, float) and abs(value) < np.inf for value in limits)
    return numbers and limits[0] <= limits[1]


AXES = {1: "numbers", 2: "channels, length", 3: "channels, height, width"}


def input_text(input_shape: tuple[int, ...], about: About) -> str:
    """What a network takes, in words: shape, layout, range of the values, what is done to images and columns.

    >>> input_text((3, 32, 32), About(range=(0.0, 255.0)))
    'float32 of shape 3×32×32 (channels, height, width), from 0 to 255 as in training, without further normalisation'
    """
    text = f"float32 of shape {'×'.join(map(str, input_shape))} ({AXES[len(input_shape)]})"
    if about.columns:
        return f"{text}, made of {len(about.columns)} columns"
    if about.range:
        low, high = about.range
        text += f", from {low:.6g} to {high:.6g} as in training, without further normalisation"
    if about.image_size:
        n = about.image_size
        text += (
            f"; images with the short side resized to {n} pixels (bicubic, antialiased), cropped to the centre {n}×{n}"
        )
    return text

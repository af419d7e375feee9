"""What a `.bbnn` file says of its network beside the bits: what it predicts, and from which columns."""

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

    >>> About(target="y").as_json()
    {'task': 'classification', 'target': 'y'}
    """

    task: str = "classification"
    target: str = ""
    classes: tuple[str, ...] = ()
    noise: float = 0.0
    columns: tuple[Column, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What the plan of a file holds; parts that say nothing are left out."""
        parts = {"target": self.target, "noise": self.noise}
        lists = {"classes": list(self.classes), "columns": [dict(column) for column in self.columns]}
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
    columns = check_columns(found.get("columns", []))
    if columns and input_shape != (len(feature_names(columns)),):
        raise FormatError(
            f"about: the columns make {len(feature_names(columns))} numbers, the input has shape {input_shape}"
        )
    return About(task, target, tuple(classes), float(noise), columns)

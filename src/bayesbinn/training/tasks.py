"""Streams by name: permutations, rotations and splits of the data sets that `train` knows, and folders of tasks."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from .. import data as sets
from ..continual import Examples, Stream, from_tasks, multi_head, permuted, rotated, split
from ..errors import UserError, unknown
from .strategies import FOLDER, ContinualConfig

KINDS = ("permuted", "rotated", "split")


def load_stream(config: ContinualConfig) -> Stream:
    """The stream that `config.data` names: permuted-DATA, rotated-DATA, split-DATA or tasks:FOLDER.

    A folder holds a file per task, taken in the order of their names: NAME.npz with x_train, y_train, x_test and
    y_test, or NAME.csv with a column `label`, numbers in all others, and, if you wish, a column `split` (train or
    test; without it a fifth of each class is for the test).  With a `target` the others may be of any kind, as the
    first file has them.  Labels may be words; all tasks share their classes.

    Raises:
        UserError: for an unknown stream or data set, tasks that do not fit together, or more tasks than there are.
    """
    kind, _, name = config.data.partition("-")
    try:
        if config.data.startswith(FOLDER):
            if config.image_size:
                raise UserError(f"image_size {config.image_size} is not for tasks:FOLDER: resize the images yourself")
            stream = _from_folder(Path(config.data.removeprefix(FOLDER)).expanduser(), config.tasks, config.target)
        elif kind in KINDS and name:
            data = sets.load_data(
                name,
                target=config.target,
                task="classification",
                image_size=config.image_size,
                skip_damaged=config.skip_damaged,
            )
            stream = _from_data(kind, data, config)
        else:
            raise unknown("stream", config.data, [*(f"{k}-DATA" for k in KINDS), "tasks:FOLDER"])
    except UserError:
        raise
    except ValueError as error:  # what the library refuses, the user asked for
        raise UserError(f"{config.data}: {error}") from None
    return multi_head(stream) if config.head == "multi" and stream.heads is None else stream


def absolute(name: str) -> str:
    """The name of a stream with an absolute path, as `data.absolute`.

    >>> absolute("permuted-npz:/data/set.npz"), absolute("tasks:/data/tasks")
    ('permuted-npz:/data/set.npz', 'tasks:/data/tasks')
    """
    if name.startswith(FOLDER):
        return f"{FOLDER}{Path(name.removeprefix(FOLDER)).expanduser().absolute()}"
    kind, dash, data = name.partition("-")
    return f"{kind}{dash}{sets.absolute(data)}"


def statistics(stream: Stream) -> tuple[Tensor, Tensor]:
    """(mean, std), each (C,): of the first task's training inputs, per channel or feature; all that is known then.

    A standard deviation of 0 becomes 1.
    """
    return sets.statistics(stream[0].train.x)


def fingerprint(stream: Stream) -> str:
    """A digest of the first and the last task's training examples, to recognise a stream when resuming."""
    digest = hashlib.sha256(f"{stream.num_tasks} {stream.input_shape} {stream.num_outputs} {stream.heads}".encode())
    for task in (stream[0], stream[len(stream) - 1]):
        for tensor in (task.train.x, task.train.y):
            digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def _from_data(kind: str, data: sets.Data, config: ContinualConfig) -> Stream:
    train, test = (Examples(part.x, part.y) for part in (data.train, data.test))
    if kind == "split":
        seed = config.stream_seed or None
        stream = split(train, test, config.tasks, heads=config.head == "multi", seed=seed)
    elif kind == "permuted":
        stream = permuted(train, test, config.tasks, config.stream_seed)
    else:
        stream = rotated(train, test, config.tasks, config.stream_seed, config.max_angle)
    return replace(stream, **_known(data), notes=data.notes)


def _from_folder(folder: Path, num_tasks: int, target: str = "") -> Stream:
    if not folder.is_dir():
        raise UserError(f"no folder at {folder}: give tasks:FOLDER with a .npz or .csv file per task")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".npz", ".csv"))
    if num_tasks > len(files):
        raise UserError(f"{folder} holds {len(files)} tasks (.npz or .csv files), not {num_tasks}: lower tasks")
    names = [f"{file.suffix[1:].lower()}:{file}" for file in files[:num_tasks]]
    tasks = sets.load_tasks(names, target)
    pairs = [(Examples(t.train.x, t.train.y), Examples(t.test.x, t.test.y)) for t in tasks]
    notes = tuple(note for task in tasks for note in task.notes)
    return replace(from_tasks(pairs, str(folder)), **_known(tasks[0]), notes=notes)


def _known(data: sets.Data) -> dict[str, Any]:
    """What inputs from elsewhere need, and what their classes are called."""
    return {"offset": data.offset, "classes": data.classes, "features": data.features}

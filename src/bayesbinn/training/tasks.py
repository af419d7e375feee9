"""Streams by name: permutations, rotations and splits of the data sets that `train` knows, and folders of tasks."""

import hashlib
from pathlib import Path

from torch import Tensor

from .. import data as sets
from ..continual import Examples, Stream, from_tasks, multi_head, permuted, rotated, split
from ..errors import UserError, unknown
from .continual_config import ContinualConfig

KINDS = ("permuted", "rotated", "split")


def load_stream(config: ContinualConfig) -> Stream:
    """The stream that `config.data` names: permuted-DATA, rotated-DATA, split-DATA or tasks:FOLDER.

    A folder holds a file per task, taken in the order of their names: NAME.npz with x_train, y_train, x_test and
    y_test, or NAME.csv with a column `label`, numbers in all others, and, if you wish, a column `split` (train or
    test; without it a fifth of each class is for the test).  Its labels may be words; all tasks share their classes.

    Raises:
        UserError: for an unknown stream or data set, tasks that do not fit together, or more tasks than there are.
    """
    kind, _, name = config.data.partition("-")
    try:
        if config.data.startswith("tasks:"):
            stream = _from_folder(Path(config.data.removeprefix("tasks:")), config.tasks)
        elif kind in KINDS and name:
            data = sets.load_data(name)
            train, test = Examples(data.train.x, data.train.y), Examples(data.test.x, data.test.y)
            if kind == "split":
                seed = config.stream_seed or None
                return split(train, test, config.tasks, heads=config.head == "multi", seed=seed)
            if kind == "permuted":
                stream = permuted(train, test, config.tasks, config.stream_seed)
            else:
                stream = rotated(train, test, config.tasks, config.stream_seed, config.max_angle)
        else:
            raise unknown("stream", config.data, [*(f"{k}-DATA" for k in KINDS), "tasks:FOLDER"])
    except UserError:
        raise
    except ValueError as error:  # what the library refuses, the user asked for
        raise UserError(f"{config.data}: {error}") from None
    return multi_head(stream) if config.head == "multi" else stream


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


def _from_folder(folder: Path, num_tasks: int) -> Stream:
    if not folder.is_dir():
        raise UserError(f"no folder at {folder}: give tasks:FOLDER with a .npz or .csv file per task")
    files = sorted(f for f in folder.iterdir() if f.suffix.lower() in (".npz", ".csv"))
    if num_tasks > len(files):
        raise UserError(f"{folder} holds {len(files)} tasks (.npz or .csv files), not {num_tasks}: lower tasks")
    names = [f"{file.suffix[1:].lower()}:{file}" for file in files[:num_tasks]]
    tasks = [
        (Examples(task.train.x, task.train.y), Examples(task.test.x, task.test.y)) for task in sets.load_tasks(names)
    ]
    return from_tasks(tasks, str(folder))

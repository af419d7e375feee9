"""Streams by name: permutations, rotations and splits of the data sets that `train` knows, and folders of tasks."""

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..continual import Examples, Stream, from_tasks, multi_head, permuted, rotated, split
from ..data.dataset import load_data, make_data
from ..data.readers import read_npz
from ..errors import UserError, unknown
from .strategies import ContinualConfig

KINDS = ("permuted", "rotated", "split")


def load_stream(config: ContinualConfig) -> Stream:
    """The stream that `config.data` names: permuted-DATA, rotated-DATA, split-DATA or tasks:FOLDER.

    A folder holds a file per task, taken in the order of their names: NAME.npz with x_train, y_train, x_test and
    y_test, or NAME.csv with a column `label`, numbers in all others, and, if you wish, a column `split` (train or
    test; without it every fifth row is for the test).

    Raises:
        UserError: for an unknown stream or data set, tasks that do not fit together, or more tasks than there are.
    """
    kind, _, name = config.data.partition("-")
    try:
        if config.data.startswith("tasks:"):
            stream = _from_folder(Path(config.data.removeprefix("tasks:")), config.tasks)
        elif kind in KINDS and name:
            data = load_data(name)
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
    x = stream[0].train.x
    sample = x[:10_000].double()
    dims = [d for d in range(x.ndim) if d != 1]
    std = sample.std(dims, correction=0)
    return sample.mean(dims).float(), torch.where(std > 1e-6, std, torch.ones_like(std)).float()


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
    tasks = []
    for file in files[:num_tasks]:
        arrays = read_npz(str(file)) if file.suffix.lower() == ".npz" else read_csv(file)
        parts = []
        for part in ("train", "test"):
            x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
            # classes may be missing from a task: check each part for itself, against its own labels
            checked = make_data(str(file), {"x_train": x, "y_train": _two_classes(y), "x_test": x, "y_test": y * 0})
            parts.append(Examples(checked.train.x, torch.from_numpy(y.astype(np.int64))))
        tasks.append((parts[0], parts[1]))
    return from_tasks(tasks, str(folder))


def _two_classes(y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.maximum(y, 1) if len(y) and y.min() >= 0 else y


def read_csv(file: Path) -> dict[str, np.ndarray[Any, Any]]:
    """x_train, y_train, x_test and y_test of a CSV file with a header, a column `label` and numbers in the others.

    Raises:
        UserError: naming the file, the line and what is wrong.
    """
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {file}: {error}") from None
    if not rows or "label" not in rows[0]:
        raise UserError(f"{file} needs a header line with a column named label, and rows below it")
    features = [name for name in rows[0] if name not in ("label", "split")]
    x, y, test = [], [], []
    for i, row in enumerate(rows):
        try:
            x.append([float(row[name]) for name in features])
            y.append(int(row["label"]))
        except (TypeError, ValueError):
            raise UserError(f"{file}, line {i + 2}: every column must hold a number and label a whole one") from None
        part = row.get("split") or ("test" if i % 5 == 4 else "train")
        if part not in ("train", "test"):
            raise UserError(f"{file}, line {i + 2}: split must be train or test, got {part!r}")
        test.append(part == "test")
    inputs, labels, chosen = np.array(x, dtype=np.float32), np.array(y), np.array(test)
    if chosen.all() or not chosen.any():
        raise UserError(f"{file} has no {'train' if chosen.all() else 'test'} rows: both are needed")
    return {"x_train": inputs[~chosen], "y_train": labels[~chosen], "x_test": inputs[chosen], "y_test": labels[chosen]}

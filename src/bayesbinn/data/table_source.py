"""Tables with a column to predict: from columns of any kind to a data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, unknown
from ..runtime.columns import Cell, as_columns, cells, number
from ..runtime.preparation import feature_names, prepare
from .images import AS_THEY_ARE, Images
from .prepare import fit_columns
from .source import Array, Source, some
from .tables import SPLIT, read_columns
from .targets import AUTO, TARGETS, Targets

Column = Mapping[str, Any]
CLASSES = 20  # whole numbers of no more different values are classes, unless `task` says otherwise


@dataclass(frozen=True)
class Wanted:
    """What is asked of a data set.

    Attributes:
        target: the column of a table to predict; "": the data are no table of mixed columns.
        task: of `TARGETS`, or `auto`: see `find_task`; without a target, `auto` is classification.
        columns: how training made numbers of the other columns; None: it is found on the training rows.
        images: how images are read.
        whole: where no test part is named, all examples are it and the training part.
    """

    target: str = ""
    task: str = AUTO
    columns: Sequence[Column] | None = None
    images: Images = AS_THEY_ARE
    whole: bool = False

    def applied(self, source: Source) -> Source:
        """A source of arrays, whose labels are what is asked for; the names of its classes end where it has none."""
        task = "classification" if self.task == AUTO else self.task
        return source if task == source.task else replace(source, task=task, names=())

    def __post_init__(self) -> None:
        if self.task not in (*TARGETS, AUTO):
            raise unknown("task", self.task, [*TARGETS, AUTO])


def read_parquet(path: Path) -> dict[str, list[Cell]]:
    """{name: cells} of a Parquet file.

    Raises:
        UserError: if there is no pyarrow, no file, or something else in it.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError:
        raise UserError(f"reading {path} needs pyarrow: pip install 'bayesbinn[tables]'") from None
    if not path.exists():
        raise UserError(f"no file at {path}: give an existing Parquet file")
    try:
        return as_columns(read_table(path))
    except (OSError, ValueError, ArrowException) as error:
        raise UserError(f"cannot read {path}: {str(error).partition(chr(10))[0]}") from None


FILES: dict[str, Callable[[Path], dict[str, list[Cell]]]] = {
    "csv": lambda path: {name: cells(own) for name, own in read_columns(path).items()},
    "parquet": read_parquet,
}


def read_table_file(path: Path) -> dict[str, list[Cell]]:
    """{name: cells} of a .csv or .parquet file, by its suffix."""
    return FILES[path.suffix.lower().removeprefix(".")](path)


def table_source(what: str, table: Any, wanted: Wanted) -> Source:
    """The data set in a table: `wanted.target` is predicted from all other columns, but for `split` (train or test).

    Rows without a target are left out.  Without a column `split`, a fifth of the rows (of each class) is for the test.
    What is known of the columns is found on the training rows alone.

    Raises:
        UserError: for a target that is not there or does not fit the task, a table that cannot be used, or columns that
            training had and this table has not.

    >>> table = {"a": ["1", "2"] * 10, "b": ["u", "v", "w", "x"] * 5, "y": ["no", "yes"] * 10}
    >>> source = table_source("t", table, Wanted("y"))
    >>> source.train[0].shape, len(source.test[1]), source.features[:2]
    ((16, 5), 4, ('a', 'b = u'))
    """
    try:
        columns = as_columns(table)
        notes = []
        if wanted.target not in columns:
            hint = ": separate the columns by commas" if len(columns) == 1 and ";" in str(list(columns)) else ""
            raise UserError(f"there is no column {wanted.target!r} to predict (there are {', '.join(columns)}){hint}")
        present = [cell is not None for cell in columns[wanted.target]]
        if not all(present):
            notes.append(f"{present.count(False)} rows of {what} have no {wanted.target}: they are left out")
            columns = {n: [c for c, p in zip(own, present, strict=True) if p] for n, own in columns.items()}
        goal = columns.pop(wanted.target)
        if not goal:
            raise UserError(f"column {wanted.target!r} is empty: give rows with a target")
        task, why = find_task(wanted, goal)
        notes += why
        targets = TARGETS[task]
        y = targets.checked(wanted.target, targets.of_cells(wanted.target, goal), len(goal), ())
        split = columns.pop(SPLIT, None)
        if wanted.whole and set(split or ("test",)) == {"test"}:
            train = test = np.ones(len(y), bool)
        else:
            test = _test_rows(split, what, y, targets, notes)
            train = ~test
        parts = [{n: [own[i] for i in np.flatnonzero(rows)] for n, own in columns.items()} for rows in (train, test)]
        found = wanted.columns
        if found is None:
            found, more = fit_columns(what, parts[0])
            notes += more
        else:
            unused = [name for name in columns if name not in {column["name"] for column in found}]
            notes += [f"columns of {what} that training did not use: {some(unused)}"] if unused else []
        x = []
        for part in parts:
            made, more = prepare(found, part, what)
            x.append(made)
            notes += more
    except UserError as error:
        raise UserError(f"{what}: {error}" if not str(error).startswith(what) else str(error)) from None
    except ValueError as error:
        raise UserError(str(error)) from None
    return Source(
        (x[0], y[train]),
        (x[1], y[test]),
        features=tuple(feature_names(found)),
        notes=tuple(dict.fromkeys(notes)),
        task=task,
        target=wanted.target,
        columns=tuple(found),
    )


def find_task(wanted: Wanted, goal: Sequence[Cell]) -> tuple[str, list[str]]:
    """(task, a note where it was found and not given): texts, and few whole numbers, are classes.

    >>> find_task(Wanted("y"), [1.5, 2.5])
    ('regression', ["'y' holds numbers (2 different ones): task regression, unless --task says otherwise"])
    """
    if wanted.task != AUTO:
        return wanted.task, []
    values = [number(cell) for cell in goal]
    if any(value is None for value in values):
        return "classification", []
    distinct = {value for value in values if value is not None}
    whole = all(value == round(value) for value in distinct)
    task = "classification" if whole and len(distinct) <= CLASSES else "regression"
    kind = "whole numbers" if whole else "numbers"
    return task, [
        f"{wanted.target!r} holds {kind} ({len(distinct)} different ones): task {task}, unless --task says otherwise"
    ]


def _test_rows(split: Sequence[Cell] | None, what: str, y: Array, targets: Targets, notes: list[str]) -> Array:
    """(N,) bool: the rows of the test part."""
    if split is None:
        chosen, note = targets.held_out(what, y)
        notes.append(note)
        return chosen
    odd = next((i for i, cell in enumerate(split) if cell not in ("train", "test")), None)
    if odd is not None:
        raise UserError(f"row {odd + 1}: {SPLIT} must be train or test, got {split[odd]!r}")
    chosen = np.array([cell == "test" for cell in split])
    if chosen.all() or not chosen.any():
        raise UserError(f"there are no {'train' if chosen.all() else 'test'} rows: both are needed")
    return chosen

"""Data sets in CSV files."""

import csv
from pathlib import Path

import numpy as np

from ..errors import UserError
from .source import Array, Source

LABEL, SPLIT = "label", "split"


def read_csv(file: str) -> Source:
    """The data set in a CSV file: a header, a column `label`, numbers in the others, and perhaps a column `split`.

    `split` says train or test in each row; without it a fifth of each class is for the test.  Empty lines are no rows.

    Raises:
        UserError: naming the file, the line and what is wrong.
    """
    header, rows = _read(Path(file).expanduser())
    if LABEL not in header or not rows:
        hint = ": separate the columns by commas" if any(";" in name for name in header) else ""
        raise UserError(
            f"{file} needs a header line with a column named {LABEL}, and rows below it{hint or ', or --target NAME'}"
        )
    features, inputs = _inputs(file, header, rows)
    label, split = header.index(LABEL), header.index(SPLIT) if SPLIT in header else None
    test = []
    for line, row in rows:
        if not row[label]:
            raise UserError(f"{file}, line {line}: the label is missing")
        if split is not None:
            if row[split] not in ("train", "test"):
                raise UserError(f"{file}, line {line}: split must be train or test, got {row[split]!r}")
            test.append(row[split] == "test")
    labels = _numbers([row[label] for _, row in rows])
    if split is None:
        return Source((inputs, labels), None, features=features)
    chosen = np.array(test)
    if chosen.all() or not chosen.any():
        raise UserError(f"{file} has no {'train' if chosen.all() else 'test'} rows: both are needed")
    train, test_part = ((inputs[part], labels[part]) for part in (~chosen, chosen))
    return Source(train, test_part, features=features)


def read_csv_inputs(path: Path) -> tuple[tuple[str, ...], Array]:
    """The names and (N, F) numbers of the columns of a CSV file, without `label` and `split`.

    Raises:
        UserError: as `read_csv`.
    """
    return _inputs(str(path), *_read(path))


def read_columns(path: Path) -> dict[str, list[str]]:
    """{name: texts} of a CSV file with a header.

    Raises:
        UserError: for a file that cannot be read, lines of another length than the header, or columns of one name.
    """
    header, rows = _read(path)
    return {name: [row[i] for _, row in rows] for i, name in enumerate(header)}


def _inputs(file: str, header: list[str], rows: list[tuple[int, list[str]]]) -> tuple[tuple[str, ...], Array]:
    columns = [i for i, name in enumerate(header) if name not in (LABEL, SPLIT)]
    x = []
    for line, row in rows:
        try:
            x.append([float(row[i]) for i in columns])
        except ValueError as error:
            raise UserError(f"{file}, line {line}: every column must hold a number ({error})") from None
    return tuple(header[i] for i in columns), np.array(x).reshape(len(rows), len(columns))


def _read(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and (line, fields) of every row, as many fields as the header has."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:  # spreadsheets put a mark in front
            reader = csv.reader(lines, strict=True)
            found = [(reader.line_num, [field.strip() for field in row]) for row in reader if row]
    except FileNotFoundError:
        raise UserError(f"no file at {path}: give an existing CSV file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    header, rows = (found[0][1], found[1:]) if found else ([], [])
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise UserError(f"{path} has two columns named {doubled[0]!r}: rename one, or remove it")
    for line, row in rows:
        if len(row) != len(header):
            hint = " (a decimal comma? write 1.5)" if len(row) > len(header) else ""
            raise UserError(f"{path}, line {line} has {len(row)} fields, the header {len(header)}{hint}: mend the line")
    return header, rows


def _numbers(labels: list[str]) -> Array:
    """The labels as numbers if all are, so that 1 and 1.0 are one class."""
    try:
        return np.array([float(label) for label in labels])
    except ValueError:
        return np.array(labels)

"""Columns of a table as people have them: missing values, numbers, dates and words, from a file or a data frame."""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, time, timezone
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Cell = float | str | None  # what a value is here: a number, a text, or missing

MISSING = frozenset({"", "NA", "N/A", "<NA>", "NaN", "nan", "NaT", "NULL", "null", "None", "?"})
DAY = 86400.0  # seconds
SHORT_DATE = len("2020-01-31")


def as_columns(table: Any) -> dict[str, list[Cell]]:
    """{name: cells} of a table: a mapping of columns, a list of rows (each a mapping), a data frame, an Arrow table.

    Raises:
        ValueError: for anything else, no rows, or columns that differ in length or share a name.

    >>> as_columns([{"a": 1, "b": "x"}, {"a": None, "b": " y"}])
    {'a': [1.0, None], 'b': ['x', 'y']}
    """
    if hasattr(table, "to_pydict"):  # Arrow
        table = table.to_pydict()
    elif not isinstance(table, Mapping) and hasattr(table, "columns"):  # a data frame
        names = [str(name) for name in table.columns]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"the table has two columns named {doubled[0]!r}: rename one, or remove it")
        worded = {str(n): str(getattr(table[n], "dtype", "")) in ("category", "Categorical") for n in table.columns}
        columns = {str(name): cells(table[name]) for name in table.columns}
        return _even({name: _declared(own) if worded[name] else own for name, own in columns.items()})
    elif not isinstance(table, Mapping) and all(isinstance(row, Mapping) for row in table):
        names = list(dict.fromkeys(name for row in table for name in row))
        table = {name: [row.get(name) for row in table] for name in names}
    if not isinstance(table, Mapping):
        raise ValueError(f"a table is a mapping of columns, a list of rows or a data frame, not {type(table).__name__}")
    return _even({str(name): cells(values) for name, values in table.items()})


class Word(str):
    """A text that is a category even where it looks like a number, since the data frame says so."""


def _declared(own: Sequence[Cell]) -> list[Cell]:
    return [None if word is None else Word(word) for word in words(own)]


def _even(columns: dict[str, list[Cell]]) -> dict[str, list[Cell]]:
    lengths = {name: len(own) for name, own in columns.items()}
    if not lengths or not max(lengths.values()):
        raise ValueError("the table has no rows: give at least one")
    first, count = next(iter(lengths.items()))
    for name, length in lengths.items():
        if length != count:
            raise ValueError(f"column {name!r} has {length} values, column {first!r} {count}: make them equal")
    return columns


def cells(values: Iterable[Any]) -> list[Cell]:
    """Each value as a number, a text without blanks around it, or None where it is missing; dates become ISO text.

    >>> cells([1, True, " a ", "NA", float("nan"), date(2020, 1, 31)])
    [1.0, 'True', 'a', None, None, '2020-01-31']
    """
    return [_cell(value) for value in values]


def _cell(value: Any) -> Cell:
    if isinstance(value, str):
        text = value.strip()
        return None if text in MISSING else text
    if value is None or _unlike_itself(value):
        return None
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        text = str(value).strip()
        return None if text in MISSING else text


def _unlike_itself(value: Any) -> bool:
    """NaN and pandas' NaT are not themselves, and of pandas' NA nobody can say."""
    try:
        return bool(value != value)
    except TypeError:
        return True


def number(cell: Cell) -> float | None:
    """The finite number that a cell holds, NaN where it is missing, None where it is no number.

    >>> number("1e3"), number("1,5"), number("1_000")
    (1000.0, None, None)
    """
    if cell is None:
        return math.nan
    if isinstance(cell, Word):
        return None
    try:
        value = float(cell) if not isinstance(cell, str) or "_" not in cell else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def day(cell: Cell) -> float | None:
    """Days since 1970 (UTC, unless the text says another zone) of a date or time as ISO 8601 writes it.

    NaN where the cell is missing, None where it is no date.

    >>> day("1970-01-02"), day("1970-01-02T12:00"), day("02.01.1970")
    (1.0, 1.5, None)
    """
    if cell is None:
        return math.nan
    if not isinstance(cell, str) or len(cell) < SHORT_DATE or cell[4] not in "-/":
        return None
    text = cell[:SHORT_DATE].replace("/", "-") + cell[SHORT_DATE:].replace("Z", "+00:00")
    head, dot, tail = text.partition(".")  # of seconds; Python 3.10 reads three or six digits
    if dot:
        digits = len(tail) - len(tail.lstrip("0123456789"))
        text = f"{head}.{tail[:digits][:6]:0<6}{tail[digits:]}"
    try:
        when = datetime.fromisoformat(text) if len(text) > SHORT_DATE else datetime.combine(_date(text), time())
    except ValueError:
        return None
    when = when.replace(tzinfo=timezone.utc) if when.tzinfo is None else when
    return when.timestamp() / DAY


def _date(text: str) -> date:
    return date.fromisoformat(text)


def words(own: Sequence[Cell]) -> list[str | None]:
    """Cells as words; a whole number is written without a point, so that 1 and 1.0 are one word.

    >>> words([1.0, "a", None])
    ['1', 'a', None]
    """
    return [cell if cell is None or isinstance(cell, str) else f"{cell:.15g}" for cell in own]


def numbers(name: str, own: Sequence[Cell], read: Any = number, need: str = "a number") -> Floats:
    """(N,) float64, NaN where a cell is missing; `read` makes a number of a cell.

    Raises:
        ValueError: naming the first cell that is none.
    """
    found = [read(cell) for cell in own]
    for row, value in enumerate(found, start=1):
        if value is None:
            raise ValueError(f"column {name!r}, row {row}: {own[row - 1]!r} is not {need}")
    return np.array(found, np.float64)


def date_parts(days: Floats, parts: Sequence[str]) -> Floats:
    """(N, parts) of days since 1970: `days` itself, or sine and cosine of the place in the year, the week or the day.

    >>> date_parts(np.array([0.0]), ["days", "year sin", "year cos"]).tolist()
    [[0.0, 0.0, 1.0]]
    """
    out = np.full((len(days), len(parts)), np.nan)
    known = np.isfinite(days)
    own = days[known]
    start = own.astype("datetime64[D]").astype("datetime64[Y]")
    first, after = (s.astype("datetime64[D]").astype(np.float64) for s in (start, start + 1))
    place = {
        "year": (own - first) / (after - first),
        "week": (own + 3) / 7 % 1,
        "day": own % 1,
    }  # 1970 began a Thursday
    for i, part in enumerate(parts):
        period, _, wave = part.partition(" ")
        out[known, i] = own if part == "days" else {"sin": np.sin, "cos": np.cos}[wave](2 * math.pi * place[period])
    return out

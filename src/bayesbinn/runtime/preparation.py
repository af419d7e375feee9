"""From the columns of a table to the numbers that a network takes, by plain data that JSON holds: what training found.

A column is one object.  Its `kind` says which of `KINDS` it is:

    {"name": ..., "kind": "number", "fill": m, "missing": bool, "mean": a, "std": s}       (x − a) / s
    {"name": ..., "kind": "number", "fill": m, "missing": bool, "quantiles": [...]}        Φ⁻¹(rank of x), within ±3
    {"name": ..., "kind": "date", "missing": bool, "parts": [{"part", "fill", "mean", "std"}, ...]}
    {"name": ..., "kind": "category", "words": [...], "rare": [...]}                       one column of 0 or 1 for each

`fill` takes the place of a missing number; with `missing`, one more column says where.  A missing category is the word
"(missing)".  Where there are rare words, they and new ones share one column; else new ones are 0 in all.
"""

from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .columns import Cell, Floats, as_columns, date_parts, day, numbers, words
from .container import FormatError

Column = Mapping[str, Any]
TINY = 1e-7  # how near to the first and the last quantile a number counts as at it, as in scikit-learn
REACH = 3.0  # of normal scores: the ends of the quantiles have no rank of their own
PARTS = ("days", *(f"{period} {wave}" for period in ("year", "week", "day") for wave in ("sin", "cos")))
ABSENT = "(missing)"
MAX_COLUMNS = 1 << 16


def prepare(columns: Sequence[Column], table: Any, what: str = "the table") -> tuple[NDArray[np.float32], list[str]]:
    """The columns of a table, in whatever order, as inputs (N, F) float32, and a note for each oddity.

    Args:
        columns: as in `Network.about`, or in the description of a run.
        table: as for `as_columns`; `what` names it in messages.

    Raises:
        ValueError: for a missing column, or a cell that is not what its column needs, by name.

    >>> column = {"name": "a", "kind": "number", "fill": 0.0, "missing": False, "mean": 1.0, "std": 2.0}
    >>> prepare([column], {"a": ["3", "5"]})[0].tolist()
    [[1.0], [2.0]]
    """
    try:
        found = as_columns(table)
        absent = [column["name"] for column in columns if column["name"] not in found]
        if absent:
            raise ValueError(f"column {absent[0]!r} is not there, training had it (there are {', '.join(found)})")
        notes: list[str] = []
        parts = [KINDS[column["kind"]].apply(column, found[column["name"]], notes) for column in columns]
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from None
    x = np.concatenate(parts, 1)
    if not (np.abs(x) < np.finfo(np.float32).max).all():
        raise ValueError(f"{what} holds numbers too large for float32: correct them")
    return x.astype(np.float32), [f"{what}: {note}" for note in notes]


def feature_names(columns: Sequence[Column]) -> list[str]:
    """The names of the F numbers that `prepare` gives.

    >>> feature_names([{"name": "c", "kind": "category", "words": ["x", "y"], "rare": ["z"]}])
    ['c = x', 'c = y', 'c is another']
    """
    return [name for column in columns for name in KINDS[column["kind"]].names(column)]


def normal_scores(x: Floats, quantiles: Floats) -> Floats:
    """Φ⁻¹ of the rank of each x among the quantiles, between −3 and 3; Φ is the normal distribution function.

    >>> normal_scores(np.array([0.0, 5.0, 99.0]), np.array([0.0, 10.0])).round(2).tolist()
    [-3.0, 0.0, 3.0]
    """
    ranks = np.linspace(0, 1, len(quantiles))
    # equal quantiles have several ranks: from both sides, and the middle
    rank = 0.5 * (np.interp(x, quantiles, ranks) - np.interp(-x, -quantiles[::-1], -ranks[::-1]))
    rank[x + TINY > quantiles[-1]] = 1
    rank[x - TINY < quantiles[0]] = 0
    edge = NormalDist().cdf(-REACH)
    inverse: Any = np.frompyfunc(NormalDist().inv_cdf, 1, 1)
    scores: Floats = inverse(np.clip(rank, edge, 1 - edge)).astype(np.float64)
    return np.clip(scores, -REACH, REACH)


def _filled(x: Floats, fill: float, column: Column, notes: list[str]) -> Floats:
    holes = np.isnan(x)
    if holes.any() and not column["missing"]:
        notes.append(
            f"{holes.sum()} values of column {column['name']!r} are missing, none was in training: the median "
            f"{fill:.4g} takes their place"
        )
    return np.where(holes, fill, x)


def _number(column: Column, own: Sequence[Cell], notes: list[str]) -> Floats:
    x = numbers(column["name"], own)
    filled = _filled(x, column["fill"], column, notes)
    if "quantiles" in column:
        scaled = normal_scores(filled, np.array(column["quantiles"], np.float64))
    else:
        scaled = (filled - column["mean"]) / column["std"]
    return np.stack([scaled, np.isnan(x)] if column["missing"] else [scaled], 1)


def _date(column: Column, own: Sequence[Cell], notes: list[str]) -> Floats:
    days = numbers(column["name"], own, day, "a date such as 2020-01-31")
    parts = date_parts(days, [part["part"] for part in column["parts"]])
    fill, mean, std = (np.array([part[key] for part in column["parts"]]) for key in ("fill", "mean", "std"))
    holes = np.isnan(days)
    if holes.any() and not column["missing"]:
        notes.append(
            f"{holes.sum()} dates of column {column['name']!r} are missing, none was in training: medians take their "
            "place"
        )
    scaled = (np.where(holes[:, None], fill, parts) - mean) / std
    return np.concatenate([scaled, holes[:, None]], 1) if column["missing"] else scaled


def _category(column: Column, own: Sequence[Cell], notes: list[str]) -> Floats:
    known = {word: i for i, word in enumerate(column["words"])}
    rare, other = set(column["rare"]), len(known)
    found = [ABSENT if word is None else word for word in words(own)]
    new = [word for word in found if word not in known and word not in rare]
    if new:
        names = ", ".join(list(dict.fromkeys(new))[:3])
        counts = "as the rare ones of training do" if rare else "as none of those of training"
        notes.append(f"{len(new)} values of column {column['name']!r} are new ({names[:60]}): they count {counts}")
    x = np.zeros((len(found), other + 1))
    x[np.arange(len(found)), [known.get(word, other) for word in found]] = 1
    return x[:, : other + bool(rare)]


def _missing(column: Column) -> list[str]:
    return [f"{column['name']} is missing"] if column["missing"] else []


class Kind:
    """How one kind of column becomes numbers, what these are called, and what its object must hold."""

    def __init__(
        self,
        apply: Callable[[Column, Sequence[Cell], list[str]], Floats],
        names: Callable[[Column], list[str]],
        fits: Callable[[Column], bool],
    ) -> None:
        self.apply, self.names, self.fits = apply, names, fits


def _scale(column: Column) -> bool:
    return all(_real(column.get(key)) for key in ("fill", "mean", "std")) and bool(column["std"] > 0)


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(v, str) for v in values) and len({*values}) == len(values)


def _ordered(values: Any) -> bool:
    if not (isinstance(values, list) and len(values) >= 2 and all(map(_real, values))):
        return False
    return bool((np.diff(np.array(values, np.float64)) >= 0).all())


KINDS: dict[str, Kind] = {
    "number": Kind(
        _number,
        lambda c: [c["name"], *_missing(c)],
        lambda c: (
            isinstance(c.get("missing"), bool)
            and (_ordered(c["quantiles"]) and _real(c.get("fill")) if "quantiles" in c else _scale(c))
        ),
    ),
    "date": Kind(
        _date,
        lambda c: [*(f"{c['name']} ({part['part']})" for part in c["parts"]), *_missing(c)],
        lambda c: (
            isinstance(c.get("missing"), bool)
            and isinstance(c.get("parts"), list)
            and all(isinstance(part, dict) and part.get("part") in PARTS and _scale(part) for part in c["parts"])
        ),
    ),
    "category": Kind(
        _category,
        lambda c: [
            *(f"{c['name']} = {word}" for word in c["words"]),
            *([f"{c['name']} is another"] if c["rare"] else []),
        ],
        lambda c: _texts(c.get("words")) and _texts(c.get("rare")) and not {*c["words"]} & {*c["rare"]},
    ),
}


def check_columns(columns: Any) -> tuple[Column, ...]:
    """The columns that decoded JSON holds, checked.

    Raises:
        FormatError: naming the first that is not as this module writes it.
    """
    if not isinstance(columns, list) or len(columns) > MAX_COLUMNS:
        raise FormatError(f"columns must be a list of at most {MAX_COLUMNS}")
    for i, column in enumerate(columns):
        kind = KINDS.get(column["kind"]) if isinstance(column, dict) and isinstance(column.get("kind"), str) else None
        if kind is None or not isinstance(column.get("name"), str) or not kind.fits(column):
            raise FormatError(f"column {i} of the table is not one that this release knows: upgrade bayesbinn")
    if len({column["name"] for column in columns}) != len(columns):
        raise FormatError("two columns of the table have one name")
    return tuple(columns)

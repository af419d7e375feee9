"""How the columns of a table become numbers: found on the training rows by scikit-learn, kept as plain data.

`runtime.preparation` applies what is found here, without scikit-learn.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..runtime.columns import Cell, date_parts, day, number, words
from ..runtime.preparation import ABSENT, PARTS, REACH
from .source import Array, some

HEAVY = 10.0  # excess kurtosis from which a number's rank counts instead of its size (an exponential has 6)
FEW = 10  # a column of no more different numbers keeps their size
RARE = 200  # a category of less than one row in so many, or of one row, is rare
MOST = 100  # columns of one category
QUANTILES = 100
OTHER_DATE = re.compile(r"\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b").match


def fit_columns(what: str, table: Mapping[str, list[Cell]]) -> tuple[list[dict[str, Any]], list[str]]:
    """(columns, notes): what `runtime.preparation.prepare` needs to make numbers of tables like this one.

    Raises:
        UserError: where no column is left.

    >>> columns, notes = fit_columns("t", {"a": [1.0, 2.0], "b": ["x", "x"]})
    >>> columns[0]["mean"], notes
    (1.5, ["column 'b' of t is the same in every training row: it is left out"])
    """
    columns, notes = [], list[str]()
    for name, own in table.items():
        kind = kind_of(own)
        reason = useless(kind, own)
        if reason:
            notes.append(f"column {name!r} of {what} {reason}: it is left out")
            continue
        try:
            fitted = FITTED[kind](own)
        except ValueError as error:
            raise UserError(f"{what}: column {name!r} {error}") from None
        columns.append({"name": name, "kind": kind, **fitted})
        notes += (f"column {name!r} of {what} {remark}" for remark in remarks(kind, own, fitted))
    if not columns:
        raise UserError(f"{what} has no column to learn from: every one is constant, empty or an identifier")
    return columns, notes


def transformer(columns: Sequence[Mapping[str, Any]], table: Mapping[str, list[Cell]]) -> tuple[Any, Array]:
    """(ColumnTransformer, its input): scikit-learn's own way to the same numbers, not fitted; one of the two witnesses.

    The input has a column of objects for each column of the table that is used.
    """
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import MissingIndicator

    steps = []
    raw = np.empty((len(next(iter(table.values()))), len(columns)), object)
    for i, column in enumerate(columns):
        own = table[column["name"]]
        raw[:, i] = _raw(column["kind"], own)
        steps.append((f"{i}", STEPS[column["kind"]](own, column), [i]))
        if column.get("missing"):
            steps.append((f"{i} missing", MissingIndicator(features="all"), [i]))
    return ColumnTransformer(steps, sparse_threshold=0), raw


def kind_of(own: Sequence[Cell]) -> str:
    """`number`, `date` or `category`: what every value that is there can be read as.

    >>> kind_of(["1", None, "2.5"]), kind_of(["2020-01-31"]), kind_of(["1", "many"])
    ('number', 'date', 'category')
    """
    known = [cell for cell in own if cell is not None]
    if all(number(cell) is not None or _infinite(cell) for cell in known):
        return "number"
    return "date" if all(day(cell) is not None for cell in known) else "category"


def _infinite(cell: Cell) -> bool:
    return str(cell).lower().lstrip("+-") in ("inf", "infinity")


def useless(kind: str, own: Sequence[Cell]) -> str:
    """Why a column says nothing, in words that follow its name; "" where it does."""
    found = words(own)
    distinct = {word for word in found if word is not None}
    if not distinct:
        return "is empty"
    if len(distinct) == 1 and None not in found:
        return "is the same in every training row"
    if kind == "category" and len(distinct) == len([w for w in found if w is not None]) > 2:
        return "has another text in every row"
    if kind == "category" and not common(found):
        return f"has {len(distinct)} different texts, all of them rare"
    return ""


def common(found: Sequence[str | None]) -> list[str]:
    """The words that get a column of their own."""
    filled = [ABSENT if word is None else word for word in found]
    names, counts = np.unique(np.array(filled, object), return_counts=True)
    return [n for n, c in zip(names, counts, strict=True) if c >= least(len(found))]


def least(rows: int) -> int:
    """How often a word must be there."""
    return max(2, math.ceil(rows / RARE))


def remarks(kind: str, own: Sequence[Cell], fitted: Mapping[str, Any]) -> list[str]:
    """What is filled in or changed, in words that follow the column's name."""
    holes = sum(cell is None for cell in own)
    said = []
    if holes and kind != "category":
        said.append(
            f"lacks {holes} of {len(own)} values: the median takes their place, and a column of its own says where"
        )
    if kind == "category":
        known = [cell for cell in own if cell is not None]
        digits = [cell for cell in known if number(cell) is not None]
        if len(digits) > 0.5 * len(known):
            odd = dict.fromkeys(str(cell) for cell in known if number(cell) is None)
            said.append(f"holds numbers and texts ({some(odd)}): all of them count as categories")
        if any(OTHER_DATE(str(cell)) for cell in known[:20]):
            said.append("looks like dates: only those written as 2020-01-31 are read so, these count as categories")
        if fitted["rare"]:
            said.append(f"has {len(fitted['rare'])} rare values ({some(fitted['rare'])}), which share one column")
    if "quantiles" in fitted:
        said.append("has heavy tails: ranks take the place of its values")
    return said


# --- what scikit-learn does, and what is kept of it ---


def _raw(kind: str, own: Sequence[Cell]) -> Array:
    if kind == "category":
        found = np.empty(len(own), object)
        found[:] = words(own)
        return found
    read = number if kind == "number" else day
    values = [read(cell) for cell in own]
    if None in values:
        raise ValueError("holds infinity: correct it, or leave it empty")
    return np.array(values, np.float64)


def _fitted(kind: str, own: Sequence[Cell], column: Mapping[str, Any]) -> Any:
    return STEPS[kind](own, column).fit(_raw(kind, own)[:, None])


def _number(own: Sequence[Cell]) -> dict[str, Any]:
    x = _raw("number", own)
    known = x[~np.isnan(x)]
    z = (known - known.mean()) / (known.std() or 1)
    heavy = len(np.unique(known)) > FEW and bool(np.mean(z**4) - 3 > HEAVY)
    steps = _fitted("number", own, {"quantiles": True} if heavy else {})
    fitted = {"fill": float(steps[0].statistics_[0]), "missing": len(known) < len(x)}
    if heavy:
        return {**fitted, "quantiles": steps[1].quantiles_[:, 0].tolist()}
    return {**fitted, "mean": float(steps[1].mean_[0]), "std": float(steps[1].scale_[0])}


def _date(own: Sequence[Cell]) -> dict[str, Any]:
    days = _raw("date", own)
    timed = bool((days[~np.isnan(days)] % 1 != 0).any())
    names = [part for part in PARTS if timed or not part.startswith("day ")]
    steps = _fitted("date", own, {"parts": [{"part": name} for name in names]})
    found = zip(names, steps[1].statistics_, steps[2].mean_, steps[2].scale_, strict=True)
    parts = [{"part": n, "fill": float(f), "mean": float(m), "std": float(s)} for n, f, m, s in found]
    return {"missing": bool(np.isnan(days).any()), "parts": parts}


def _category(own: Sequence[Cell]) -> dict[str, Any]:
    encoder = _fitted("category", own, {})[1]
    rare = encoder.infrequent_categories_[0]
    rare = [] if rare is None else [str(word) for word in rare]
    return {"words": [str(w) for w in encoder.categories_[0] if str(w) not in set(rare)], "rare": rare}


def _number_steps(own: Sequence[Cell], column: Mapping[str, Any]) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, QuantileTransformer, StandardScaler

    if "quantiles" not in column:
        return make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    ranks = QuantileTransformer(
        n_quantiles=min(QUANTILES, len(own)), output_distribution="normal", subsample=max(len(own), QUANTILES)
    )
    return make_pipeline(SimpleImputer(strategy="median"), ranks, FunctionTransformer(_within))


def _within(x: Array) -> Array:
    return np.clip(x, -REACH, REACH)


def _date_steps(own: Sequence[Cell], column: Mapping[str, Any]) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    names = [part["part"] for part in column["parts"]]
    parts = FunctionTransformer(lambda x: date_parts(x[:, 0].astype(np.float64), names))
    return make_pipeline(parts, SimpleImputer(strategy="median"), StandardScaler())


def _category_steps(own: Sequence[Cell], column: Mapping[str, Any]) -> Any:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    encoder = OneHotEncoder(
        min_frequency=least(len(own)),
        max_categories=MOST,
        handle_unknown="infrequent_if_exist",
        sparse_output=False,
    )
    return make_pipeline(SimpleImputer(missing_values=None, strategy="constant", fill_value=ABSENT), encoder)


STEPS: dict[str, Callable[[Sequence[Cell], Mapping[str, Any]], Any]] = {
    "number": _number_steps,
    "date": _date_steps,
    "category": _category_steps,
}
FITTED: dict[str, Callable[[Sequence[Cell]], dict[str, Any]]] = {
    "number": _number,
    "date": _date,
    "category": _category,
}

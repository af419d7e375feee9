"""Columns of any kind become numbers: as scikit-learn does it, from plain data, without it."""

import json

import numpy as np
import pandas
import pytest

from bayesbinn.data.prepare import fit_columns, kind_of, transformer
from bayesbinn.errors import UserError
from bayesbinn.runtime import FormatError
from bayesbinn.runtime.columns import as_columns, cells
from bayesbinn.runtime.preparation import check_columns, feature_names, prepare


def table(rows=300, seed=0):
    """Every kind of column, with holes."""
    rng = np.random.default_rng(seed)

    def holes(values, share=0.1):
        return [None if rng.random() < share else value for value in values]

    days = np.datetime64("2019-01-01") + rng.integers(0, 900, rows)
    columns = {
        "age": holes(rng.normal(40, 9, rows).tolist()),
        "plain": rng.normal(size=rows).tolist(),
        "heavy": holes(np.exp(2 * rng.normal(size=rows)).tolist()),
        "often zero": np.maximum(0, rng.standard_t(2, rows)).tolist(),
        "flag": rng.integers(0, 2, rows).tolist(),
        "sex": holes(rng.choice(["f", "m"], rows).tolist(), 0.05),
        "town": [f"t{int(value)}" for value in rng.exponential(4, rows)],
        "born": holes([str(day) for day in days]),
        "seen": [f"{day}T{rng.integers(0, 24):02d}:30" for day in days],
    }
    return {name: cells(values) for name, values in columns.items()}


def test_numpy_alone_gives_what_scikit_learn_gives():
    own = table()
    columns, _ = fit_columns("t", own)
    columns = check_columns(json.loads(json.dumps(columns)))
    assert {column["kind"] for column in columns} == {"number", "date", "category"}
    assert sum("quantiles" in column for column in columns) == 2
    pipeline, raw = transformer(columns, own)
    x, notes = prepare(columns, own)
    np.testing.assert_allclose(x, pipeline.fit_transform(raw), rtol=0, atol=1e-6)
    assert (notes, len(feature_names(columns))) == ([], x.shape[1])
    # and on rows that it has not seen, with categories and extremes of their own
    other = table(seed=1)
    _, raw = transformer(columns, other)
    np.testing.assert_allclose(prepare(columns, other)[0], pipeline.transform(raw), rtol=0, atol=1e-5)


def test_no_pickle_and_no_scikit_learn_to_apply(tmp_path):
    import subprocess
    import sys

    columns, _ = fit_columns("t", table())
    file = tmp_path / "columns.json"
    file.write_text(json.dumps([columns, table(rows=20)]))
    code = (
        "import json, sys; from bayesbinn.runtime.preparation import prepare;"
        f"print(prepare(*json.load(open({str(file)!r})))[0].shape[0]);"
        "assert not {'sklearn', 'torch', 'pandas', 'scipy'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "20\n"


def test_what_is_left_out_or_filled_in_is_said():
    own = {
        "id": [f"n{i}" for i in range(400)],
        "same": ["x"] * 400,
        "none": [None] * 400,
        "age": [None, *(float(i % 50) for i in range(399))],
        "mixed": ["many", *(str(i % 3) for i in range(399))],
        "when": [f"{i % 28 + 1:02d}.01.2020" for i in range(400)],
    }
    columns, notes = fit_columns("t", own)
    assert notes == [
        "column 'id' of t has another text in every row: it is left out",
        "column 'same' of t is the same in every training row: it is left out",
        "column 'none' of t is empty: it is left out",
        "column 'age' of t lacks 1 of 400 values: the median takes their place, and a column of its own says where",
        "column 'mixed' of t holds numbers and texts (many): all of them count as categories",
        "column 'mixed' of t has 1 rare values (many), which share one column",
        "column 'when' of t looks like dates: only those written as 2020-01-31 are read so, these count as categories",
    ]
    assert [column["name"] for column in columns] == ["age", "mixed", "when"]
    with pytest.raises(UserError, match="t has no column to learn from"):
        fit_columns("t", {"id": own["id"], "same": own["same"]})
    with pytest.raises(UserError, match="column 'a' holds infinity: correct it, or leave it empty"):
        fit_columns("t", {"a": ["1", "inf"]})


def test_new_rows_in_another_order_with_new_words_and_holes():
    columns, _ = fit_columns("t", {"a": [1.0, 2.0, 3.0], "c": ["x", "y", "x"], "b": ["u", "u", "v"]})
    turned = {"c": ["y", "z", None], "extra": [1.0] * 3, "b": ["u"] * 3, "a": ["1", "", "3"]}
    x, notes = prepare(columns, turned, "new.csv")
    assert feature_names(columns) == ["a", "c = x", "c is another", "b = u", "b is another"]
    assert x[:, 1:].tolist() == [[0, 1, 1, 0]] * 3
    assert x[1, 0] == 0  # the median is the mean here
    assert notes == [
        "new.csv: 1 values of column 'a' are missing, none was in training: the median 2 takes their place",
        "new.csv: 2 values of column 'c' are new (z, (missing)): they count as the rare ones of training do",
    ]
    with pytest.raises(ValueError, match=r"new\.csv: column 'b' is not there, training had it \(there are a, c\)"):
        prepare(columns, {"a": [1], "c": ["x"]}, "new.csv")
    with pytest.raises(ValueError, match="column 'a', row 2: 'many' is not a number"):
        prepare(columns, turned | {"a": [1, "many", 2]})
    with pytest.raises(ValueError, match="numbers too large for float32"):
        prepare(columns, turned | {"a": [1, 2, 1e300]})


def test_frames_rows_and_columns_are_one_table():
    rows = [{"a": 1, "b": "x", "c": True, "d": None}, {"a": 2, "b": None, "c": False, "d": 0.5}]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    frame = pandas.DataFrame(rows)
    expected = {"a": [1, 2], "b": ["x", None], "c": ["True", "False"], "d": [None, 0.5]}
    for form in (rows, columns, frame, frame.astype({"a": "Int64", "b": "string"})):
        assert as_columns(form) == expected
    dates = pandas.DataFrame({"t": pandas.to_datetime(["2020-01-31", None]), "k": pandas.Categorical([1, 2])})
    assert as_columns(dates) == {"t": ["2020-01-31T00:00:00", None], "k": ["1", "2"]}
    assert [kind_of(own) for own in as_columns(dates).values()] == ["date", "category"]
    for wrong, message in (
        ({"a": [1], "b": [1, 2]}, "column 'b' has 2 values, column 'a' 1"),
        ({}, "no rows"),
        (pandas.DataFrame([[1, 2]], columns=["a", "a"]), "two columns named 'a'"),
        ([[1, 2]], "not list"),
    ):
        with pytest.raises(ValueError, match=message):
            as_columns(wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "image"},
        {"std": 0.0},
        {"mean": "1"},
        {"missing": 1},
        {"quantiles": [2.0, 1.0]},
        {"kind": "category"},
        {"kind": "date", "parts": [{"part": "moon", "fill": 0.0, "mean": 0.0, "std": 1.0}]},
        {"name": 3},
    ],
)
def test_damaged_columns_are_refused(change):
    column = {"name": "a", "kind": "number", "fill": 0.0, "missing": False, "mean": 1.0, "std": 2.0}
    assert check_columns([column]) == (column,)
    with pytest.raises(FormatError, match="column 0 of the table"):
        check_columns([column | change])
    with pytest.raises(FormatError, match="two columns of the table have one name"):
        check_columns([column, column])

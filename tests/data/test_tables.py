"""CSV files: every row has the columns of the header, or is named."""

import numpy as np
import pytest

from bayesbinn.data import load_data
from bayesbinn.data.tables import read_csv
from bayesbinn.errors import UserError

ROWS = "".join(f"{i},{i % 3},{'cat' if i % 2 else 'dog'},{'test' if i > 15 else 'train'}\n" for i in range(20))
GOOD = "a,b,label,split\n" + ROWS


def written(tmp_path, text, encoding="utf-8"):
    (tmp_path / "t.csv").write_bytes(text.encode(encoding))
    return str(tmp_path / "t.csv")


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.replace("\n", "\n\n"),
        "\n\n" + GOOD + "\n\n\n",
        GOOD.replace("a,b", '"a","b"').replace("cat", '"cat"'),
        GOOD.replace(",", ", "),
        "\ufeff" + GOOD,
        GOOD.rstrip("\n"),
    ],
    ids=["plain", "Windows", "empty lines", "around", "quotes", "spaces", "mark of spreadsheets", "no last newline"],
)
def test_ways_to_write_the_same_table(tmp_path, text):
    source = read_csv(written(tmp_path, text))
    assert source.train[0].tolist() == [[i, i % 3] for i in range(16)]
    assert source.test[1].tolist() == ["dog", "cat"] * 2
    data = load_data(f"csv:{tmp_path}/t.csv")
    assert (data.classes, data.input_shape, len(data.test)) == (("cat", "dog"), (2,), 4)


def test_without_a_split_column_a_fifth_of_each_class_is_for_the_test(tmp_path):
    rows = "".join(f"{i},{i % 2 + 1}\n" for i in range(50))
    data = load_data("csv:" + written(tmp_path, "a,label\n" + rows))
    assert (len(data.train), data.test.y.bincount().tolist()) == (40, [5, 5])
    assert [note.split(" ")[0] for note in data.notes] == [data.name, "the"]
    assert data.classes == ("1", "2")


def test_seconds_keep_their_differences(tmp_path):
    rows = "".join(f"{1_700_000_000 + i},{i % 2}\n" for i in range(50))
    data = load_data("csv:" + written(tmp_path, "time,label\n" + rows))
    assert len(np.unique(np.concatenate([data.train.x.numpy(), data.test.x.numpy()]))) == 50


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,label\n1,2,0\n1,5,2,1\n", r"line 3 has 4 fields, the header 3 \(a decimal comma\? write 1\.5\): mend"),
        ("a,b,label\n1,2,0\n1,1\n", r"line 3 has 2 fields, the header 3: mend the line"),
        ("a,b,label\n\n\n1,2,0\n1,1\n", r"line 5 has 2 fields"),
        ("a,a,label\n1,2,0\n", r"t\.csv has two columns named 'a': rename one, or remove it"),
        ("a, a,label\n1,2,0\n", "two columns named 'a'"),
        ("a,label,label\n1,0,1\n", "two columns named 'label'"),
        ('a,b,label\n"1,5",2,0\n', r"line 2: every column must hold a number \(could not convert .*'1,5'\)"),
        ("a,b,label\n1,,0\n", "line 2: every column must hold a number"),
        ("a,b,label\n1,2,\n", "line 2: the label is missing"),
        ("a;b;label\n1;2;0\n", "a column named label, and rows below it: separate the columns by commas"),
        ('a,b,label\n1,"2,0\n', r"cannot read .*t\.csv: "),
        ("a,b,label\n", "and rows below it"),
    ],
)
def test_tables_that_are_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_csv(written(tmp_path, text))


def test_another_encoding_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*t\.csv: 'utf-8' codec can't decode"):
        read_csv(written(tmp_path, "a,label\n1,Käfer\n", "latin-1"))
    with pytest.raises(UserError, match=r"no file at .*none\.csv: give an existing CSV file"):
        read_csv(str(tmp_path / "none.csv"))

"""Tables with a column to predict."""

import numpy as np
import pandas
import pytest
import torch

from bayesbinn.data import load_data
from bayesbinn.errors import UserError


def frame(rows=100, **more):
    rng = np.random.default_rng(0)
    size = rng.normal(5, 2, rows)
    town = rng.choice(["Bern", "Chur"], rows)
    y = size + 3 * (town == "Bern") + rng.normal(size=rows)
    columns = {"size": size, "town": town, "price": 1000 + 50 * y, "dear": np.where(y > 6.5, "yes", "no")}
    return pandas.DataFrame(columns | more)


def test_a_frame_a_csv_and_a_parquet_file_are_the_same_data(tmp_path):
    frame().to_csv(tmp_path / "t.csv", index=False)
    frame().to_parquet(tmp_path / "t.parquet")
    made = [
        load_data(source, target="dear", name="t")
        for source in (frame(), f"csv:{tmp_path}/t.csv", f"parquet:{tmp_path}/t.parquet", frame().to_dict("list"))
    ]
    assert made[0].features == ("size", "town = Bern", "town = Chur", "price")
    assert (made[0].classes, made[0].task, made[0].target) == (("no", "yes"), "classification", "dear")
    assert (len(made[0].train), len(made[0].test), made[0].num_outputs) == (80, 20, 2)
    assert len({data.fingerprint for data in made}) == 1
    torch.testing.assert_close(made[0].train.x.mean(0)[[0, 3]], torch.zeros(2), rtol=0, atol=1e-5)


def test_what_is_known_of_the_columns_comes_from_the_training_rows():
    part = ["train"] * 90 + ["test"] * 10
    far = frame(split=part)
    far.loc[90:, "size"] = 1e6
    assert load_data(far, target="dear").columns[0]["mean"] == pytest.approx(frame()["size"][:90].mean())
    known = load_data(frame(), target="dear")
    other = load_data(far, target="dear", columns=known.columns, classes=known.classes)
    assert other.columns == known.columns
    assert float(other.test.x[:, 0].min()) > 1000


@pytest.mark.parametrize(
    ("target", "task", "found"),
    [
        ("dear", "auto", "classification"),
        ("price", "auto", "regression"),
        ("few", "auto", "classification"),
        ("few", "regression", "regression"),
        ("many", "auto", "regression"),
        ("many", "classification", "classification"),
    ],
)
def test_the_task_is_seen_in_the_target_or_said(target, task, found):
    data = load_data(frame(few=np.arange(100) % 3, many=np.arange(100) // 4), target=target, task=task)
    assert data.task == found
    said = [note for note in data.notes if "unless --task says otherwise" in note]
    assert len(said) == (task == "auto" and target != "dear")


def test_regression_keeps_the_targets_units():
    data = load_data(frame(), target="price")
    assert (data.num_outputs, data.classes, data.train.y.dtype) == (1, (), torch.float32)
    assert data.target_mean == pytest.approx(float(data.train.y.double().mean()), rel=1e-6)
    assert data.target_std == pytest.approx(float(data.train.y.std(correction=0)), rel=1e-5)
    x, y = np.random.default_rng(0).normal(size=(50, 3)), np.linspace(0, 1, 50)
    arrays = load_data((x, y), task="regression")
    assert (arrays.task, len(arrays.test), arrays.target) == ("regression", 10, "")
    with pytest.raises(UserError, match="labels must be whole numbers or names"):
        load_data((x, y))


def test_rows_without_a_target_are_left_out():
    holes = frame()
    holes.loc[:4, "dear"] = None
    data = load_data(holes, target="dear", name="t")
    assert data.notes[0] == "5 rows of t have no dear: they are left out"
    assert len(data.train) + len(data.test) == 95


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({}, {"target": "cost"}, "data: there is no column 'cost' to predict (there are size, town, price, dear)"),
        ({}, {"target": "dear", "task": "regression"}, "column 'dear' holds '.*', regression predicts finite numbers"),
        ({}, {"target": "dear", "task": "ranking"}, "unknown task 'ranking'"),
        ({"dear": None}, {"target": "dear"}, "column 'dear' is empty"),
        ({"price": 7.0}, {"target": "price", "task": "regression"}, "every target of training is 7"),
        ({"price": 1e9 + np.arange(100)}, {"target": "price"}, "too little for float32: subtract their mean"),
        ({"split": "train"}, {"target": "dear"}, "there are no test rows"),
        ({"split": "dev"}, {"target": "dear"}, "row 1: split must be train or test, got 'dev'"),
        ({"dear": "no"}, {"target": "dear"}, "holds one class only"),
    ],
)
def test_tables_that_are_refused(change, settings, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)")):
        load_data(frame().assign(**change), **settings)


def test_a_target_is_for_tables(tmp_path):
    with pytest.raises(UserError, match=r"target 'y' is for tables \(csv:FILE, parquet:FILE\), digits is none"):
        load_data("digits", target="y")
    frame().to_parquet(tmp_path / "t.parquet")
    with pytest.raises(UserError, match="say which column to predict by --target NAME"):
        load_data(f"parquet:{tmp_path}/t.parquet")
    with pytest.raises(UserError, match="give an existing Parquet file"):
        load_data(f"parquet:{tmp_path}/none.parquet", target="y")
    (tmp_path / "bad.parquet").write_bytes(b"no parquet at all")
    with pytest.raises(UserError, match=r"cannot read .*bad\.parquet"):
        load_data(f"parquet:{tmp_path}/bad.parquet", target="y")
    (tmp_path / "t.csv").write_text("a;y\n1;2\n")
    with pytest.raises(UserError, match="separate the columns by commas"):
        load_data(f"csv:{tmp_path}/t.csv", target="y")

"""What a run remembers of its data: names of classes, offsets, paths, and whether they have changed since."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bayesbinn.training.config import read_toml
from tests.runs import blobs, contents

TINY = ("--width", 16, "--depth", 1, "--epochs", 1, "--samples", 4)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def saved(name, **change):
    np.savez(name, **(blobs() | change))


def words(y):
    return np.array(["ant", "bee", "cat"])[y]


def test_class_names_reach_the_predictions(cli, place):
    y = blobs()["y_train"], blobs()["y_test"]
    saved("set.npz", y_train=words(y[0]), y_test=words(y[1]))
    assert cli("train", "npz:set.npz", "--output", "run", *TINY).exit_code == 0
    rows = list(csv.DictReader(cli("predict", "run", "set.npz").stdout.splitlines()))
    assert len(rows) == 40
    assert all(row["class"] == words(int(row["label"])) for row in rows)
    line = json.loads(cli("predict", "run", "set.npz", "--json").stdout.splitlines()[0])
    assert line["class"] == words(line["label"])
    # another set is numbered as the run was: its own order would call "bee" 0
    known = blobs()["y_test"] > 0
    x = {"x_train": blobs()["x_test"][known], "x_test": blobs()["x_test"][known]}
    saved("other.npz", **x, y_train=words(y[1])[known], y_test=words(y[1])[known])
    result = json.loads(cli("evaluate", "run", "--data", "npz:other.npz", "--json").stdout)
    correct = [row["class"] == word for row, word in zip(rows, words(y[1]), strict=True)]
    assert result["mean"]["accuracy"] == pytest.approx(np.mean(np.array(correct)[known]), abs=0.05)


def test_columns_of_any_scale_train_and_predict_as_well(cli, place):
    results = {}
    for name, factor, shift in (("plain", 1.0, 0.0), ("far", 1.0, 1.7e9), ("small", 5e-7, 0.0)):
        x = {k: blobs()[k].astype(np.float64) * factor + shift for k in ("x_train", "x_test")}
        saved(f"{name}.npz", **x)
        done = cli("train", f"npz:{name}.npz", "--output", name, *TINY, "--epochs", 10)
        assert done.exit_code == 0, done.output
        assert done.stderr.count("is subtracted from them") == (name == "far")
        rows = list(csv.DictReader(cli("predict", name, f"{name}.npz").stdout.splitlines()))
        results[name] = [row["label"] for row in rows]
        accuracy = json.loads(cli("evaluate", name, "--json").stdout)["mean"]["accuracy"]
        assert accuracy == pytest.approx(np.mean([int(r["label"]) for r in rows] == blobs()["y_test"]))
        assert accuracy > 0.8
    done = cli("export", "far", "--output", "far.bbnn")  # whose inputs would be used as they are
    assert (done.exit_code, "their offset is subtracted before the network" in done.stderr) == (2, True)
    assert not Path("far.bbnn").exists()
    for name in ("far", "small"):
        assert np.mean(np.array(results["plain"]) == np.array(results[name])) > 0.9


def test_notes_are_said_once_and_not_when_quiet(cli, place):
    saved("set.npz", y_train=blobs()["y_train"] + 1, y_test=blobs()["y_test"] + 1)
    note = "note: the labels 1, 2, 3 of npz:set.npz are numbered 0 to 2\n"
    assert cli("train", "npz:set.npz", "--output", "run", *TINY).stderr == note
    changed = cli("evaluate", "run", "--no-report")
    assert (changed.stderr, cli("evaluate", "run", "--no-report", "-q").stderr) == ("", "")
    Image.new("RGBA", (8, 8)).save("glass.png")
    saved("images.npz", **blobs((8, 8)))
    assert cli("train", "npz:images.npz", "--output", "images", *TINY).stderr == ""
    done = cli("predict", "images", "glass.png", "glass.png")
    assert done.stderr == "note: glass.png has transparent parts: they become white\n"
    assert cli("predict", "images", "glass.png", "--quiet").stderr == ""


def test_a_run_finds_its_data_from_elsewhere(cli, place, monkeypatch):
    saved("set.npz")
    assert cli("train", "npz:set.npz", "--output", "run", *TINY).exit_code == 0
    assert read_toml(place / "run" / "config.toml")["data"] == f"npz:{place}/set.npz"
    assert cli("train", "npz:set.npz", "--output", "run", "--resume", *TINY).exit_code == 0
    (place / "deeper").mkdir()
    monkeypatch.chdir(place / "deeper")
    done = cli("evaluate", "../run", "--no-report")
    assert (done.exit_code, done.stderr) == (0, "")
    assert cli("evaluate", "../run", "--data", "npz:../set.npz", "--no-report").stdout == done.stdout


def test_data_that_have_changed_are_noticed(cli, place):
    saved("set.npz")
    assert cli("train", "npz:set.npz", "--output", "run", *TINY).exit_code == 0
    x = blobs()["x_train"]
    x[0, 0] += 1
    saved("set.npz", x_train=x)
    before = contents(place)
    done = cli("train", "--output", "run", "--resume")
    assert done.exit_code == 2
    assert "checkpoint of run is of another run: data is '100+40 examples, digest " in done.stderr
    assert contents(place) == before
    done = cli("evaluate", "run", "--no-report")
    assert done.exit_code == 0
    assert done.stderr.startswith(f"note: npz:{place}/set.npz has changed since training: 100+40 examples, digest ")


def test_tables_from_training_to_predictions(cli, place):
    rows = [f"{1_700_000_000 + i},{i % 3},{words(i % 3)}" for i in range(100)]
    (place / "t.csv").write_text("\n".join(["time,b,label", *rows]))
    done = cli("train", "csv:t.csv", "--output", "run", *TINY)
    assert done.exit_code == 0, done.output
    first, second = done.stderr.splitlines()
    assert first == "note: csv:t.csv has no test part: 21 of 100 examples, a fifth of each class, become it"
    assert second.startswith("note: float32 cannot tell apart the values of feature 0 of csv:t.csv: 17000000")
    rows = list(csv.DictReader(cli("predict", "run", "t.csv").stdout.splitlines()))
    assert (len(rows), {row["class"] for row in rows} <= {"ant", "bee", "cat"}) == (100, True)
    (place / "turned.csv").write_text("b,time,label\n" + "1,2,ant\n" * 9)
    for arguments in (("predict", "run", "turned.csv"), ("evaluate", "run", "--data", "csv:turned.csv")):
        done = cli(*arguments)
        assert done.exit_code == 2
        assert "turned.csv has 'b' as column 1, training has 'time' there: give the same columns" in done.stderr

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
    saved("images.npz", **{k: v * 30 + 128 for k, v in blobs((8, 8)).items() if k.startswith("x")})
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


def test_inputs_in_other_units_are_noticed(cli, place):
    unit = {k: (v / 255).clip(0, 1) for k, v in blobs((8, 8)).items() if k.startswith("x")}
    bytes_ = {k: (v * 1e4).clip(0, 255).astype(np.uint8) for k, v in unit.items()}
    saved("unit.npz", **unit)
    saved("bytes.npz", **bytes_)
    assert cli("train", "npz:unit.npz", "--output", "run", *TINY).exit_code == 0
    Image.fromarray(bytes_["x_test"][0]).save("x.png")
    done = cli("predict", "run", "x.png")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "x.png is read as 0 to 255, training had 0 to 0.0" in done.stderr
    for command in (
        ("predict", "run", "bytes.npz"),
        ("evaluate", "run", "--data", "npz:bytes.npz", "--no-report"),
        ("evaluate", "run", "--ood", "npz:bytes.npz", "--no-report"),
    ):
        done = cli(*command)
        assert done.exit_code == 0, done.output
        assert "has values from 0 to 167, training had 0 to 0.0" in done.stderr


def test_an_ensemble_needs_runs_of_one_data_set(cli, place):
    saved("a.npz")
    saved("c.npz", y_train=words(blobs()["y_train"]), y_test=words(blobs()["y_test"]))
    saved("far.npz", **{k: blobs()[k].astype(np.float64) + 1.7e9 for k in ("x_train", "x_test")})
    for name in ("b", "d"):  # the same again under another name, and other examples
        saved(f"{name}.npz", x_train=blobs()["x_train"] + (name == "d"))
    done = [cli("train", f"npz:{n}.npz", "--output", n, "--validation", 0.1, *TINY).exit_code for n in "abcd"]
    done += [cli("train", "npz:far.npz", "--output", "far", *TINY).exit_code]
    done += [cli("train", "npz:a.npz", "--output", "more", "--validation", 0.2, *TINY).exit_code]
    assert done == [0] * 6
    for other, message, *options in (
        ("c", "c has classes ant, bee, cat, a has 0, 1, 2: an ensemble needs runs of the same inputs and classes"),
        ("far", "far has offset 1699999999.7, "),
        ("d", "d.npz, a on npz:"),
        ("more", "--scale needs examples that no run has trained on, and more held out others than a", "--scale"),
    ):
        shown = cli("evaluate", "a", other, "--no-report", *options)
        assert (shown.exit_code, message in shown.stderr) == (2, True), shown.stderr
    assert cli("evaluate", "a", "more", "--no-report").exit_code == 0
    assert cli("evaluate", "a", "d", "--data", "npz:a.npz", "--no-report").stderr == ""
    assert "temperature" in cli("evaluate", "a", "b", "--scale", "--no-report").stdout
    saved("a.npz", x_train=blobs()["x_train"] + 1)
    lines = cli("evaluate", "a", "b", "--no-report").stderr.splitlines()
    assert [f"a.npz has changed since training of {run}: " in line for run, line in zip("ab", lines, strict=True)] == [
        True,
        True,
    ]
    assert (
        "--scale needs the examples that were held out in training, and npz:" in cli("evaluate", "a", "--scale").stderr
    )


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

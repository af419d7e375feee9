"""A person's own table from training to a shipped file: categories, holes and dates; classes and numbers."""

import csv
import json

import numpy as np
import pandas
import pytest

from bayesbinn import runtime

TINY = ("--width", 16, "--depth", 1, "--samples", 4, "--threads", 1)


def people(rows=120, seed=0):
    rng = np.random.default_rng(seed)
    age, town = rng.normal(40, 10, rows), rng.choice(["Bern", "Chur", "Zug"], rows)
    day = np.datetime64("2020-01-01") + rng.integers(0, 600, rows)
    y = (age - 40) / 10 + 2.0 * (town == "Bern") + 0.3 * rng.normal(size=rows)
    frame = pandas.DataFrame({"age": age, "town": town, "joined": day, "amount": 500 + 40 * y, "paid": y > 0.5})
    frame.loc[rng.random(rows) < 0.1, "age"] = None
    frame["id"] = [f"p{i}" for i in range(rows)]
    return frame


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    people().to_csv(folder / "people.csv", index=False)
    people(seed=1)[["town", "id", "age", "joined"]].to_csv(folder / "new.csv", index=False)
    return folder


@pytest.fixture
def cli_here(cli, place, monkeypatch):
    monkeypatch.chdir(place)
    return cli


def rows_of(done):
    assert done.exit_code == 0, done.output
    return list(csv.DictReader(done.stdout.splitlines()))


def test_classes_of_raw_columns_are_the_same_from_a_run_and_from_its_file(cli_here, place):
    drop = pandas.read_csv("people.csv").drop(columns="amount")
    drop.to_csv("classes.csv", index=False)
    settings = ("--epochs", 40, "--dropout", 0, *TINY)
    done = cli_here("train", "csv:classes.csv", "--target", "paid", "--output", "run", *settings)
    assert done.exit_code == 0, done.output
    assert "note: column 'id' of csv:classes.csv has another text in every row: it is left out\n" in done.stderr
    assert "note: column 'age' of csv:classes.csv lacks " in done.stderr
    again = cli_here("train", "csv:classes.csv", "--target", "paid", "--output", "run", "--resume", "--width", 16)
    assert again.exit_code == 0, again.output
    assert cli_here("inspect", "run").stdout.splitlines()[2] == "classification of paid: False, True"
    np.save("x.npy", np.zeros((3, 11)))
    assert "x.npy has no named columns" in cli_here("predict", "run", "x.npy").stderr
    export = ("--samples", 4, "--activations", "int16", "--output", "run.bbnn")
    assert cli_here("export", "run", *export).exit_code == 0
    own, packed = (rows_of(cli_here("predict", run, "new.csv", *more)) for run, more in
                   (("run", ("--samples", 4)), ("run.bbnn", ())))  # fmt: skip
    assert [row["class"] for row in own] == [row["class"] for row in packed]
    assert {row["class"] for row in own} == {"True", "False"}
    gaps = [float(a["probability"]) - float(b["probability"]) for a, b in zip(own, packed, strict=True)]
    assert max(map(abs, gaps)) < 2e-3
    right = [row["class"] == str(paid) for row, paid in zip(own, people(seed=1)["paid"], strict=True)]
    assert np.mean(right) > 0.75 > np.mean(people(seed=1)["paid"]) + 0.1
    # the same from Python, without torch
    shown = cli_here("inspect", "run.bbnn").stdout.splitlines()
    assert shown[-2:] == [
        "classification of paid: False, True",
        "columns: age (number), town (category), joined (date)",
    ]
    net = runtime.load(place / "run.bbnn")
    assert net.about.classes == ("False", "True")
    labels = net.predict(net.prepare(people(seed=1))).argmax(1)
    assert [net.about.classes[i] for i in labels] == [row["class"] for row in own]


def test_numbers_of_raw_columns(cli_here, place):
    numbers = pandas.read_csv("people.csv").drop(columns="paid")
    numbers.to_csv("numbers.csv", index=False)
    settings = ("--target", "amount", "--epochs", 60, "--dropout", 0, *TINY)
    done = cli_here("train", "csv:numbers.csv", "--output", "reg", *settings)
    assert done.exit_code == 0, done.output
    assert "task regression, unless --task says otherwise" in done.stderr
    assert "in 90 % interval" in done.stdout
    assert "epoch 60/60" in done.stdout
    result = json.loads(cli_here("evaluate", "reg", "--json").stdout)
    spread = people()["amount"].std()
    assert result["mean"]["rmse"] < 0.8 * spread
    assert result["mean"]["nll"] < np.log(spread) + 0.5 * np.log(2 * np.pi * np.e)  # of a constant
    assert result["mode"].keys() == {"rmse", "nll", "r2", "coverage_50", "coverage_90"}
    page = (place / "reg" / "report.html").read_text(encoding="utf-8")
    assert "Predictions beside targets" in page
    assert "Do the intervals hold?" in page
    export = ("--samples", 4, "--activations", "int16", "--output", "reg.bbnn")
    assert cli_here("export", "reg", *export).exit_code == 0
    own, packed = (rows_of(cli_here("predict", run, "new.csv", *more)) for run, more in
                   (("reg", ("--samples", 4)), ("reg.bbnn", ())))  # fmt: skip
    for key in ("mean", "sd", "aleatoric", "epistemic"):
        a, b = (np.array([float(row[key]) for row in rows]) for rows in (own, packed))
        np.testing.assert_allclose(a, b, rtol=0, atol=0.02 * spread)
    sd, parts = (np.array([float(row[k]) for row in own]) for k in ("sd", "aleatoric")), own
    total, noise = sd
    np.testing.assert_allclose(total**2, noise**2 + np.array([float(r["epistemic"]) for r in parts]) ** 2, rtol=1e-4)
    with pytest.raises(ValueError, match="trained for regression: predict_regression"):
        runtime.load(place / "reg.bbnn").predict(np.zeros((1, 13)))
    for words, message in (
        (("evaluate", "reg", "--ood", "noise"), "ood compares class probabilities, this network predicts a number"),
        (
            ("train", "csv:numbers.csv", "--target", "amount", "--class-weight", "balanced", "--output", "no"),
            "is for classes",
        ),
    ):
        done = cli_here(*words)
        assert (done.exit_code, message in done.stderr) == (2, True), done.output


def test_what_is_wrong_with_new_rows_is_said(cli_here, place):
    frame = people(seed=1).drop(columns=["amount", "paid"])
    people().drop(columns="amount").to_csv("small.csv", index=False)
    done = cli_here("train", "csv:small.csv", "--target", "paid", "--output", "said", *TINY, "--epochs", 1)
    assert done.exit_code == 0, done.output
    frame.drop(columns="town").to_csv("lacks.csv", index=False)
    done = cli_here("predict", "said", "lacks.csv")
    assert done.exit_code == 2
    assert done.stderr == "error: lacks.csv: column 'town' is not there, training had it (there are age, joined, id)\n"
    frame.assign(town=["Genf"] * 3 + ["Bern"] * 117).to_csv("new-town.csv", index=False)
    done = cli_here("predict", "said", "new-town.csv")
    assert "note: new-town.csv: 3 values of column 'town' are new (Genf)" in done.stderr
    frame.assign(age="old").to_csv("word.csv", index=False)
    assert "column 'age', row 1: 'old' is not a number" in cli_here("predict", "said", "word.csv").stderr
    other = people(seed=2).drop(columns="amount").iloc[:, ::-1]
    other.to_csv("turned.csv", index=False)
    done = cli_here("evaluate", "said", "--data", "csv:turned.csv", "--no-report")
    assert done.exit_code == 0, done.output
    assert "columns of csv:turned.csv that training did not use: id" in done.stderr
    assert cli_here("export", "said", "--output", "said.bbnn").exit_code == 0
    assert "holds 0 samples, not 2" in cli_here("predict", "said.bbnn", "new.csv", "--samples", 2).stderr
    assert "--seed is for a run" in cli_here("predict", "said.bbnn", "new.csv", "--seed", 2).stderr
    assert "no file at none.bbnn" in cli_here("predict", "none.bbnn", "new.csv").stderr


def test_balanced_classes_find_the_rare_one(cli_here, place):
    rng = np.random.default_rng(0)
    rare = rng.random(400) < 0.08
    pandas.DataFrame({"a": rng.normal(size=400) + 1.2 * rare, "y": np.where(rare, "rare", "often")}).to_csv("rare.csv")
    found = {}
    for weight in ("none", "balanced"):
        words = ("train", "csv:rare.csv", "--target", "y", "--epochs", 10, "--class-weight", weight)
        done = cli_here(*words, "--output", weight, *TINY)
        assert done.exit_code == 0, done.output
        found[weight] = [row["class"] for row in rows_of(cli_here("predict", weight, "rare.csv"))].count("rare")
    assert found["none"] < 20 < found["balanced"]


def test_another_table_is_evaluated_as_a_whole(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = people()[["age", "town", "joined", "paid"]].astype({"paid": str})
    frame.to_csv("old.csv", index=False)
    frame.tail(50).to_csv("new.csv", index=False)
    options = ("--width", 16, "--depth", 1, "--epochs", 2, "--samples", 2, "--target", "paid", "--output", "run")
    assert cli("train", "csv:old.csv", *options).exit_code == 0
    done = cli("evaluate", "run", "--data", "csv:new.csv", "--no-report", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["num_examples"] == 50
    assert "become it" not in done.stderr

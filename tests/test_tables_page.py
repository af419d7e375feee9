"""What docs/tables.md shows runs, as it shows it; its figures are the stored ones."""

import subprocess
import sys

import numpy as np
import pytest

from tests.cli.test_tables_command import people
from tests.pages import ROOT, codes, commands, page, run_commands, run_python

PAGE = page("tables.md")
TINY = ["--epochs", "2", "--width", "16", "--depth", "1", "--samples", "4", "--threads", "1"]


def frame():
    return people()[["age", "town", "joined", "paid"]].astype({"paid": str})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    for name in ("people", "new"):
        frame().to_csv(folder / f"{name}.csv", index=False)
    (folder / "runs").mkdir()
    return folder


def test_the_commands_and_then_the_snippets_run(place, monkeypatch):
    monkeypatch.chdir(place)
    (console,) = codes(PAGE, "console")
    assert len(commands(console)) == 6
    run_commands(console, {"train": TINY})
    x = np.random.default_rng(0).normal(size=(60, 3))
    names = {"frame": frame(), "x": x, "y": x[:, 0] > 0, "x_more": x, "y_more": x[:, 0] > 0, "amounts": x[:, 1]}
    learn, ship, estimators = codes(PAGE, "python")
    run_python(learn, names, "tables.md")
    assert 0 <= names["fitted"].evaluation["mean"]["accuracy"] <= 1
    run_python(ship, names, "tables.md")
    assert names["p"].probs.shape == (1, 2)
    names |= {"x": x}
    run_python(estimators, names, "tables.md")
    assert names["probs"].shape == (60, 2)
    assert names["sd"].shape == (60,)


def test_the_measured_figures_are_the_stored_ones():
    command = [sys.executable, str(ROOT / "experiments" / "tabular.py"), "page", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

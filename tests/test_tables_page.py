"""What docs/tables.md shows runs, as it shows it; its figures are the stored ones."""

import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bayesbinn.cli import main
from tests.cli.test_tables_command import people

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
TINY = ["--epochs", "2", "--width", "16", "--depth", "1", "--samples", "4", "--threads", "1"]


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


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
    lines = [shlex.split(line, comments=True) for line in blocks("console")[0].splitlines()]
    assert len(lines) == 6
    for _, command, *words in lines:
        done = CliRunner().invoke(main, [command, *words, *(TINY if command == "train" else [])])
        assert done.exit_code == 0, (command, words, done.output)
    x = np.random.default_rng(0).normal(size=(60, 3))
    names = {"frame": frame(), "x": x, "y": x[:, 0] > 0, "x_more": x, "y_more": x[:, 0] > 0, "amounts": x[:, 1]}
    learn, ship, estimators = blocks("python")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what the snippet's table lacks, said in words
        exec(compile(learn, "docs/tables.md", "exec"), names)
    assert 0 <= names["fitted"].evaluation["mean"]["accuracy"] <= 1
    exec(compile(ship, "docs/tables.md", "exec"), names)
    assert names["p"].probs.shape == (1, 2)
    names |= {"x": x}
    exec(compile(estimators, "docs/tables.md", "exec"), names)
    assert names["probs"].shape == (60, 2)
    assert names["sd"].shape == (60,)


def test_the_measured_figures_are_the_stored_ones():
    command = [sys.executable, str(ROOT / "experiments" / "tabular.py"), "page", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

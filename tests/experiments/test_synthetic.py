"""The synthetic problems: rows, figures and wrong recipes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import synthetic
from experiments.synthetic_page import figures

ROOT = Path(__file__).parents[2]
RECIPE = """title = "small"
seeds = [0, 1]
[settings]
problem = "{problem}"
epochs = 2
num_samples = 2
[settings.posteriors.default]
"""


def solve(folder, text):
    (folder / "small.toml").write_text(text, encoding="utf-8")
    words = ["--config", str(folder / "small.toml"), "--output", str(folder / "small.json")]
    command = [sys.executable, str(ROOT / "experiments" / "synthetic.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


@pytest.mark.parametrize(("problem", "metric"), [("two-moons", "test accuracy %"), ("regression-1d", "training RMSE")])
def test_a_row_for_every_network_and_a_panel_for_each(tmp_path, problem, metric):
    done = solve(tmp_path, RECIPE.format(problem=problem))
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "small.json").read_text(encoding="utf-8"))
    rows = ["STE", "default, mode", "default, mean"]
    assert list(results["summary"]) == rows
    assert all(len(seeds) == 2 and seeds[0][metric] != seeds[1][metric] for seeds in results["summary"].values())
    assert [line.partition("[")[2].partition(":")[0] for line in figures(results, tmp_path)] == rows
    assert len(list(tmp_path.glob("small-*.svg"))) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs", "epoch"), "did you mean 'epochs'?"),
        (("two-moons", "two-moon"), "did you mean 'two-moons'?"),
        (("default]", "default]\nlrate = 1"), "unknown setting of"),
        (("default]", 'default]\nestimator = "drew"'), "did you mean 'draw'?"),
        (('"two-moons"', '"regression-1d"\npoints = "gone.txt"'), "there is no file gone.txt"),
        (('"two-moons"', '"regression-1d"\npoints = "small.toml"'), "small.toml must have two columns of numbers"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_sentence(tmp_path, monkeypatch, capsys, change, message):
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(RECIPE.format(problem="two-moons").replace(*change), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["synthetic.py", "--config", "small.toml", "--output", "small.json"])
    with pytest.raises(SystemExit) as refused:
        synthetic.main()
    assert refused.value.code == 1
    assert message in capsys.readouterr().err
    assert not Path("small.json").exists()

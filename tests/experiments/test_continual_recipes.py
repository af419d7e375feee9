"""Recipes of continual runs are sound, their commands mean what they run, the page is as its generator writes it."""

import json
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from bayesbinn.cli import main
from bayesbinn.training.config import make, read_toml
from bayesbinn.training.strategies import ContinualConfig
from experiments import continual, continual_tables

ROOT = Path(__file__).parents[2]
RECIPES = sorted(ROOT.glob("experiments/continual-*/*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_run_of_a_recipe_resolves_and_its_command_means_the_same(path: Path, tmp_path: Path) -> None:
    recipe = read_toml(path)
    for run in recipe["runs"]:
        settings = continual.settings_of(recipe, run, seed=3)
        config = make(ContinualConfig, settings)
        assert (config.seed, config.stream_seed) == (3, settings["stream_seed"])
        words = shlex.split(continual.command(settings))[1:]
        shown = CliRunner().invoke(main, [*words, "--print-config"])
        assert shown.exit_code == 0, shown.output
        (tmp_path / "config.toml").write_text(shown.output)
        assert make(ContinualConfig, read_toml(tmp_path / "config.toml")) == config


def test_a_recipe_runs_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "recipe.toml").write_text(
        'title = "digits"\nseeds = [0]\n'
        '[settings]\ndata = "permuted-digits"\ntasks = 2\nepochs = 1\nbatch_size = 128\nwidth = 16\nsamples = 2\n'
        '[runs.prior]\n[runs.naive]\nstrategy = "naive"\n'
    )
    monkeypatch.setattr(continual, "ROOT", tmp_path)
    monkeypatch.setattr(continual, "commit", lambda: "0123456789ab")  # no clone there
    output = tmp_path / "results.json"
    for _ in range(2):
        continual.run_recipe(tmp_path / "recipe.toml", output, tmp_path / "work", [], [])
    assert capsys.readouterr().out.count("task 2/2") == 2  # each run once
    results = json.loads(output.read_text())["results"]
    assert set(results) == {"prior", "naive"}
    assert results["naive"]["0"]["environment"]["command"].startswith("bayesbinn continual permuted-digits --tasks 2")


def test_the_pages_are_as_their_generator_writes_them(tmp_path: Path) -> None:
    assert continual_tables.page(tmp_path) == continual_tables.PAGE.read_text(encoding="utf-8")


def test_results_stored_side_by_side_are_all_kept(tmp_path: Path) -> None:
    output = tmp_path / "results.json"
    new = [{"title": "t", "results": {run: {seed: {"x": 1}}}} for run in ("a", "b") for seed in ("0", "1")]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda result: continual.store(output, result), new))
    stored = json.loads(output.read_text())
    assert stored["title"] == "t"
    assert {run: set(seeds) for run, seeds in stored["results"].items()} == {"a": {"0", "1"}, "b": {"0", "1"}}

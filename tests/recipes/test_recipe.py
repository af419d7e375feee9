"""Recipes are checked whole before anything runs, and every recipe of the repository passes."""

from pathlib import Path

import pytest

from bayesbinn.errors import UserError
from bayesbinn.recipes.recipe import find_recipe, read_results
from bayesbinn.recipes.reproduce import _is_current

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
RECIPES = sorted(EXPERIMENTS.glob("*/*.toml"))
GOOD = """
title = "a recipe"
seeds = [0, 1]
[settings]
epochs = 2
[runs.bayesbinn]
[runs.hot]
method = "bayesbinn"
kl_weight = 1.0
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "digits").mkdir()
    return tmp_path


def write(folder, text, name="smoke"):
    (folder / "digits" / f"{name}.toml").write_text(text, encoding="utf-8")


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_recipes_of_the_repository(path):
    if "continual" in path.parent.name:
        return  # of another command: tests/experiments/test_continual_recipes.py
    recipe = find_recipe(EXPERIMENTS, path.parent.name, path.stem)
    assert recipe.script is not None or recipe.runs
    assert recipe.title


def test_stored_results_are_what_their_recipes_would_give():
    """So `reproduce` runs none of them again, but for those of a rule that is no more, which say so."""
    for path in RECIPES:
        recipe = find_recipe(EXPERIMENTS, path.parent.name, path.stem)
        if recipe.script:
            continue
        stored = read_results(EXPERIMENTS / "results" / f"{recipe.name}.json")
        for run, seeds in stored.get("runs", {}).items():
            for seed, result in seeds.items():
                former = result.get("form", "").startswith("former")
                assert _is_current(result, recipe.run_settings(run, int(seed))) != former, (recipe.name, run, seed)


def test_settings_of_a_run(folder):
    write(folder, GOOD)
    recipe = find_recipe(folder, "digits", "smoke")
    assert recipe.run_settings("hot", 1) == {"epochs": 2, "method": "bayesbinn", "kl_weight": 1.0, "seed": 1}
    assert recipe.run_settings("bayesbinn", 0) == {"epochs": 2, "method": "bayesbinn", "seed": 0}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("epochs", "epoch"), r"unknown setting 'epoch': did you mean 'epochs'\?"),
        (GOOD.replace("kl_weight", "klweight"), r"run 'hot'.*'klweight': did you mean 'kl_weight'\?"),
        (GOOD.replace("seeds", "seed"), r"'seed': did you mean 'seeds'\?"),
        (GOOD.replace("runs.bayesbinn]", "runs.bayesbin]"), r"unknown method 'bayesbin': did you mean 'bayesbinn'\?"),
        (GOOD + "threshold = 1e-8\n", r"method 'bayesbinn' takes no threshold"),
        (GOOD.replace("epochs = 2", "epochs = 0"), r"epochs must be at least 1, got 0"),
        ('title = "nothing"\n', r"has no \[runs.NAME\]"),
        ('script = "gone.py"\n', r"names the script gone.py, which is not in"),
        ("title = ", r"cannot read .* as TOML"),
        (GOOD.replace("[0, 1]", "3"), r"smoke\.toml: seeds must be a list of whole numbers, got 3"),
        (
            GOOD.replace("[0, 1]", '["a"]'),
            r"smoke\.toml: seeds must be different whole numbers, at least one, got \['a'\]",
        ),
        (GOOD.replace("[0, 1]", "[true, 2]"), r"seeds must be different whole numbers, at least one, got \[True, 2\]"),
        (GOOD.replace("[0, 1]", "[1, 1]"), r"seeds must be different whole numbers, at least one, got \[1, 1\]"),
        (GOOD.replace("[0, 1]", "[]"), r"seeds must be different whole numbers, at least one, got \[\]"),
        (GOOD.replace("[0, 1]", "[0, -1]"), r"run 'bayesbinn': seed must be at least 0, got -1"),
        (GOOD.replace("epochs = 2", "seed = 2"), r"run 'bayesbinn': a seed of its own has no effect here"),
        (GOOD + "seed = 2\n", r"run 'hot': a seed of its own has no effect here"),
        (GOOD.replace('"a recipe"', "5"), r"smoke\.toml: title must be a text, got 5"),
        ("settings = 3\n[runs.ste]\n", r"smoke\.toml: settings must be a table, \[settings\], got 3"),
        ("runs = ['ste']\n", r"smoke\.toml: runs must be tables, \[runs\.NAME\], got \['ste'\]"),
        ("[runs]\nste = 1\n", r"smoke\.toml: runs\.ste must be a table, \[runs\.ste\], got 1"),
        ("script = true\n", r"smoke\.toml: script must be the name of a file, got True"),
    ],
)
def test_what_is_wrong_is_named(folder, text, message):
    write(folder, text)
    with pytest.raises(UserError, match=message):
        find_recipe(folder, "digits", "smoke")


def test_unknown_items_and_budgets_name_the_nearest(folder):
    write(folder, GOOD)
    write(folder, GOOD, name="paper")
    with pytest.raises(UserError, match=r"unknown item 'digit': did you mean 'digits'\?"):
        find_recipe(folder, "digit", "smoke")
    with pytest.raises(
        UserError, match=r"unknown budget of digits 'smok': did you mean 'smoke'\? \(valid: paper, smoke\)"
    ):
        find_recipe(folder, "digits", "smok")
    with pytest.raises(UserError, match="call reproduce in a clone of the repository"):
        find_recipe(folder / "nowhere", "digits", "smoke")


def test_damaged_results_are_refused(tmp_path):
    assert read_results(tmp_path / "none.json") == {}
    for text in ("{", "[]", "3"):
        (tmp_path / "bad.json").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="move the file away"):
            read_results(tmp_path / "bad.json")

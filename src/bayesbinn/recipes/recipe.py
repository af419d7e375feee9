"""Recipes: a set of training runs, several seeds each, and where their results are stored.

    title = "MNIST, MLP 784-512×3-10, 10 epochs"
    seeds = [0, 1, 2]

    [settings]            # of every run: the fields of Config
    data = "mnist"

    [runs.bayesbinn]      # a run's own settings; its method is its name unless `method` says otherwise
    [runs.ste]
    lr = 0.001

A recipe with `script = "FILE.py"` in place of runs hands its `[settings]` to that script.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UserError, unknown
from ..training.config import make_config, read_toml

# what a recipe may hold: each key with its type, and that type in words
KEYS: dict[str, tuple[type, str]] = {
    "title": (str, "a text"),
    "seeds": (list, "a list of whole numbers"),
    "settings": (dict, "a table, [settings]"),
    "runs": (dict, "tables, [runs.NAME]"),
    "script": (str, "the name of a file"),
    "note": (str, "a text"),
}


@dataclass(frozen=True)
class Recipe:
    """A checked recipe; `name` is ITEM-BUDGET, `path` its file."""

    name: str
    path: Path
    title: str
    seeds: list[int]
    settings: dict[str, Any]
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    script: Path | None = None

    def run_settings(self, run: str, seed: int) -> dict[str, Any]:
        """The settings of one run: what the recipe shares, the run's own, and the seed."""
        return {**self.settings, "method": run, **self.runs[run], "seed": seed}


def items_of(folder: Path) -> list[str]:
    """The items that have recipes, by name.

    Raises:
        UserError: if there are none.
    """
    items = sorted({path.parent.name for path in folder.glob("*/*.toml")})
    if not items:
        raise UserError(
            f"no recipes under {folder}: call reproduce in a clone of the repository, or give --experiments"
        )
    return items


def check_item(folder: Path, item: str) -> None:
    """Refuse an item without a recipe.

    Raises:
        UserError: naming the nearest.
    """
    items = items_of(folder)
    if item not in items:
        raise unknown("item", item, [*items, "all"])


def find_recipe(folder: Path, item: str, budget: str) -> Recipe:
    """The recipe FOLDER/ITEM/BUDGET.toml, checked whole, so that nothing fails after hours.

    Raises:
        UserError: for an unknown item or budget (naming the nearest), a key that does not exist, or a setting that
            `train` would refuse.
    """
    check_item(folder, item)
    budgets = sorted(path.stem for path in (folder / item).glob("*.toml"))
    if budget not in budgets:
        raise unknown(f"budget of {item}", budget, budgets)
    path = folder / item / f"{budget}.toml"
    content = read_toml(path)
    _check(path, content)
    script = content.get("script")
    recipe = Recipe(
        name=f"{item}-{budget}",
        path=path,
        title=content.get("title", item),
        seeds=content.get("seeds", [0]),
        settings=content.get("settings", {}),
        runs=content.get("runs", {}),
        script=folder / script if script else None,
    )
    if recipe.script is not None:
        if not recipe.script.is_file():
            raise UserError(f"{path} names the script {script}, which is not in {folder}")
        return recipe
    if not recipe.runs:
        raise UserError(f"{path} has no [runs.NAME]: give at least one")
    for run in recipe.runs:
        if "seed" in {**recipe.settings, **recipe.runs[run]}:
            raise UserError(f"{path}, run {run!r}: a seed of its own has no effect here, give all of them as seeds")
        for seed in recipe.seeds:
            try:
                make_config(recipe.run_settings(run, seed))
            except UserError as error:
                raise UserError(f"{path}, run {run!r}: {error}") from None
    return recipe


def _check(path: Path, content: dict[str, Any]) -> None:
    """Refuse unknown keys, and values of another type than `KEYS` has.

    Raises:
        UserError: naming the file and the key.
    """
    for key, value in content.items():
        if key not in KEYS:
            raise unknown(f"key of {path}", key, KEYS)
        kind, words = KEYS[key]
        if not isinstance(value, kind):
            raise UserError(f"{path}: {key} must be {words}, got {value!r}")
    for run, settings in content.get("runs", {}).items():
        if not isinstance(settings, dict):
            raise UserError(f"{path}: runs.{run} must be a table, [runs.{run}], got {settings!r}")
    seeds = content.get("seeds", [0])
    if not seeds or any(type(seed) is not int for seed in seeds) or len(set(seeds)) < len(seeds):
        raise UserError(f"{path}: seeds must be different whole numbers, at least one, got {seeds!r}")


def read_results(path: Path) -> dict[str, Any]:
    """The results stored so far, or {} if there are none.

    Raises:
        UserError: if the file holds no JSON object.
    """
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the results in {path} ({error}): move the file away") from None
    if not isinstance(results, dict):
        raise UserError(f"the results in {path} are no JSON object: move the file away")
    return results

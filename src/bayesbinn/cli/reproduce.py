"""`bayesbinn reproduce`."""

import os
from pathlib import Path

import click

from ..train.errors import UserError
from ..train.recipe import find_recipe
from ..train.reproduce import reproduce as run_recipe


@click.command()
@click.argument("item")
@click.option("--budget", default="smoke", show_default=True, help="smoke: minutes; day: hours on a CPU; paper: a GPU.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="the cores", help="Runs side by side.")
@click.option("--experiments", type=click.Path(path_type=Path), default=Path("experiments"), show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True)
def reproduce(item: str, budget: str, jobs: int, experiments: Path, work: Path) -> None:
    """Run the recipe EXPERIMENTS/ITEM/BUDGET.toml: all its methods and seeds, skipping what is already stored.

    Results go to EXPERIMENTS/results/ITEM-BUDGET.json; experiments/tables.py turns them into docs/reproduction.md.
    """
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {jobs}")
    recipe = find_recipe(experiments, item, budget)
    path = run_recipe(recipe, experiments / "results", work, jobs, say=click.echo)
    click.echo(f"stored in {path}")

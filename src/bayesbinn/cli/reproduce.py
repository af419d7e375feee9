"""`bayesbinn reproduce`."""

import os
import signal
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..errors import UserError
from ..locks import one_writer
from ..recipes.recipe import find_recipe
from ..recipes.reproduce import reproduce as run_recipe


@click.command()
@click.argument("item")
@click.option("--budget", default="smoke", show_default=True, help="smoke: minutes; day: hours on a CPU; paper: a GPU.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="the cores", help="Runs side by side.")
@click.option("--experiments", type=click.Path(path_type=Path), default=Path("experiments"), show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True)
def reproduce(item: str, budget: str, jobs: int, experiments: Path, work: Path) -> None:
    """Run the recipe EXPERIMENTS/ITEM/BUDGET.toml: all its methods and seeds, skipping what is already stored.

    Results go to EXPERIMENTS/results/ITEM-BUDGET.json; experiments/tables.py turns them into docs/reproduction.md.
    Interrupt it whenever you like: the runs under way save what they have, and the same command continues them.
    """
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {jobs}")
    recipe = find_recipe(experiments, item, budget)
    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def say(line: str) -> None:
            bars.console.print(line, highlight=False) if console.is_terminal else click.echo(line)

        def progress(label: str, done: int, epochs: int) -> None:
            if console.is_terminal:
                if label not in tasks:
                    tasks[label] = bars.add_task(label, total=epochs)
                bars.update(tasks[label], completed=done, visible=done < epochs)
            else:
                click.echo(f"{label}: epoch {done}/{epochs}")

        # a scheduler's end is an interruption like Ctrl-C
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with one_writer(work / recipe.name):
                path = run_recipe(recipe, experiments / "results", work, jobs, say, progress)
        except KeyboardInterrupt:
            click.echo(f"stopped, with everything saved in {work}: the same command goes on from there", err=True)
            sys.exit(130)
        finally:
            signal.signal(signal.SIGTERM, before)
    click.echo(f"stored in {path}")

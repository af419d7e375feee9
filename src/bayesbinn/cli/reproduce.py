"""`bayesbinn reproduce`."""

import os
import signal
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..errors import UserError
from ..locks import one_writer
from ..recipes.recipe import Recipe, check_item, find_recipe, items_of
from ..recipes.reproduce import reproduce as run_recipe
from ..recipes.show import find_results, made_by, show
from .tables import table

ALL = "all"


@click.command()
@click.argument("item")
@click.option(
    "--budget",
    help="smoke: minutes; day: hours on a CPU; paper: a GPU.  Default: the largest stored; with --again smoke.",
)
@click.option("--again", is_flag=True, help="Run the recipe, instead of showing what is stored.")
@click.option("--store", is_flag=True, help="With --again: results go to EXPERIMENTS/results, not to WORK/results.")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="the cores", help="Runs side by side.")
@click.option("--experiments", type=click.Path(path_type=Path), default=Path("experiments"), show_default=True)
@click.option("--work", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True)
def reproduce(
    item: str, budget: str | None, again: bool, store: bool, jobs: int, experiments: Path, work: Path
) -> None:
    """Show the stored results of an item of the paper or of this project, or make them again.

    With --again it runs the recipe EXPERIMENTS/ITEM/BUDGET.toml: all its methods and seeds, skipping what is already
    stored.  Interrupt it whenever you like: the runs under way save what they have, and the same command continues
    them.  ITEM `all` takes every item in turn.  experiments/tables.py turns stored results into docs/reproduction.md.
    """
    if jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {jobs}")
    if not again and store:
        raise UserError("--store is for results that --again makes: give both, or none")
    if item != ALL:
        if again:
            path = _run(find_recipe(experiments, item, budget or "smoke"), store, jobs, experiments, work)
            click.echo(f"stored in {path}")
            click.echo("\n".join(table(show(path))))
        else:
            _show(item, budget, experiments)
    elif again:
        _run_all(budget or "smoke", store, jobs, experiments, work)
    else:
        for each in items_of(experiments):
            click.echo(f"\n{each}")
            try:
                _show(each, budget, experiments)
            except UserError as error:
                click.echo(str(error))


def _show(item: str, budget: str | None, experiments: Path) -> None:
    if budget is None:
        check_item(experiments, item)
    else:
        find_recipe(experiments, item, budget)
    path = find_results(experiments / "results", item, budget)
    lines, found = table(show(path)), path.stem.removeprefix(f"{item}-")
    last = f"stored in {path}{made_by(path)}: bayesbinn reproduce {item} --budget {found} --again makes it anew"
    click.echo("\n".join([*lines, last]))


def _run_all(budget: str, store: bool, jobs: int, experiments: Path, work: Path) -> None:
    """Every item that has a recipe of this budget; what fails is said, and the others are run."""
    items = items_of(experiments)
    chosen = [item for item in items if (experiments / item / f"{budget}.toml").is_file()]
    if not chosen:
        raise UserError(f"no item has a recipe of the budget {budget!r}")
    if left := [item for item in items if item not in chosen]:
        click.echo(f"without a recipe of the budget {budget}, and not run: {', '.join(left)}")
    failed = []
    for item in chosen:
        started = time.monotonic()
        click.echo(f"\n{item}")
        try:
            path = _run(find_recipe(experiments, item, budget), store, jobs, experiments, work)
            click.echo(f"stored in {path}")
            click.echo("\n".join(table(show(path))))
        except UserError as error:
            click.echo(f"failed: {error}")
            failed.append(item)
        click.echo(f"{item}: {time.monotonic() - started:.0f} s")
    if failed:
        raise UserError(f"{len(failed)} of {len(chosen)} items failed ({', '.join(failed)}): see above")


def _run(recipe: Recipe, store: bool, jobs: int, experiments: Path, work: Path) -> Path:
    """Run a recipe with a bar for each run on a terminal, or a line for each epoch."""
    results = experiments / "results" if store else work / "results"
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
                return run_recipe(recipe, results, work, jobs, say, progress)
        except KeyboardInterrupt:
            click.echo(f"stopped, with everything saved in {work}: the same command goes on from there", err=True)
            sys.exit(130)
        finally:
            signal.signal(signal.SIGTERM, before)

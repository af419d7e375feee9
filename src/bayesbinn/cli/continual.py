"""`bayesbinn continual`."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..evaluation.continual_report import write_report
from ..training import config as configuration
from ..training.continual import train_continual
from ..training.continual_config import NOT_USED, STRATEGIES, ContinualConfig
from ..training.continual_loop import ContinualCallbacks
from ..training.loop import StoppedError
from .tables import table
from .train import StopSignals, settings_options

_STRATEGIES = "\n\n\b\nStrategies:\n" + "\n".join(f"  {name:16}{row.summary}" for name, row in STRATEGIES.items())


@click.command(
    help="Learn task after task from STREAM into a run folder.\n\nSTREAM is permuted-DATA, rotated-DATA or split-DATA, "
    "with DATA as in `train`, or tasks:FOLDER with a .npz (x_train, y_train, x_test, y_test) or .csv file (a column "
    "label, numbers in the others) per task." + _STRATEGIES
)
@click.argument("stream", required=False)
@click.option("--output", type=click.Path(path_type=Path), help="The run's folder (needed).")
@click.option("--resume", is_flag=True, help="Continue the run in --output bit for bit; start it if there is none.")
@partial(settings_options, config=ContinualConfig, without=NOT_USED)
def continual(
    stream: str | None, output: Path | None, resume: bool, recipe: Path | None, print_config: bool, **options: Any
) -> None:
    given = {"data": stream, **options}
    settings = configuration.read_toml(recipe) if recipe else {}
    settings |= {key: value for key, value in given.items() if value is not None}
    if print_config:
        click.echo(configuration.to_toml(configuration.make(ContinualConfig, settings)), nl=False)
        return
    if output is None:
        raise click.UsageError("Missing option '--output': name a folder for the run, e.g. --output runs/first")

    console = Console(stderr=True)
    columns = TextColumn("task {task.fields[index]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with StopSignals() as stop, Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        shown = bar.add_task("", total=None, index=1)

        def after_step(index: int, done: int, total: int) -> None:
            bar.update(shown, completed=done, total=total, index=index + 1)

        def after_task(line: dict[str, Any], tasks: int) -> None:
            text = task_line(line, tasks)
            bar.console.print(text, highlight=False) if console.is_terminal else click.echo(text)

        try:
            callbacks = ContinualCallbacks(after_step, after_task, stop.asked)
            result = train_continual(settings, output, resume=resume, callbacks=callbacks)
        except StoppedError:
            click.echo(f"stopped and saved: continue with bayesbinn continual --output {output} --resume", err=True)
            sys.exit(stop.exit_status)
    click.echo("\n".join(result_lines(result)))
    click.echo(f"saved in {output}: {', '.join(write_report(result, output))}")


def task_line(line: dict[str, Any], tasks: int) -> str:
    """One plain line about a task."""
    seen = line["accuracy"][: line["task"]]
    words = [
        f"task {line['task']}/{tasks}",
        f"accuracy {seen[-1]:.2%}",
        f"average so far {sum(seen) / len(seen):.2%}",
        *([f"entropy {line['entropy']:.3f}", f"saturated {line['saturated']:.1%}"] if "entropy" in line else []),
        *([f"OOD AUROC {line['ood_auroc']:.3f}"] if "ood_auroc" in line else []),
        f"{line['seconds']:.1f} s",
    ]
    return "  ".join(words)


def result_lines(result: dict[str, Any]) -> list[str]:
    """The final averages as text: over all tasks, the last 20 and the last 5."""
    m, samples = result["metrics"], result["config"]["samples"]
    rows = [["after the last task", "all tasks", "last 20", "last 5"]]
    for which, label in (("mean", f"mean of {samples}"), ("mode", "mode")):
        rows.append([label, *(f"{m[f'{which}_{span}']:.2%}" for span in ("average", "last_20", "last_5"))])
    return [
        *table(rows),
        f"when learned {m['learning']:.2%}, forgetting {m['forgetting']:.2%}, backward transfer "
        f"{m['backward_transfer']:+.2%}, forward transfer {m['forward_transfer']:+.2%}",
    ]

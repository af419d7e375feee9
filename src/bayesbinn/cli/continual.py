"""`bayesbinn continual`."""

from pathlib import Path
from typing import Any

import click

from ..evaluation.report import stream_page, write_report
from ..training.continual import train_continual
from ..training.course import Callbacks
from ..training.logs import LOGS, told
from ..training.strategies import ContinualConfig
from .session import needed, session
from .settings import SettingsCommand, given, printed, settings_options
from .tables import result_lines, task_line


class ContinualCommand(SettingsCommand):
    """Its settings are those of a stream."""

    config = ContinualConfig


@click.command(cls=ContinualCommand)
@click.argument("stream", required=False)
@click.option("--output", type=click.Path(path_type=Path), help="The run's folder (needed).")
@click.option("--resume", is_flag=True, help="Continue the run in --output bit for bit; start it if there is none.")
@click.option("--log", type=click.Choice(tuple(LOGS)), help="Write each epoch's figures there too.")
@settings_options(ContinualConfig)
def continual(
    stream: str | None,
    output: Path | None,
    resume: bool,
    log: str | None,
    recipe: Path | None,
    print_config: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Learn task after task from STREAM into a run folder.

    STREAM is permuted-DATA, rotated-DATA or split-DATA, with DATA as in `train`, or tasks:FOLDER with a .npz (x_train,
    y_train, x_test, y_test) or .csv file (a column label, numbers in the others) per task.
    """
    settings = given(recipe, {"data": stream, **options})
    if print_config:
        click.echo(printed(ContinualConfig, settings), nl=False)
        return
    output = needed(output)
    with session("continual", output, quiet) as s:

        def after_task(line: dict[str, Any], tasks: int) -> None:
            s.bar.update(s.shown, description=f"task {line['task'] + 1} ")
            s.say(task_line(line, tasks))

        epoch = told(LOGS[log](output) if log else None)
        callbacks = Callbacks(s.step, epoch, task=after_task, stop=s.asked, note=s.note)
        result = train_continual(settings, output, resume=resume, callbacks=callbacks)
    write_report(output / "report.html", stream_page(result, output.resolve().name))
    if not quiet:
        click.echo("\n".join([*result_lines(result), f"saved in {output}: results.json, report.html"]))

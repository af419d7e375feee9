"""`bayesbinn train`."""

from pathlib import Path
from typing import Any

import click

from ..training.config import Config
from ..training.course import Callbacks
from ..training.distributed import SHARDINGS, ranks
from ..training.logs import LOGS, told
from ..training.run import train as run_training
from .session import needed, session
from .settings import SettingsCommand, given, printed, settings_options
from .tables import epoch_line, evaluation_lines


@click.command(cls=SettingsCommand)
@click.argument("data", required=False)
@click.option("--output", type=click.Path(path_type=Path), help="The run's folder (needed).")
@click.option("--resume", is_flag=True, help="Continue the run in --output bit for bit; start it if there is none.")
@click.option(
    "--sharding", type=click.Choice(SHARDINGS), default="none", help="Under torchrun: full splits λ over the processes."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1.0, max=1e6),
    default=600.0,
    help="Under torchrun: seconds after which a silent process counts as gone.  [default: 600]",
)
@click.option("--log", type=click.Choice(tuple(LOGS)), help="Write each epoch's figures there too.")
@settings_options(Config)
def train(
    data: str | None,
    output: Path | None,
    resume: bool,
    sharding: str,
    timeout: float,
    log: str | None,
    recipe: Path | None,
    print_config: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Train a network on DATA into a run folder; under torchrun, with all its processes.

    DATA is digits (embedded, the default), mnist, fashion-mnist, cifar10, cifar100 (NAME.npz under $BAYESBINN_DATA),
    npz:FILE (arrays x_train, y_train, x_test, y_test), csv:FILE or parquet:FILE with --target NAME (any kind of column,
    perhaps a column split), csv:FILE (a header, a column label, numbers in the others), imagefolder:DIR
    (DIR/train/CLASS/*.png with DIR/val or DIR/test or both, or DIR/CLASS/*.png; --image-size for images of several
    sizes), hf:NAME, text:FILE or text:DIR (for --model gpt).
    """
    rank, size = ranks()
    settings = given(recipe, {"data": data, **options})
    if print_config:
        text = printed(Config, settings)
        if rank == 0:
            click.echo(text, nl=False)
        return
    output = needed(output)
    with session("train", output, quiet, rank, size) as s:
        on_metrics = LOGS[log](output) if log and rank == 0 else None
        epoch = told(on_metrics, lambda line, epochs: s.say(epoch_line(line, epochs)))
        callbacks = Callbacks(s.step, epoch, stop=s.asked, note=s.note)
        result = run_training(settings, output, resume=resume, callbacks=callbacks, sharding=sharding, timeout=timeout)
    if rank == 0 and not quiet:
        click.echo("\n".join([*evaluation_lines(result), f"saved in {output}"]))

"""`bayesbinn train`."""

import dataclasses
import signal
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..environment import keep_freed_memory
from ..training import config as configuration
from ..training.distributed import SHARDINGS, LostError, PeerError, ranks
from ..training.loop import Callbacks, StoppedError
from ..training.methods import check_method
from ..training.run import train as run_training
from .notes import show_notes
from .tables import evaluation_lines


def settings_options(
    command: Callable[..., Any],
    config: type[configuration.Config] = configuration.Config,
    without: Collection[str] = (),
) -> Callable[..., Any]:
    """A `--setting` option for every field of `config` but those in `without`, and --config and --print-config."""
    for f in reversed(dataclasses.fields(config)):
        name = f.name
        if name == "data" or name in without:
            continue
        kind, help = configuration.field_type(name, config), f.metadata["help"]
        flag = f"--{name.replace('_', '-')}"
        if kind is bool:
            flag = f"{flag}/--no-{name.replace('_', '-')}"
        choices = f.metadata.get("choices")
        shown = f"{help}  [default: {f.default}]" if f.default is not None else f"{help}  [default: the method's]"
        command = click.option(flag, name, type=click.Choice(choices) if choices else kind, default=None, help=shown)(
            command
        )
    command = click.option("--print-config", is_flag=True, help="Print the settings as TOML and exit.")(command)
    return click.option(
        "--config", "recipe", type=click.Path(path_type=Path), help="TOML file of settings; options override it."
    )(command)


@click.command()
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
@settings_options
def train(
    data: str | None,
    output: Path | None,
    resume: bool,
    sharding: str,
    timeout: float,
    recipe: Path | None,
    print_config: bool,
    **options: Any,
) -> None:
    """Train a network on DATA into a run folder; under torchrun, with all its processes.

    DATA is digits (embedded, the default), mnist, fashion-mnist, cifar10, cifar100 (NAME.npz under $BAYESBINN_DATA),
    npz:FILE (arrays x_train, y_train, x_test, y_test), csv:FILE (a header, a column label, numbers in the
    others, perhaps a column split), imagefolder:DIR (DIR/train/CLASS/*.png, DIR/test/...), hf:NAME.
    """
    rank, size = ranks()
    given = {"data": data, **options}
    settings = configuration.read_toml(recipe) if recipe else {}
    settings |= {key: value for key, value in given.items() if value is not None}
    if print_config:
        config = configuration.make_config(settings)
        check_method(config)
        if rank == 0:
            click.echo(configuration.to_toml(config), nl=False)
        return
    if output is None:
        raise click.UsageError("Missing option '--output': name a folder for the run, e.g. --output runs/first")

    console = Console(stderr=True)
    keep_freed_memory()
    columns = TextColumn("steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    quiet = rank > 0 or not console.is_terminal
    # torchrun passes on a signal that a scheduler or terminal has sent to all: a second one need not mean impatience
    with StopSignals(patient=size > 1) as stop, Progress(*columns, console=console, disable=quiet) as bar:
        task = bar.add_task("", total=None)

        def after_step(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        def after_epoch(line: dict[str, Any], epochs: int) -> None:
            if rank > 0:
                return
            text = epoch_line(line, epochs)
            bar.console.print(text, highlight=False) if console.is_terminal else click.echo(text)

        callbacks = Callbacks(after_step, after_epoch, stop.asked, lambda note: show_notes([note]))
        try:
            result = run_training(
                settings, output, resume=resume, callbacks=callbacks, sharding=sharding, timeout=timeout
            )
        except StoppedError:
            if rank == 0:
                click.echo(f"stopped and saved: continue with bayesbinn train --output {output} --resume", err=True)
            sys.exit(stop.exit_status)
        except LostError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except PeerError:
            sys.exit(1)
    if rank == 0:
        click.echo("\n".join(evaluation_lines(result)))
        click.echo(f"saved in {output}")


class StopSignals:
    """Inside, Ctrl-C and a scheduler's SIGTERM ask the loop to save and stop; a second signal stops at once, unless
    `patient`."""

    def __init__(self, patient: bool = False) -> None:
        self.received: int | None = None
        self.patient = patient

    def __enter__(self) -> "StopSignals":
        self.before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        if self.received is not None and not self.patient:
            raise KeyboardInterrupt
        self.received = number

    def asked(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    @property
    def exit_status(self) -> int:
        """0 after SIGTERM (a scheduler's ordinary end), 130 after Ctrl-C; as SIGTERM, if another rank has had it."""
        return 130 if self.received == signal.SIGINT else 0


def epoch_line(line: dict[str, Any], epochs: int) -> str:
    """One plain line about an epoch."""
    part = "test" if "test_accuracy" in line else "validation"
    words = [
        f"epoch {line['epoch']}/{epochs}",
        f"loss {line['loss']:.4f}",
        f"nll {line['nll']:.4f}",
        *([f"kl {line['kl']:,.0f}"] if "kl" in line else []),
        f"accuracy {line['accuracy']:.2%}",
        f"{part} {line[f'{part}_accuracy']:.2%}",
        *([f"entropy {line['entropy']:.3f}"] if "entropy" in line else []),
        *([f"flips {line['flip_rate']:.2%}"] if line.get("flip_rate") is not None else []),
        f"{line['seconds']:.1f} s",
    ]
    return "  ".join(words)

"""What the commands that train share: a progress bar, lines, and ends in good order."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ..environment import keep_freed_memory
from ..training.course import StoppedError
from ..training.distributed import LostError, PeerError
from .notes import show_notes


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


@dataclass
class Session:
    """The outside of a training loop: `step`, `say` and `asked` are for its callbacks."""

    signals: StopSignals
    bar: Progress
    shown: TaskID
    quiet: bool

    def step(self, done: int, total: int) -> None:
        """Move the bar."""
        self.bar.update(self.shown, completed=done, total=total)

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if not self.quiet:
            self.bar.console.print(line, highlight=False) if self.bar.console.is_terminal else click.echo(line)

    def note(self, sentence: str) -> None:
        """Say what was left out or changed of the data."""
        show_notes([sentence], self.quiet)

    def asked(self) -> bool:
        """Whether to stop."""
        return self.signals.asked()


@contextmanager
def session(command: str, output: Path, quiet: bool, rank: int = 0, size: int = 1) -> Iterator[Session]:
    """Inside, a run is trained into `output`; an early end becomes a sentence and an exit status."""
    console = Console(stderr=True)
    keep_freed_memory()
    columns = TextColumn("{task.description}steps"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    hidden = rank > 0 or quiet or not console.is_terminal
    # torchrun passes on a signal that a scheduler or terminal has sent to all: a second one need not mean impatience
    with StopSignals(patient=size > 1) as stop, Progress(*columns, console=console, disable=hidden) as bar:
        try:
            yield Session(stop, bar, bar.add_task("", total=None), quiet or rank > 0)
        except StoppedError:
            if rank == 0 and not quiet:
                click.echo(f"stopped and saved: continue with bayesbinn {command} --output {output} --resume", err=True)
            sys.exit(stop.exit_status)
        except LostError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(1)
        except PeerError:
            sys.exit(1)


def needed(output: Path | None) -> Path:
    """The folder of `--output`, which there must be."""
    if output is None:
        raise click.UsageError("Missing option '--output': name a folder for the run, e.g. --output runs/first")
    return output

"""What a person should know of the data, printed once."""

from collections.abc import Iterable

import click


def show_notes(notes: Iterable[str], quiet: bool = False) -> None:
    """Print each note once, to stderr."""
    for note in () if quiet else dict.fromkeys(notes):
        click.echo(f"note: {note}", err=True)

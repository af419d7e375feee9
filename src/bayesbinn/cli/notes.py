"""What a person should know of the data, printed once, and of options that would do nothing."""

from collections.abc import Iterable

import click
from click.core import ParameterSource

from ..errors import UserError


def show_notes(notes: Iterable[str], quiet: bool = False) -> None:
    """Print each note once, to stderr."""
    for note in () if quiet else dict.fromkeys(notes):
        click.echo(f"note: {note}", err=True)


def refuse_options(sentence: str, *names: str) -> None:
    """A UserError for the first of these options that the command line holds; `sentence` has a {} for its name."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UserError(sentence.format(name))

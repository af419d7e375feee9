"""What the tests of pages share: their blocks of code, and how each kind is run."""

import re
import shlex
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from bayesbinn.cli import main

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
NUMBER = re.compile(r"[-+]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?")


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        language: the word after the fence.
        text: what is between the fences.
        line: of the first fence, from 1.
    """

    language: str
    text: str
    line: int


def page(name: str) -> str:
    """The text of a page under docs/, or of another file of the repository."""
    path = DOCS / name
    return (path if path.exists() else ROOT / name).read_text(encoding="utf-8")


def blocks(text: str) -> list[Block]:
    """All fenced blocks, in order.

    >>> blocks("A\\n```python\\n1 + 1\\n```\\n")
    [Block(language='python', text='1 + 1\\n', line=2)]
    """
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 1) for m in found]


def codes(text: str, language: str) -> list[str]:
    """The blocks of one language."""
    return [block.text for block in blocks(text) if block.language == language]


def section(text: str, title: str) -> str:
    """What is under a heading of the second level."""
    return text.partition(f"## {title}\n")[2].partition("\n## ")[0]


def commands(console: str) -> list[list[str]]:
    """The words of each `bayesbinn` command in a block, without comments; other lines are for the reader's shell."""
    lines = console.replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("bayesbinn ")]


def run_python(code: str, names: dict[str, Any], name: str, line: int = 1) -> str:
    """Execute a block in `names` and return what it printed; a warning of what it shows is no error."""
    printed = StringIO()
    with warnings.catch_warnings(), redirect_stdout(printed), redirect_stderr(StringIO()):
        warnings.simplefilter("ignore", UserWarning)
        exec(compile("\n" * line + code, name, "exec"), names)
    return printed.getvalue()


def run_commands(console: str, more: dict[str, Sequence[str]] | None = None) -> None:
    """Call each command of a block, with `more` options for some; all must end well."""
    for command, *words in commands(console):
        done = CliRunner().invoke(main, [command, *words, *(more or {}).get(command, ())])
        assert done.exit_code == 0, (command, words, done.output)


def run_page(name: str, names: dict[str, Any] | None = None, more: dict[str, Sequence[str]] | None = None) -> Any:
    """Run all of a page from top to bottom, in the current folder.

    A block `text` after one of Python is what that prints; its numbers depend on the machine, so they are not compared.

    Returns:
        The names that its Python has made.
    """
    names = {"__name__": "page"} if names is None else names
    printed = None
    for block in blocks(page(name)):
        if block.language == "python":
            printed = run_python(block.text, names, name, block.line)
        elif block.language == "console":
            run_commands(block.text, more)
        elif block.language == "text" and printed is not None:
            assert shape(printed) == shape(block.text), (name, block.line, printed)
            printed = None
    return names


def shape(text: str) -> str:
    """The text with its numbers and the width of its spaces taken out.

    >>> shape("layer   0: 98.5 %") == shape("layer 12:  1.25 %")
    True
    """
    return " ".join(NUMBER.sub("#", text).split())

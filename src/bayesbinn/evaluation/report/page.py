"""The page: what its template knows to show, and how it is written."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from ...files import write_text


@dataclass(frozen=True)
class Table:
    """A caption, the heads of the columns, and rows of as many cells; the first cell is the row's head.

    `shades`: how strongly the other cells of each row are coloured, 0 to 1, and 0 to −1 in the colour of what is
    wrong; none are without it.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    shades: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class Figure:
    """A chart under its title, what it says in words, a key where it has several lines, and its numbers.

    `keys`: (name, colour in the style sheet, dashes in SVG) of each line.
    """

    title: str
    words: str
    svg: str
    keys: Sequence[tuple[str, str, str]]
    numbers: Table


@dataclass(frozen=True)
class Example:
    """An input with its predicted distribution: image (a data URI, or ""), text for it, verdict, (class, share)s."""

    image: str
    alt: str
    verdict: str
    right: bool
    probs: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading: what it has of text, charts, a table, examples by title, and code by name.

    `name` is its anchor.
    """

    name: str
    heading: str
    text: str = ""
    figures: Sequence[Figure] = ()
    table: Table | None = None
    examples: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """A whole report: `lead` stands below the title, `notes` say what was left out; `tiles`: (name, figure, note)."""

    title: str
    lead: str
    tiles: Sequence[tuple[str, str, str]]
    sections: Sequence[Section]
    notes: Sequence[str] = ()


def render(page: Page) -> str:
    """The HTML document: no script, no request, colours of the reader's choice of light or dark.

    >>> "<h1>a &lt; b</h1>" in render(Page("a < b", "", [], []))
    True
    """
    from jinja2 import Environment, StrictUndefined  # slow to import

    here = files(__package__)
    template, style = ((here / name).read_text(encoding="utf-8") for name in ("page.html", "page.css"))
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return environment.from_string(template).render(page=page, style=style)


def write_report(path: Path, page: Page) -> None:
    """Write the page to `path`, whole or not at all."""
    write_text(path, render(page))


def number(value: float) -> str:
    """A number to four digits, or to its unit if that is more.

    >>> number(24281.3), number(0.84871), number(0.0)
    ('24,281', '0.8487', '0')
    """
    if value and not 1e-4 <= abs(value) < 1e12:
        return f"{value:.4g}"
    return f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}" if value else "0"


def percent(value: float, digits: int = 2) -> str:
    """A share as text.

    >>> percent(0.9884)
    '98.84 %'
    """
    return f"{100 * value:.{digits}f} %"

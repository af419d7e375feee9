"""Charts by matplotlib as inline SVG: coloured by the page's style sheet, so that they follow light and dark."""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

from .page import Figure, Table

# units of the SVG; on a screen of 360 px a chart is 304 px wide, so that its text has 12 px there
WIDTH, HEIGHT, TEXT = 300, 205, 12
DASHES: Sequence[Sequence[int]] = ((), (6, 3), (2, 3), (8, 3, 2, 3), (4, 2))  # of the series, who may not see colours
# what matplotlib is told, and what the page makes of it
COLOURS = {f"#00000{i}": f"var(--c{i})" for i in range(1, 6)}
INK, SOFT, GRID = "#00000a", "#00000b", "#00000c"
COLOURS |= {INK: "var(--ink)", SOFT: "var(--soft)", GRID: "var(--grid)"}
BACKGROUND = ("faint", "guide")
METADATA = ("Creator", "Date", "Format", "Type")
STYLE: Any = {
    "svg.fonttype": "none",  # text stays text, in the reader's font
    "font.sans-serif": ["DejaVu Sans"],  # what matplotlib measures with; the page sets its own
    "font.size": TEXT,
    "axes.edgecolor": SOFT,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": TEXT,
    "axes.titley": 1.02,
    "axes.formatter.limits": (-9, 9),  # numbers as they are, without a factor above the axis
    "axes.formatter.useoffset": False,
    "grid.color": GRID,
    "lines.scale_dashes": False,
    "text.color": SOFT,
    "text.parse_math": False,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "ytick.major.size": 0,
}


@dataclass(frozen=True)
class Series:
    """A named line through the points (x, y).

    `kind`: "line"; "points" marks each; "dots" marks each and draws no line; "bins" is a histogram with the edges x,
    one more than y; "faint" and "guide" stay in the background, without a key and without numbers.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    kind: Literal["line", "points", "dots", "bins", "faint", "guide"] = "line"


@dataclass(frozen=True)
class Axis:
    """A scale: `label` with its unit; `low` and `high` None fit the data.

    With `names` the axis has these ticks, evenly spaced: the x of a series are their positions 0, 1, ...
    """

    label: str
    low: float | None = None
    high: float | None = None
    names: Sequence[str] = ()


def chart(title: str, words: str, series: Sequence[Series], x: Axis, y: Axis, decimals: int = 4) -> Figure:
    """A chart, with the numbers in it as a table of so many decimals.

    >>> chart("t", "w", [Series("a", [0, 1], [0.5, 1])], Axis("x"), Axis("y")).numbers.rows
    [['0', '0.5000'], ['1', '1.0000']]
    """
    shown = [s for s in series if s.kind not in BACKGROUND]
    keys = [(s.name, f"var(--c{i % 5 + 1})", " ".join(map(str, DASHES[i % 5]))) for i, s in enumerate(shown)]

    def draw(axes: Any) -> None:
        for s in series:
            if s.kind in BACKGROUND:
                axes.plot(s.x, s.y, color=SOFT, lw=0.8, ls=":" if s.kind == "guide" else "-", alpha=0.7)
        for i, s in enumerate(shown):
            _draw(axes, s, i % 5)
        _scale(axes, x, y, [v for s in series for v in s.y])

    numbers = _numbers(f"{title}: {y.label}", shown, x, decimals)
    return Figure(title, words, _svg(title, words, draw), keys if len(keys) > 1 else [], numbers)


def heat_map(title: str, words: str, matrix: Sequence[Sequence[float]], x: Axis, y: Axis) -> Figure:
    """The numbers of `matrix` as colours from 0 to 1: rows down, columns to the right, both counted from 1.

    >>> heat_map("t", "w", [[1.0, 0.5]], Axis("column"), Axis("row")).numbers.rows
    [['1', '1.000', '0.500']]
    """
    height, width = len(matrix), len(matrix[0])

    def draw(axes: Any) -> None:
        extent = (0.5, width + 0.5, height + 0.5, 0.5)
        image = axes.imshow(matrix, vmin=0, vmax=1, extent=extent, aspect="auto", interpolation="none")
        axes.set(title=y.label, xlabel=x.label)
        axes.grid(visible=False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.get_major_locator().set_params(integer=True, nbins=6)
        _place(axes, right=0.9)
        axes.figure.colorbar(image, ax=axes, use_gridspec=False).outline.set_visible(False)

    rows = [[str(i), *(f"{v:.3f}" for v in row)] for i, row in enumerate(matrix, start=1)]
    numbers = Table(f"{title}: {x.label}", [y.label, *map(str, range(1, width + 1))], rows)
    return Figure(title, words, _svg(title, words, draw), [], numbers)


def _draw(axes: Any, s: Series, number: int) -> None:
    color, dashes = f"#00000{number + 1}", DASHES[number]
    style = {"color": color, "lw": 2, "ls": (0, dashes) if dashes else "-"}
    if s.kind == "bins":
        axes.stairs(s.y, s.x, fill=True, color=color, alpha=0.16)
        axes.stairs(s.y, s.x, **style)
    elif s.kind == "dots":
        axes.plot(s.x, s.y, marker="o", ms=3, ls="", color=color, alpha=0.5, clip_on=False)
    else:  # a mark on the edge of the axes is shown whole
        marker = "o" if s.kind == "points" or len(s.x) <= 12 else ""
        axes.plot(s.x, s.y, marker=marker, ms=4, clip_on=False, **style)


def _scale(axes: Any, x: Axis, y: Axis, values: Sequence[float]) -> None:
    axes.set(title=y.label, xlabel=x.label)
    axes.xaxis.get_major_locator().set_params(integer=x.high is None, nbins=6)
    axes.yaxis.get_major_locator().set_params(nbins=5, min_n_ticks=3)
    if x.names:
        every = 1 + len(x.names) // 9
        axes.set_xticks(range(0, len(x.names), every), x.names[::every])
    else:
        axes.set_xlim(x.low, x.high)
    positive = all(v >= 0 for v in values if math.isfinite(v))
    low = max(0.0, axes.get_ylim()[0]) if y.low is None and positive else y.low
    axes.set_ylim(low, y.high)
    _place(axes)


def _place(axes: Any, right: float = 0.95) -> None:
    """Leave room for the longest number on the left, and half of one on the right.

    matplotlib's own layout draws everything twice to find it.
    """
    across, down = (
        0.64 * TEXT * max(map(len, axis.get_major_formatter().format_ticks(axis.get_majorticklocs())), default=0)
        for axis in (axes.xaxis, axes.yaxis)
    )
    left, right = (8 + down) / WIDTH, min(right, 1 - (2 + across / 2) / WIDTH)
    axes.set_position((left, 0.21, right - left, 0.67))
    axes.xaxis.set_label_coords(0.5, -0.16)


def _svg(title: str, words: str, draw: Callable[[Any], None]) -> str:
    from matplotlib import style  # slow to import
    from matplotlib.figure import Figure as Canvas

    buffer = io.StringIO()
    label = escape(f"{title}. {words}", quote=True)
    # whatever the program has set: the same file for the same numbers, and no id twice on a page
    with style.context({**STYLE, "svg.hashsalt": label}, after_reset=True):
        canvas = Canvas(figsize=(WIDTH / 72, HEIGHT / 72))
        draw(canvas.subplots())
        canvas.savefig(buffer, format="svg", transparent=True, metadata=dict.fromkeys(METADATA))
    svg = re.sub(r"(?s)^.*?<svg[^>]*>", "", buffer.getvalue())  # the page says how large it is
    svg = re.sub(r"(?s)<style.*?</style>|<!--.*?-->", "", svg)  # would hold for the whole page
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # counted anew in every chart
    svg = re.sub("|".join(COLOURS), lambda found: COLOURS[found[0]], svg)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">{svg.strip()}'


def _numbers(caption: str, series: Sequence[Series], x: Axis, decimals: int) -> Table:
    values = [dict(zip(s.x, s.y, strict=False)) for s in series]  # a bin stands at its lower edge
    rows = [
        [x.names[int(at)] if x.names else f"{at:.4g}" if abs(at) < 1e4 else f"{at:,.0f}"]
        + [f"{v[at]:.{decimals}f}" if at in v else "" for v in values]
        for at in sorted({at for v in values for at in v})
    ]
    return Table(caption, [x.label, *(s.name for s in series)], rows)

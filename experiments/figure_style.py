"""One look of the figures of the documentation: small panels that are read on a phone, in light and in dark.

    with panel(path, title="accuracy", xlabel="networks") as axes:
        axes.plot(x, y, **line(0))

A page puts the panels of a figure one after the other in a paragraph: two stand side by side, on a phone one.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, TEXT = 255, 195, 9.5  # points; a phone shows a panel about as large as it is, with text of 12 px
PAPER, INK, SOFT, GRID = "#fffffe", "#1c1d21", "#5b5e68", "#dedfd9"
COLOURS = ("#2563c9", "#c2570c", "#0f7a6c", "#8b3fb0", "#7a6a10", "#b3261e")
DARK = {PAPER: "#1e2026", INK: "#ececea", SOFT: "#a8abb5", GRID: "#34363f"} | dict(
    zip(COLOURS, ("#7aa8ff", "#ff9e57", "#4fcbb9", "#d39bf0", "#d8c565", "#ff8a80"), strict=True)
)
DASHES: Sequence[Any] = ("-", (0, (4, 2)))
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text
    "font.sans-serif": ["DejaVu Sans"],  # what matplotlib measures with
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.labelsize": TEXT,
    "xtick.labelsize": TEXT,
    "ytick.labelsize": TEXT,
    "legend.fontsize": TEXT,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "figure.facecolor": PAPER,
    "grid.color": GRID,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 4,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}


def line(number: int) -> dict[str, Any]:
    """Colour, dashes and mark of a series: twelve that differ, also without colours."""
    count = len(COLOURS)
    marker = "osv^D<>xP*p+"[number % (2 * count)]
    return {"color": COLOURS[number % count], "ls": DASHES[number // count % 2], "marker": marker}


@contextmanager
def panel(path: Path, height: float = HEIGHT, **labels: Any) -> Iterator[Any]:
    """Axes to draw on; written to `path` at the end, with `labels` of `Axes.set`.

    The same numbers give the same file. It has the colours of light and dark, of which the page shows its own.
    """
    from matplotlib import style
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    with style.context({**STYLE, "svg.hashsalt": path.name}, after_reset=True):
        figure = Figure(figsize=(WIDTH / 72, height / 72), layout="constrained")
        axes = figure.subplots()
        yield axes
        axes.set(**labels)
        for axis in (axes.xaxis, axes.yaxis):
            if axis.get_scale() == "log":  # 0.01 in place of a small exponent
                axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
                axis.set_minor_formatter(NullFormatter())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(light_and_dark(buffer.getvalue()), encoding="utf-8")


def legend(path: Path, styles: dict[str, dict[str, Any]]) -> None:
    """A panel of names alone, for panels that have no room for them."""
    with panel(path, height=TEXT * 1.6 * len(styles) + 12) as axes:
        axes.set_axis_off()
        for name, style in styles.items():
            axes.plot([], [], label=name, **style)
        axes.legend(loc="center left", bbox_to_anchor=(0, 0.5), borderpad=0, borderaxespad=0)


def light_and_dark(svg: str) -> str:
    """The SVG with the colours of a dark page beside its own, and a font that every reader has."""
    rules = "".join(
        f'[style*="{kind}: {light}"]{{{kind}:{dark}!important}}'
        for light, dark in DARK.items()
        for kind in ("fill", "stroke")
    )
    svg = svg.replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    found = re.search(r"<svg[^>]*>", svg)
    assert found is not None
    dark = f"\n <style>@media (prefers-color-scheme: dark){{{rules}}}</style>"
    return svg[: found.end()] + dark + svg[found.end() :]

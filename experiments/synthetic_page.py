"""The figures of the two synthetic problems, from the results of synthetic.py."""

from pathlib import Path
from typing import Any

from experiments.figure_style import COLOURS, INK, PAPER, panel


def figures(results: dict[str, Any], folder: Path) -> list[str]:
    """Draw a panel for each network of the first seed; the images of a page in docs/."""
    drawn = results["drawn"]
    if not drawn:
        return []
    draw, rows = (_plane, drawn["plane"]) if "plane" in drawn else (_line, drawn["lines"])
    made = []
    for row in rows:
        path = folder / f"{results['name']}-{row.replace(', ', '-').lower()}.svg"
        draw(path, row, drawn)
        made.append(f"![{row}: {results['title']}](figures/{path.name})")
    return made


def _plane(path: Path, row: str, drawn: dict[str, Any]) -> None:
    """The probability of class 1 over the plane, in ten steps; a mark for each class that shows on all of them."""
    x, y = drawn["axes"]
    with panel(path, height=215, title=row, xlabel="P(class 1): purple 0, white ½, orange 1") as axes:
        percent = list(zip(*drawn["plane"][row], strict=True))
        axes.contourf(x, y, percent, levels=range(0, 101, 10), cmap="PuOr_r")
        axes.contour(x, y, percent, levels=[50], colors=[INK], linewidths=0.8)
        for label, marker, face in ((0, "o", "white"), (1, "^", "black")):
            points = [(a, b) for a, b, c in drawn["points"] if c == label]
            edge = "black" if face == "white" else "white"
            axes.scatter(*zip(*points, strict=True), s=13, marker=marker, c=face, edgecolors=edge, linewidths=0.5)
        axes.grid(False)
        axes.set_aspect("equal")


def _line(path: Path, row: str, drawn: dict[str, Any]) -> None:
    """The output over x, with two standard deviations of the drawn networks to each side."""
    line, x = drawn["lines"][row], drawn["x"]
    with panel(path, title=row, xlabel="x", ylabel="y", ylim=(-4, 4)) as axes:
        axes.scatter(*zip(*drawn["points"], strict=True), s=4, c=INK, zorder=3, edgecolors=PAPER, linewidths=0.2)
        axes.plot(x, line["mean"], c=COLOURS[0])
        if "std" in line:
            low, high = ([m + k * s for m, s in zip(line["mean"], line["std"], strict=True)] for k in (-2, 2))
            axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.25, linewidth=0)

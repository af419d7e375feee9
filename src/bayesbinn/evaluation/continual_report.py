"""The report of a continual run: accuracy per task, the heat map of the matrix, and a page with both."""

import base64
import html
import io
from pathlib import Path
from typing import Any

from ..files import write_text


def write_report(result: dict[str, Any], run: Path) -> list[str]:
    """Write RUN/report.html with its figures inside, if matplotlib is installed.

    Args:
        result: as in RUN/results.json.

    Returns:
        Names of the files a user may want to look at.
    """
    try:
        figures = [_png(accuracy_figure(result)), _png(heat_map(result))]
    except ImportError:
        return ["results.json (figures need matplotlib: pip install 'bayesbinn[plots]')"]
    images = "\n".join(
        f'<p><img alt="{name}" src="data:image/png;base64,{base64.b64encode(png).decode()}"></p>'
        for name, png in zip(("accuracy on each task", "accuracy matrix"), figures, strict=True)
    )
    metrics = "\n".join(f"<tr><td>{name}</td><td>{value:.4f}</td></tr>" for name, value in result["metrics"].items())
    settings = "\n".join(
        f"<tr><td>{name}</td><td>{html.escape(str(value))}</td></tr>" for name, value in result["config"].items()
    )
    title = html.escape(
        f"{result['config']['data']}, {result['config']['tasks']} tasks, {result['config']['strategy']}"
    )
    write_text(
        run / "report.html",
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{title}</title>\n<h1>{title}</h1>\n{images}\n'
        f"<h2>Metrics</h2>\n<table>{metrics}</table>\n<h2>Settings</h2>\n<table>{settings}</table>\n</html>\n",
    )
    return ["results.json", "report.html"]


def accuracy_figure(result: dict[str, Any]) -> Any:
    """A matplotlib figure: accuracy on each task, and on all seen so far, after every task (as the paper shows it)."""
    from matplotlib.figure import Figure

    matrix, tasks = result["matrix"], result["config"]["tasks"]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for j in range(tasks):
        axes.plot(range(j + 1, tasks + 1), [100 * matrix[i][j] for i in range(j, tasks)], lw=0.8, marker=".", alpha=0.6)
    average = [100 * sum(matrix[i][: i + 1]) / (i + 1) for i in range(tasks)]
    axes.plot(range(1, tasks + 1), average, color="black", lw=2, marker="o", ms=4, label="average of the tasks seen")
    axes.set(xlabel="after task", ylabel="test accuracy %")
    axes.legend(frameon=False)
    return figure


def heat_map(result: dict[str, Any]) -> Any:
    """A matplotlib figure: the accuracy matrix, a row after each task, a column for each task."""
    from matplotlib.figure import Figure

    tasks = result["config"]["tasks"]
    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.subplots()
    extent = (0.5, tasks + 0.5, tasks + 0.5, 0.5)
    image = axes.imshow([[100 * v for v in row] for row in result["matrix"]], vmin=0, vmax=100, extent=extent)
    axes.set(xlabel="accuracy on task", ylabel="after task")
    figure.colorbar(image, label="test accuracy %")
    return figure


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()

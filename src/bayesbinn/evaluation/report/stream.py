"""The page of a continual run: what is known of each task after each task, and what it cost."""

from typing import Any

from .charts import Axis, Series, chart, heat_map
from .made import made
from .page import Figure, Page, Section, Table, percent

METRICS = {
    "learning": "just after learning",
    "forgetting": "forgetting",
    "backward_transfer": "backward transfer",
    "forward_transfer": "forward transfer",
}
MEASURED = {
    "ood_auroc": ("Unknown inputs after each task", Axis("AUROC by entropy", high=1)),
    "entropy": ("How open the posterior is", Axis("entropy per weight (nats)", 0)),
    "saturated": ("How decided the weights are", Axis("share saturated, |μ| > 0.99", 0, 1)),
}


def stream_page(result: dict[str, Any], title: str) -> Page:
    """The report of a continual run under a title of one's own, from what RUN/results.json holds."""
    config, metrics = result["config"], result["metrics"]
    tasks = len(result["matrix"])
    samples = f"mean of {config['samples']} posterior samples" if "entropy" in result["tasks"][-1] else "one network"
    return Page(
        title=title,
        lead=f"{config['data']}, {tasks} tasks, strategy {config['strategy']}",
        tiles=[
            ("All tasks", percent(metrics["mean_average"]), samples),
            ("Last 5", percent(metrics["mean_last_5"]), samples),
            ("When learned", percent(metrics["learning"]), "each task just after it"),
            *(
                [("Forgetting", percent(metrics["forgetting"]), "from the best to the end")]
                if "forgetting" in metrics
                else []
            ),
        ],
        sections=[
            _result(result),
            Section("tasks", "Task after task", figures=[_accuracy(result), *_matrix(result), *_measured(result)]),
            _rows(result),
            made(config, seconds=f"{result['train_seconds']:.1f}"),
        ],
    )


def _result(result: dict[str, Any]) -> Section:
    metrics = result["metrics"]
    rows = [
        [f"{which}, {label}", percent(metrics[f"{which}_{span}"])]
        for which in ("mean", "mode")
        for span, label in (("average", "all tasks"), ("last_20", "last 20"), ("last_5", "last 5"))
    ]
    rows += [[label, percent(metrics[key])] for key, label in METRICS.items() if key in metrics]
    text = (
        "Accuracy on test examples after the last task, then its history. Forgetting: what was lost since a task was "
        "known best. Backward transfer: what later tasks changed; forward transfer: what earlier tasks gave to one not "
        "yet seen, against the untrained network. The averages of the last tasks reward a short memory."
    )
    return Section("result", "Result", text, table=Table("Accuracy and its history", ["", "accuracy"], rows))


def _accuracy(result: dict[str, Any]) -> Figure:
    matrix, first = result["matrix"], result["first"]
    after = range(1, len(matrix) + 1)
    average = [sum(row[: i + 1 - first[i]]) / (i + 1 - first[i]) for i, row in enumerate(matrix)]
    if not _whole(matrix):
        words = (
            f"Each task just after it, and the average of the latest {result['config']['row_tasks']} (at the end: all)."
        )
        learned = [row[i - first[i]] for i, row in enumerate(matrix)]
        lines = [Series("the task just learned", after, learned, "faint")]
        lines.append(Series("average of the latest", after, average))
    else:
        words = f"The bold line is the average over the tasks seen so far, {percent(average[-1])} at the end."
        lines = [
            Series(f"task {j + 1}", after[j:], [row[j] for row in matrix[j:]], "faint") for j in range(len(matrix))
        ]
        lines.append(Series("average of the tasks seen", after, average))
    return chart("Accuracy on each task", words, lines, Axis("after task"), Axis("share right", high=1))


def _whole(matrix: list[list[float]]) -> bool:
    """Whether each row has every task, and not the latest ones alone."""
    return all(len(row) == len(matrix) for row in matrix)


def _matrix(result: dict[str, Any]) -> list[Figure]:
    matrix = result["matrix"]
    if not _whole(matrix):
        return []
    ends = f"the first task ends at {percent(matrix[-1][0])}, the last at {percent(matrix[-1][-1])}"
    words = f"A row after each task, above the diagonal tasks not yet seen; {ends}."
    return [heat_map("Every task after every task", words, matrix, Axis("accuracy on task"), Axis("after task"))]


def _measured(result: dict[str, Any]) -> list[Figure]:
    figures, lines = [], result["tasks"]
    for key, (title, y) in MEASURED.items():
        if key in lines[-1]:
            values = [line[key] for line in lines]
            words = f"{values[0]:.3f} after the first task, {values[-1]:.3f} after the last."
            points = [Series(y.label, range(1, len(lines) + 1), values)]
            figures.append(chart(title, words, points, Axis("after task"), y))
    return figures


def _rows(result: dict[str, Any]) -> Section:
    columns = zip(result["mean_row"], result["mode_row"], result["untrained"], strict=True)
    rows = [[f"task {j}", *map(percent, values)] for j, values in enumerate(columns, start=1)]
    table = Table("Accuracy on all test examples of each task", ["", "mean", "mode", "untrained"], rows)
    return Section("end", "At the end", table=table)

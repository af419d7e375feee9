"""The panels of a thousand tasks show what the rows hold."""

import pytest

from experiments.continual_figures import of_thousand, panels_of

TASKS, WIDTH = 60, 5


def run() -> dict:
    """Task j has accuracy 0.9 when it was just learned, a tenth less after each further task, down to 0.1."""

    def accuracy(after: int, task: int) -> float:
        return max(0.1, 0.9 - 0.1 * (after - task)) if task <= after else 0.1

    spans = [range(max(0, i + 1 - WIDTH), min(TASKS, i + 2)) for i in range(TASKS - 1)] + [range(TASKS)]
    return {
        "matrix": [[accuracy(i, j) for j in span] for i, span in enumerate(spans)],
        "first": [span.start for span in spans],
        "mean_row": [accuracy(TASKS - 1, j) for j in range(TASKS)],
        "tasks": [{"ood_auroc": 0.75}] * TASKS,
    }


def test_panels_of_many_tasks(tmp_path):
    found = panels_of({"a": run()})["a"]
    assert found["learned"] == ([10, 30, 50], pytest.approx([90] * 3))
    assert found["kept"][1][1:] == pytest.approx([70, 70])  # the mean of 90, 80, ... 50
    assert found["unknown"][1] == pytest.approx([0.75] * 3)
    ages, kept = found["forgotten"]
    assert kept[0] == pytest.approx(90)
    assert kept[-1] == pytest.approx(10)
    assert ages == sorted(ages)
    lines = of_thousand({"results": {"a": {"0": run()}}}, tmp_path)
    assert len(lines) == 5
    assert all((tmp_path / line.partition("](figures/")[2].rstrip(")")).exists() for line in lines)

"""docs/performance.md says what the stored result says."""

from pathlib import Path

import pytest

from benchmarks.train_step_page import ratios, render, stored

ROOT = Path(__file__).parents[1]


def test_the_page_is_made_from_the_stored_results() -> None:
    results = stored(ROOT / "benchmarks" / "results")
    page = (ROOT / "docs" / "performance.md").read_text()
    assert render(page, results) == page
    with pytest.raises(ValueError, match="needs one block between <!-- targets -->"):
        render(page.replace("<!-- targets -->", ""), results)


def test_ratios() -> None:
    parts = {"draw": 1.0, "update": 1.0, "own": 2.0, "step": 10.0}
    slow = {**parts, "own": 100.0, "step": 90.0}
    entry = {"weights": 10, "bayesbinn": parts, "float, Adam": parts, "ste, Adam": parts, "2020 rule": slow}
    entry["2020 rule, memory kept"] = {**parts, "own": 20.0}
    found = {what: (value, holds) for what, _, value, holds in ratios({"10M": {"1": {"results": entry}}})}
    assert found["draw and update / fused Adam, 1 thread"] == ("2.00", True)
    assert found["2020 rule's draw and update / ours, 1 thread"] == ("50.00", True)
    assert found["step of the 2020 rule / ours, memory kept for both, 1 thread"] == ("1.00", None)
    assert found["step of the 2020 rule / ours, 1 thread"] == ("9.00", True)

"""docs/performance.md says what the stored result says."""

from pathlib import Path

import pytest

from benchmarks.train_step_page import PARTS, ratios, render, steps, stored

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
    made = [{"environment": {"cpu": "one", "isa": isa}, "results": entry} for isa in ("avx2", "avx512")]
    both = ratios({"10M": {"1": made[0], "2": made[1]}})
    assert list(both) == ["one, avx2", "one, avx512"]
    found = {what: (value, holds) for what, _, value, holds in both["one, avx2"]}
    assert found["draw and update, plain / fused Adam, 1 thread"] == ("2.00", True)
    assert found["2020 rule's draw and update / ours, 1 thread"] == ("50.00", True)
    assert found["step of the 2020 rule / ours, memory kept for both, 1 thread"] == ("1.00", None)
    assert found["step of the 2020 rule / ours, 1 thread"] == ("9.00", True)
    sizes = {
        size: {"1": {**of, "results": {**entry, "weights": 10}}} for size, of in zip(("1M", "100M"), made, strict=True)
    }
    assert list(ratios(sizes)) == ["one, avx2 and one, avx512"]


def test_every_time_stands_under_its_processor_and_every_row_names_its_form() -> None:
    parts = dict.fromkeys(PARTS, 1.0)
    entry = {"bayesbinn": parts, "bayesbinn bfloat16": parts, "bayesbinn per weight": parts, "ste, Adam": parts}
    made = {"environment": {"cpu": "one", "isa": "avx2"}, "results": entry}
    title, _, *lines = steps({"1M": {"2": made}}).splitlines()
    assert title == "1M weights, 2 threads, one, avx2 (milliseconds):"
    assert [line.split(" | ")[0] for line in lines[2:]] == [
        "| bayesbinn plain",
        "| bayesbinn plain bfloat16",
        "| bayesbinn per weight",
        "| ste, Adam",
    ]

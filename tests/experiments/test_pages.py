"""Pages whose tables a script writes between marks say what is stored."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ("families.py", [], "families.json", "families.md", "families"),
    ("moments.py", [], "moments.json", "uncertainty.md", "moments"),
    ("own/networks.py", ["-"], "own-networks.json", "own-network.md", "own networks"),
    ("../benchmarks/networks.py", [], "../../benchmarks/results/networks.json", "deploy.md", "networks"),
]


@pytest.mark.parametrize(("script", "more", "stored", "page", "name"), PAGES, ids=[name for *_, name in PAGES])
def test_the_page_has_the_stored_figures(
    script: str, more: list[str], stored: str, page: str, name: str, tmp_path: Path
) -> None:
    right = (ROOT / "docs" / page).read_text(encoding="utf-8")
    made = tmp_path / page
    begin = right.index(f"<!-- {name}: begin -->")
    made.write_text(right[:begin] + right[begin:].replace("|", "?", 9), encoding="utf-8")
    where = ["--output", str(ROOT / "experiments" / "results" / stored), "--page", str(made)]
    subprocess.run([sys.executable, str(ROOT / "experiments" / script), *more, *where], check=True)
    assert made.read_text(encoding="utf-8") == right

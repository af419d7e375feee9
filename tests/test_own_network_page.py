"""What docs/own-network.md shows runs, and its figures are the stored ones."""

import re
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "own-network.md"


def test_the_loop_learns_with_the_defaults(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    torch.manual_seed(0)
    names = {}
    exec(compile(code, str(PAGE), "exec"), names)
    assert (names["p"].labels == names["y"]).float().mean() > 0.95
    shown = capsys.readouterr()
    assert shown.err.startswith("binary: 3 Linear")
    assert shown.out.startswith("tensor(0.9")


def test_the_measured_figures_are_the_stored_ones(tmp_path):
    made = tmp_path / "page.md"
    made.write_text(re.sub(r"\d", "0", PAGE.read_text(encoding="utf-8").partition("## How")[0]), encoding="utf-8")
    script, stored = (
        ROOT / "experiments" / "own" / "networks.py",
        ROOT / "experiments" / "results" / "own-networks.json",
    )
    command = [sys.executable, str(script), "-", "--output", str(stored), "--page", str(made)]
    subprocess.run(command, check=True)
    marked = r"<!-- own networks: begin -->.*<!-- own networks: end -->"
    now, page = (re.search(marked, p.read_text(encoding="utf-8"), re.DOTALL).group() for p in (made, PAGE))
    assert now == page

"""What docs/own-network.md shows runs."""

import re
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

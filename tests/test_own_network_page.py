"""What docs/own-network.md shows runs."""

import torch

from tests.pages import codes, page


def test_the_loop_learns_with_the_defaults(capsys):
    (code,) = codes(page("own-network.md"), "python")
    torch.manual_seed(0)
    names = {}
    exec(compile(code, "own-network.md", "exec"), names)
    assert (names["p"].labels == names["y"]).float().mean() > 0.95
    shown = capsys.readouterr()
    assert shown.err.startswith("binary: 3 Linear")
    assert shown.out.startswith("tensor(0.9")

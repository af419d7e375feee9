"""What README.md and examples/ show runs, as they show it."""

import re
import runpy

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from torch import nn

from bayesbinn.cli import main
from tests.pages import ROOT, codes, commands, page
from tests.runs import blobs

README = page("README.md")
TINY = ["--epochs", "1", "--width", "16", "--depth", "1", "--batch-size", "32"]


class MyNet(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))


def test_the_python_block_runs():
    (code,) = codes(README, "python")
    x, y = torch.randn(64, 8), torch.arange(64) % 3
    names = {"MyNet": MyNet, "loader": list(zip(x.split(16), y.split(16), strict=True)) * 2}
    exec(compile(code, "README.md", "exec"), names)
    assert names["p"].probs.shape == (16, 3)
    assert names["net"][0].weight.unique().tolist() == [-1, 1]
    natural = names["net"][0].natural
    assert torch.equal(names["optimizer"].prior_of(natural), natural)


def test_the_command_lines_run(tmp_path, monkeypatch):
    lines = commands("\n".join(codes(README, "console")))
    assert {line[0] for line in lines} >= {"train", "evaluate", "predict", "inspect"}
    for name in ("mnist", "fashion-mnist", "cifar10", "cifar100"):
        shape = (32, 32, 3) if "cifar" in name else (28, 28)
        np.savez(tmp_path / f"{name}.npz", **blobs(shape, classes=10))
    np.save(tmp_path / "inputs.npy", blobs((8, 8))["x_test"])
    rows = "".join(f"{i},{'Bern' if i % 3 else 'Chur'},{'yes' if i % 2 else 'no'}\n" for i in range(200))
    (tmp_path / "people.csv").write_text("age,town,paid\n" + rows)
    for i in range(60):
        picture = tmp_path / "photos" / ("cat" if i % 2 else "dog") / f"{i}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + i, 30), (200 * (i % 2), 4 * i, 0)).save(picture)
    monkeypatch.setenv("BAYESBINN_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for i, (command, *words) in enumerate(lines):
        arguments = [f"run-{i}" if word == "RUN" else word for word in words]  # a name to be chosen by the reader
        more = TINY if command in ("train", "continual") else []
        done = CliRunner().invoke(main, [command, *arguments, *more])
        assert done.exit_code == 0, (command, arguments, done.output)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make (\S+)", "\n".join(codes(README, "console")), re.MULTILINE)
    assert {"demo", "test"} <= set(targets)
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_linked_files_exist():
    for document in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), (document.name, link)


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_run_and_learn(example, capsys):
    runpy.run_path(str(example), run_name="__main__")
    accuracies = [float(x) for x in re.findall(r"accuracy ([\d.]+)%", capsys.readouterr().out)]
    # the last line is about the finished network
    assert accuracies[-1] >= {"continual_tasks": 60, "continual_online": 70, "own_loop": 97}.get(example.stem, 93)

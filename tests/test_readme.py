"""What README.md and examples/ show runs, as they show it."""

import re
import runpy

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bayesbinn.cli import main
from tests.pages import ROOT, codes, commands, page
from tests.runs import blobs

README = page("README.md")
TINY = ["--epochs", "1", "--width", "16", "--depth", "1", "--batch-size", "32"]


def test_it_is_for_someone_with_two_minutes():
    (code,) = codes(README, "python")
    assert len(README.splitlines()) <= 90
    assert len(code.splitlines()) <= 20
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert (ROOT / picture).exists()


def test_the_script_can_be_pasted(tmp_path, monkeypatch, capsys):
    (code,) = codes(README, "python")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    exec(compile(code, "README.md", "exec"), {})
    said = capsys.readouterr()
    accuracy = re.search(r"accuracy ([\d.]+)%; unsure of a \d", said.out)
    assert accuracy is not None
    assert float(accuracy[1]) >= 97
    assert re.search(r"kB → [\d.]+ kB", said.err)  # how large it is as bits


def test_the_command_lines_of_the_training_page_run(tmp_path, monkeypatch):
    lines = commands("\n".join(codes(page("docs/training.md"), "console")))
    assert {line[0] for line in lines} >= {"train", "evaluate", "predict", "inspect", "export", "continual"}
    np.save(tmp_path / "inputs.npy", blobs((8, 8))["x_test"])
    rows = "".join(f"{i},{'Bern' if i % 3 else 'Chur'},{'yes' if i % 2 else 'no'}\n" for i in range(200))
    (tmp_path / "people.csv").write_text("age,town,paid\n" + rows)
    for i in range(60):
        picture = tmp_path / "photos" / ("cat" if i % 2 else "dog") / f"{i}.jpg"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + i, 30), (200 * (i % 2), 4 * i, 0)).save(picture)
    monkeypatch.chdir(tmp_path)
    for command, *words in lines:
        more = TINY if command in ("train", "continual") else []
        done = CliRunner().invoke(main, [command, *words, *more])
        assert done.exit_code == 0, (command, words, done.output)


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

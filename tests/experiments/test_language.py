"""The language experiments: a recipe runs once, and the page is as its generator writes it."""

import json
import sys
from pathlib import Path

import pytest

from experiments import language, language_page
from tests.pages import run_page


def test_the_page_is_as_its_generator_writes_it() -> None:
    text = language_page.PAGE.read_text(encoding="utf-8")
    assert language_page.page(text, language_page.load()) == text


def test_the_commands_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("to be or not to be, that is the question. " * 200)
    small = ("--width", "128", "--feed-forward", "128", "--depth", "1", "--context", "128", "--epochs", "1")
    run_page("language.md", more={"train": small, "generate": ("--length", "5")})


@pytest.mark.slow
def test_a_recipe_runs_once_and_goes_on_from_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, words in (("one", "to be or not to be, "), ("other", "in the beginning was the word, ")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "text.txt").write_text(words * 200)
    shared = 'data = "one"\nmodel = "gpt"\nwidth = 16\ndepth = 1\nheads = 2\ncontext = 64\nbatch_size = 4\nepochs = 1\n'
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'title = "t"\n[settings]\n{shared}samples = 2\noutside = ["other"]\n[runs.bayesbinn]\n'
        '[runs.next]\ndata = "other"\nstart = "bayesbinn-0"\nprior = "start"\noutside = ["one"]\n'
    )
    output = tmp_path / "results.json"
    arguments = ["--config", recipe, "--text", tmp_path, "--runs", tmp_path / "runs", "--output", output, "--jobs", 1]
    monkeypatch.setattr(sys, "argv", ["language.py", *map(str, arguments)])
    language.main()
    first = json.loads(output.read_text())
    assert [r["settings"]["run"] for r in first["runs"]] == ["bayesbinn", "next"]
    assert set(first["runs"][0]["outside"]["other"]["auroc"]) == {"entropy", "mean_entropy", "mutual_information"}
    assert "command" not in first["runs"][0]["environment"]
    before = output.read_bytes()
    language.main()
    assert output.read_bytes() == before

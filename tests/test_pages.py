"""The code of the documentation runs, no page is forgotten, and generated pages are as their generators write them."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import bayesbinn
from tests.pages import DOCS, ROOT, blocks, codes, page, run_commands, run_page, run_python
from tests.runs import blobs
from tools import commands_page, notebooks

RUN_HERE = ("index.md", "tutorial.md", "theory.md", "scikit-learn.md", "questions.md", "glossary.md", "compared.md")
WITH_DATA = ("continual.md", "anywhere.md")
RUN_ELSEWHERE = {
    "own-network.md": "tests/test_own_network_page.py",
    "training.md": "tests/test_readme.py",
    "tables.md": "tests/test_tables_page.py",
    "language.md": "tests/experiments/test_language.py",
    "ecosystem.md": "tests/ecosystem/test_page.py",
    "deploy.md": "tests/deploy/test_page.py",
    "distributed.md": "tests/training/test_distributed.py",
}
NOT_RUN = {
    "reproduction.md": "commands of runs of hours",
    "at-once.md": "commands of runs of hours",
    "install.md": "installs",
    "design/one-rule.md": "a command of a run of minutes",
    "commands.md": "generated from --help",
    "notebooks/two-moons.md": "made of a notebook that is run",
    "notebooks/digits.md": "made of a notebook that is run",
}
SKELETON = {"train": ("--width", "16", "--depth", "1", "--samples", "4", "--threads", "1")}


@pytest.mark.parametrize("name", RUN_HERE)
def test_the_page_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_page(name, more=SKELETON | {"evaluate": ("--no-report",)})
    if name == "index.md":
        assert names["bb"].metrics.accuracy(names["p"].probs, names["y_test"]) > 0.85
        assert names["noise"].mutual_information.mean() > 2 * names["p"].mutual_information.mean()
    if name == "tutorial.md":
        assert names["bb"].metrics.accuracy(names["mode"].probs, names["y_test"]) > 0.85
        assert names["score"] > 0.8
        assert (tmp_path / "runs" / "digits-web" / "index.html").exists()


def test_the_commands_of_pages_that_need_data_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BAYESBINN_DATA", str(tmp_path))
    tiny = ("--width", "16", "--depth", "1", "--batch-size", "32", "--epochs", "1", "--samples", "2", "--threads", "1")
    for name, train in (("mnist", 100), ("fashion-mnist", 600)):
        np.savez(tmp_path / f"{name}.npz", **blobs((28, 28), train=train, classes=10))
    (tmp_path / "FOLDER").mkdir()
    for task in range(3):
        np.savez(tmp_path / "FOLDER" / f"{task}.npz", **blobs())
    text = page("continual.md")
    run_commands(codes(text, "console")[0], {"continual": tiny})
    _, load = codes(text, "python")  # the first is the sketch of a loop
    names = {"x": torch.zeros(3, 1, 28, 28), "bayesbinn": bayesbinn}
    run_python(load, names, "continual.md")
    chances = names["p"].probs  # type: ignore[attr-defined]
    assert torch.allclose(chances[:, 2:4].sum(1), torch.ones(3))  # the classes of task 1, and no other
    for name in ("mnist", "digits"):
        run_commands(f"bayesbinn train {name} --output runs/{name}", {"train": tiny})
    for console in codes(page("anywhere.md"), "console"):
        run_commands(console)
    assert (tmp_path / "runs" / "mnist-web" / "index.html").exists()


def test_every_page_with_code_is_run_or_says_why_not() -> None:
    with_code = {
        str(path.relative_to(DOCS))
        for path in DOCS.rglob("*.md")
        if any(block.language in ("python", "console", "sh", "rust") for block in blocks(path.read_text("utf-8")))
    }
    told = {*RUN_HERE, *WITH_DATA, *RUN_ELSEWHERE, *NOT_RUN}
    assert with_code <= told, "add the page to RUN_HERE, or say in NOT_RUN why its code is not run"
    assert {name for name in told if not (DOCS / name).exists()} == set()
    for name, test in RUN_ELSEWHERE.items():
        assert Path(name).name in (ROOT / test).read_text("utf-8"), (name, test)


def listed(entry: object) -> list[str]:
    """The pages of a navigation."""
    if isinstance(entry, str):
        return [entry]
    parts = entry.values() if isinstance(entry, dict) else entry
    return [name for part in parts for name in listed(part)]  # type: ignore[attr-defined]


def test_every_page_is_in_the_navigation_once_and_links_stay_inside() -> None:
    nav = listed(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"])
    pages = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert sorted(nav) == sorted(pages), "mkdocs.yml: nav"
    for name in pages:
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page(name)):
            place = (DOCS / name).parent / link
            assert place.exists(), (name, link)
            assert place.resolve().is_relative_to(DOCS), (
                f"{name}: {link} is not part of the site; name the file instead"
            )


def test_figures_that_pages_quote_are_those_of_the_page_that_is_made_of_results() -> None:
    quoted = re.findall(r"\d\.\d+ ± \d\.\d+", page("compared.md"))
    assert len(quoted) == 2
    made = page("uncertainty.md").replace("\N{NO-BREAK SPACE}", " ")
    assert all(figure in made for figure in quoted)


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(path.read_text("utf-8") for path in (DOCS / "reference").glob("*.md"))
    told = set(re.findall(r"^::: bayesbinn\.([\w.]+)$", text, re.MULTILINE))
    src = ROOT / "src" / "bayesbinn"
    public = set()
    for module in ("nn", "optim", "binarizers", "metrics", "continual", "data", "deploy", "runtime", "training"):
        front = (src / module / "__init__.py").read_text("utf-8")
        public |= {f"{module}.{name}" for name in re.findall(r"^from \S+ import \w+ as (\w+)$", front, re.MULTILINE)}
    own = [f"{module}.{name}" for module, names in bayesbinn._NAMES.items() for name in names]
    constants = {"optim.FORMS", "nn.LIKELIHOODS", "data.AUGMENTATIONS"}
    elsewhere = {"continual.Examples", "continual.metrics", "deploy.About", "deploy.FormatError"}  # under data, runtime
    assert (public | set(own)) - constants - elsewhere - told == set()
    for name in told:  # what is told exists
        found: object = bayesbinn
        *modules, last = name.split(".")
        for part in modules:
            found = getattr(found, part, None) or __import__(f"bayesbinn.{'.'.join(modules)}", fromlist=["_"])
        assert hasattr(found, last), name


def test_the_page_of_commands_is_as_the_commands_say() -> None:
    assert commands_page.page() == page("commands.md"), "run: python tools/commands_page.py"


def test_docstrings_are_made_ready_for_the_site() -> None:
    pytest.importorskip("griffe")
    from tools.docstrings import fenced, one_name_a_line

    text = "Adds.\n\n>>> 1 + 1  # doctest: +SKIP\n2\n\nSource: none."
    assert fenced(text) == "Adds.\n\n```pycon\n>>> 1 + 1\n2\n```\n\nSource: none."
    text = "Args:\n    a, b: of\n        c.\n    d: e, f: g\n\nx, y: z"
    assert one_name_a_line(text) == "Args:\n    a: of\n        c.\n    b: of\n        c.\n    d: e, f: g\n\nx, y: z"


NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs_and_its_page_shows_it(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = json.loads(path.read_text("utf-8"))
    text, files = notebooks.rendered(book, path.stem)
    assert text == path.with_suffix(".md").read_text("utf-8"), "run: python tools/notebooks.py"
    assert all((path.parent / name).read_bytes() == content for name, content in files.items())
    cells = notebooks.sources(book)
    assert all(cell.get("execution_count") for cell in book["cells"] if cell["cell_type"] == "code")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    notebooks.run(cells)

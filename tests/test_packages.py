"""Packages and hosted CI: one version, workflows that call what there is, an installed wheel, torch's index in make."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import bayesbinn as bb

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
OTHERS = {"docs"}  # written elsewhere


def test_the_version_is_the_same_wherever_it_stands() -> None:
    assert "version" not in PROJECT["project"]
    assert PROJECT["tool"]["scikit-build"]["metadata"]["version"]["input"] == "src/bayesbinn/__init__.py"
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", citation, re.MULTILINE)[1] == bb.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] == bb.__version__


def test_every_extra_is_in_the_page_of_installing() -> None:
    listed = re.findall(r"^\| `([a-z-]+)` \|", (ROOT / "docs" / "install.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(PROJECT["project"]["optional-dependencies"]) <= set(listed)


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_a_workflow_calls_targets_that_exist_and_pins_its_actions(file: Path) -> None:
    yaml = pytest.importorskip("yaml")
    workflow = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            for target in re.findall(r"\bmake ([a-z-]+)", step.get("run", "")):
                assert target in TARGETS | OTHERS, target
            for script in re.findall(r"\bpython ([\w/]+\.py)", step.get("run", "")):
                assert (ROOT / script).is_file(), script
            if "uses" in step:
                assert re.fullmatch(r"[\w.-]+/[\w./-]+@(v\d+|release/v\d+)", step["uses"]), step["uses"]


def test_workflows_pass_a_linter() -> None:
    if shutil.which("actionlint"):
        command = ["actionlint", *map(str, WORKFLOWS)]
    elif importlib.util.find_spec("check_jsonschema"):
        module = [sys.executable, "-m", "check_jsonschema"]
        command = [*module, "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    else:
        pytest.skip("needs actionlint or check-jsonschema")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_cibuildwheel_would_build_these() -> None:
    if importlib.util.find_spec("cibuildwheel") is None:
        pytest.skip("needs cibuildwheel")
    found = []
    for platform in ("linux", "macos", "windows"):
        command = [sys.executable, "-m", "cibuildwheel", "--print-build-identifiers", "--platform", platform, str(ROOT)]
        found += subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    linux = {f"cp312-{libc}linux_{machine}" for libc in ("many", "musl") for machine in ("x86_64", "aarch64")}
    assert set(found) == linux | {"cp312-macosx_arm64", "cp312-macosx_x86_64", "cp312-win_amd64"}


@pytest.mark.skipif(shutil.which("make") is None or not sys.platform.startswith("linux"), reason="needs make on Linux")
@pytest.mark.parametrize(
    ("given", "answers", "asked", "told"),
    [
        ([], True, ["--index-url https://download.pytorch.org/whl/cpu torch==", "--editable"], "the build 'cpu'"),
        (
            [],
            False,
            ["--index-url https://download.pytorch.org/whl/cpu torch==", "--editable"],
            "does not answer: pip's own torch==",
        ),
        (
            ["TORCH=cu126"],
            True,
            ["--index-url https://download.pytorch.org/whl/cu126 torch==", "--editable"],
            "the build 'cu126'",
        ),
        (["TORCH="], True, ["--editable"], None),
        (
            ["CONSTRAINTS="],
            True,
            ["--index-url https://download.pytorch.org/whl/cpu torch", "--editable"],
            "the build 'cpu'",
        ),
    ],
)
def test_make_asks_for_the_small_torch_first(
    tmp_path: Path, given: list[str], answers: bool, asked: list[str], told: str | None
) -> None:
    """The real Makefile in a folder of its own, with a pip that writes down what it is asked."""
    for name in ("Makefile", "constraints.txt", "pyproject.toml", "CMakeLists.txt"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "src").mkdir()
    pip = tmp_path / ".venv" / "bin" / "pip"
    pip.parent.mkdir(parents=True)
    refuse = "" if answers else 'case "$*" in *--index-url*) exit 1;; esac\n'
    pip.write_text(f'#!/bin/sh\ncase "$1" in list) echo torch==0+fake; exit;; esac\necho "$*" >> asked\n{refuse}')
    pip.chmod(0o755)
    command = ["make", "--no-print-directory", ".venv/installed", "PYTHON=true", *given]
    env = {
        name: value for name, value in os.environ.items() if not name.startswith(("TORCH", "MAKE", "MFLAGS", "CONSTR"))
    }
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "asked").read_text().splitlines()
    assert len(lines) == len(asked), lines
    for line, part in zip(lines, asked, strict=True):
        assert line.startswith("install "), line
        assert part in line
    assert ("--constraint constraints.txt" in lines[-1]) == ("CONSTRAINTS=" not in given)
    said = [line for line in done.stdout.splitlines() if line.startswith("torch: ")]
    assert len(said) == (told is not None)
    assert told is None or told in said[0]

"""What README and docs show is what the stored results hold."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_tables_are_up_to_date():
    command = [sys.executable, str(ROOT / "experiments" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_front_page_is_up_to_date():
    command = [sys.executable, str(ROOT / "experiments" / "front.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_stored_bayesian_run_says_its_form():
    for path in sorted((ROOT / "experiments" / "results").glob("*-*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "name" not in content and "results" not in content:
            continue  # of networks in memory: no settings, and the rule as it is today
        runs = content.get("results", content.get("runs", {}))
        runs = runs if isinstance(runs, list) else [run for seeds in runs.values() for run in seeds.values()]
        for run in runs:
            known = {**run.get("config", {}), **run["settings"]}
            if known.get("method", "bayesbinn").startswith("bayesbinn"):
                assert known.get("form", run.get("form")) or known.get("kl_share"), (path.name, known)


def test_a_changed_figure_is_noticed(tmp_path):
    for part in ("experiments", "docs/design"):
        (tmp_path / part).mkdir(parents=True)
    pages = ("docs/reproduction.md", "docs/design/recipe-study.md")
    scripts = [str(path.relative_to(ROOT)) for path in (ROOT / "experiments").glob("*.py")]
    for name in (*scripts, "experiments/published.toml", *pages):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "experiments" / "results").mkdir()
    for recipe in (ROOT / "experiments").glob("*/*.toml"):
        (tmp_path / recipe.relative_to(ROOT)).parent.mkdir(exist_ok=True)
        (tmp_path / recipe.relative_to(ROOT)).write_text(recipe.read_text(encoding="utf-8"), encoding="utf-8")
    for result in (ROOT / "experiments" / "results").glob("*.json"):
        text = result.read_text(encoding="utf-8").replace('"accuracy": 0.98', '"accuracy": 0.99')
        (tmp_path / "experiments" / "results" / result.name).write_text(text, encoding="utf-8")
    command = [sys.executable, str(tmp_path / "experiments" / "tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "differs from the results" in done.stdout

"""What README and docs show is what the stored results hold."""

import json
import subprocess
import sys
from pathlib import Path

from experiments import tables

ROOT = Path(__file__).parents[2]


def test_tables_are_up_to_date(capsys):
    assert tables.differing() == [], capsys.readouterr().out


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


def test_a_changed_figure_is_noticed(monkeypatch):
    right = tables.load()
    changed = json.loads(json.dumps(right).replace('"accuracy": 0.98', '"accuracy": 0.99'))
    monkeypatch.setattr(tables, "load", lambda: changed)
    assert "docs/reproduction.md" in tables.differing()

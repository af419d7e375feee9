"""docs/design/one-rule.md says what the stored trials of the defaults say, and which of them are not ranked."""

import copy
import json
from pathlib import Path

from experiments.defaults import about, render

ROOT = Path(__file__).parents[2]
STORED = json.loads((ROOT / "experiments" / "results" / "defaults.json").read_text())


def test_the_page_is_made_from_the_stored_trials() -> None:
    page = (ROOT / "docs" / "design" / "one-rule.md").read_text(encoding="utf-8")
    assert render(page, STORED) == page


def test_what_is_not_ranked_and_what_made_it_are_said() -> None:
    stored = copy.deepcopy(STORED)
    ranked = {("tensor", "mean", 0.1), ("tensor", "mean", 0.3)}
    of = [r for r in stored["runs"] if tuple(r["settings"][k] for k in ("form", "estimator", "lr")) in ranked]
    stored["runs"] = [r for r in of if r["settings"]["kl_weight"] == 0.001]
    assert len(stored["runs"]) == 6
    assert "Stored are 6 runs of 192, one seed each, of 2 settings of 64. 2 settings have every network" in about(
        stored
    )
    dropped = stored["runs"].pop()["settings"]
    name = f"{dropped['form']} {dropped['estimator']} {dropped['lr']} {dropped['kl_weight']}"
    assert f"Not ranked, since they were not run on {dropped['network']}: {name}." in about(stored)
    stored["runs"][0] |= {"cpu": "another", "command": "defaults.py --only mnist"}
    assert "1 runs (kl_weight 0.001) were made on another by `defaults.py --only mnist`." in about(stored)

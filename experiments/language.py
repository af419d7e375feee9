"""Text, method by method: `bayesbinn train` over the runs of a recipe, some side by side, on one thread each.

    python experiments/language.py --config experiments/language/day.toml --output FILE

$BAYESBINN_DATA (or --text) holds a folder for each corpus (`data` of a recipe names one), which `language_text.py`
makes.  The run folders stay in --runs, so that an interrupted run goes on; one that is stored already is not run again.
"""

import argparse
import json
import multiprocessing
import os
import sys
from pathlib import Path
from typing import Any

from bayesbinn.data import Examples, load_text
from bayesbinn.environment import environment
from bayesbinn.evaluation.text import detection, measure_tokens, summary
from bayesbinn.files import read_json_lines, write_text
from bayesbinn.training import load_run
from bayesbinn.training.run import train

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


WINDOWS = 200  # of either corpus


def settings_of(recipe: dict[str, Any]) -> list[dict[str, Any]]:
    """{"run": its name, and the settings that `train` is given} of every run and seed."""
    return [
        {"run": name, "seed": seed, **recipe.get("settings", {}), **own}
        for seed in recipe.get("seeds", [0])
        for name, own in recipe["runs"].items()
    ]


def run(job: tuple[dict[str, Any], str, str]) -> dict[str, Any]:
    """Train, or go on training, and what came of it."""
    s, text, runs = job
    folder = Path(runs) / f"{s['run']}-{s['seed']}"
    settings = {name: value for name, value in s.items() if name not in ("run", "outside")}
    if "start" in s:
        settings["start"] = str(Path(runs) / s["start"])
    settings |= {"data": f"text:{Path(text) / s['data']}", "threads": 1}
    evaluation = train(settings, folder, resume=True)
    log, _ = read_json_lines(folder / "metrics.jsonl", {"epoch"})
    kept = ("epoch", "bits_per_byte", "test_bits_per_byte", "validation_bits_per_byte", "seconds", "saturated")
    curve = [{name: line[name] for name in kept if name in line} for line in log]
    made_with = {name: value for name, value in environment().items() if name != "command"}
    result = {"settings": s, "evaluation": evaluation, "curve": curve, "environment": made_with}
    if "outside" in s:
        result["outside"] = {name: beside(folder, Path(text) / s["data"], Path(text) / name) for name in s["outside"]}
    return result


def beside(run: Path, own: Path, other: Path) -> dict[str, Any]:
    """Bits per byte on the test part of another corpus, and how well windows of it are told from the run's own.

    AUROC of scores averaged over windows of 64 bytes, of the first windows of both test parts: the mode's entropy, and
    of the mean of the drawn networks the entropy and the mutual information.
    """
    net, config, _ = load_run(run)
    parts = [load_text(f"text:{corpus}", config.context).test for corpus in (own, other)]
    parts = [Examples(part.x[:WINDOWS], part.y[:WINDOWS]) for part in parts]
    inside, outside = (measure_tokens(net, part, config.samples) for part in parts)
    last = outside.nll_of[-1] if len(outside.nll_of) else outside.nll
    found = {"mode": summary(outside.nll, 1.0), "mean": summary(last, 1.0), "windows": WINDOWS}
    scores = ("entropy", "mean_entropy", "mutual_information") if len(outside.nll_of) else ("entropy",)
    return found | {"auroc": {s: detection(getattr(inside, s), getattr(outside, s), 64) for s in scores}}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--text", type=Path, default=os.environ.get("BAYESBINN_DATA"))
    parser.add_argument("--runs", type=Path, help="default: runs/NAME, by the name of the output")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side")
    arguments = parser.parse_args()
    recipe = tomllib.loads(arguments.config.read_text(encoding="utf-8"))
    stored = json.loads(arguments.output.read_text(encoding="utf-8"))["runs"] if arguments.output.exists() else []
    known = [result["settings"] for result in stored]
    if arguments.text is None:
        raise SystemExit("set BAYESBINN_DATA to the folder that language_text.py wrote, or give --text")
    places = str(arguments.text), str(arguments.runs or Path("runs") / arguments.output.stem)
    todo = [(s, *places) for s in settings_of(recipe) if s not in known]
    context = multiprocessing.get_context("spawn")
    with context.Pool(max(1, min(arguments.jobs, len(todo))), maxtasksperchild=1) as pool:
        for result in pool.imap_unordered(run, todo):
            stored.append(result)
            command = f"bayesbinn reproduce {arguments.config.parent.name} --budget {arguments.config.stem}"
            content = {"name": arguments.output.stem, "title": recipe["title"], "note": recipe.get("note", "")}
            content |= {"command": command, "runs": stored}
            write_text(arguments.output, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            s, found = result["settings"], result["evaluation"]
            best = f", mean {found['mean']['bits_per_byte']:.4f}" if found["mean"] else ""
            print(f"{s['run']}, seed {s['seed']}: mode {found['mode']['bits_per_byte']:.4f}{best}", flush=True)


if __name__ == "__main__":
    main()

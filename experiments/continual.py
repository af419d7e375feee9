"""Continual learning: run the recipes experiments/continual-*/day.toml; `continual_tables.py` makes docs/continual.md.

python experiments/continual.py --config RECIPE.toml --output RESULTS.json [--only RUN] [--seed SEED]
What is stored already with the same settings is skipped, and an interrupted run resumes from its folder. Several may
store into one file at a time, if they do different runs.
`bayesbinn reproduce continual-five --budget day --again` calls the first form.
"""

import argparse
import fcntl
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bayesbinn.errors import UserError
from bayesbinn.files import write_text
from bayesbinn.recipes.recipe import read_results
from bayesbinn.training.config import read_toml
from bayesbinn.training.continual import train_continual
from bayesbinn.training.course import Callbacks

ROOT = Path(__file__).resolve().parent.parent


def settings_of(recipe: dict[str, Any], run: str, seed: int) -> dict[str, Any]:
    """The settings of one run: shared, its own, and the seed, of the network and of the stream."""
    return {**recipe["settings"], "stream_seed": seed, **recipe["runs"][run], "seed": seed}


def command(settings: dict[str, Any]) -> str:
    """The command line that repeats a run."""
    words = ["bayesbinn", "continual", settings["data"]]
    for key, value in settings.items():
        flag = key.replace("_", "-")
        if key != "data":
            words += (
                [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
            )
    return " ".join([*words, "--output", "RUN"])


def commit() -> str:
    """The commit of the code that runs."""
    words = ["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def run_recipe(path: Path, output: Path, work: Path, only: list[str], seeds: list[int]) -> None:
    """Run what `output` lacks, seed by seed, storing each result as soon as it is there."""
    recipe = read_toml(path)
    head = {"name": output.stem, "recipe": str(path.resolve().relative_to(ROOT)), "title": recipe["title"]}
    for seed in seeds or recipe["seeds"]:
        for run in only or recipe["runs"]:
            settings = settings_of(recipe, run, seed)
            stored = (read_results(output) or {}).get("results", {})
            if stored.get(run, {}).get(str(seed), {}).get("settings") == settings:
                continue
            print(f"{output.stem}: {run}, seed {seed}", flush=True)
            callbacks = Callbacks(task=lambda line, tasks: print(f"  task {line['task']}/{tasks}", flush=True))
            folder = work / output.stem / f"{run}-{seed}"
            folder.parent.mkdir(parents=True, exist_ok=True)
            result = train_continual(settings, folder, resume=True, callbacks=callbacks)
            environment = {**result.pop("environment"), "command": command(settings), "commit": commit()}
            result = {"settings": settings, **rounded(result), "environment": environment}
            store(output, {**head, "results": {run: {str(seed): result}}})
            print(f"  mean {result['metrics']['mean_average']:.2%}, {result['train_seconds']:.0f} s", flush=True)


def store(output: Path, new: dict[str, Any]) -> None:
    """Add the one result in `new` to the file; a lock keeps those who store at the same time apart."""
    with output.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        content = {**new, "results": (read_results(output) or {}).get("results", {})}
        for run, seeds in new["results"].items():
            content["results"][run] = {**content["results"].get(run, {}), **seeds}
        write_text(output, json.dumps(content, ensure_ascii=False) + "\n")


def rounded(value: Any) -> Any:
    """Numbers to 5 decimals, so that a hundred tasks' matrix stays small."""
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("runs/continual"))
    parser.add_argument("--only", action="append", default=[], help="a run of the recipe; default: all")
    parser.add_argument("--seed", action="append", default=[], type=int, help="default: the recipe's")
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    try:
        run_recipe(arguments.config, arguments.output, arguments.work, arguments.only, arguments.seed)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()

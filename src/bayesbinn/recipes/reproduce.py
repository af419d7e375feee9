"""Run a recipe: every run and seed in a process of its own, several side by side, skipping what is already stored."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import read_json_lines, write_text
from ..training.checkpoint import load_checkpoint
from ..training.config import make_config, read_toml, settings_of, to_toml
from .recipe import Recipe, read_results


def reproduce(
    recipe: Recipe,
    results: Path,
    work: Path,
    jobs: int = 1,
    say: Callable[[str], None] = print,
    progress: Callable[[str, int, int], None] = lambda label, done, epochs: None,
) -> Path:
    """Run what RESULTS/NAME.json lacks, and store each result in it as soon as it is there.

    A run that was interrupted resumes from its checkpoint in WORK/NAME/RUN-SEED; a stored result whose settings differ
    from the recipe's, or whose method has other defaults by now, is run again.

    Args:
        recipe: checked, from `find_recipe`.
        results: folder of the results.
        work: folder of the run folders.
        jobs: runs at a time; the CPU cores are divided among them, but a run goes on with the threads it began with.
        say: receives lines about what starts and ends.
        progress: called with a run's label, its epochs done and its number of epochs, after each of them.

    Returns:
        The results' file.

    Raises:
        UserError: when a run fails, after the others have ended; everything finished is stored.
    """
    results.mkdir(parents=True, exist_ok=True)
    path = results / f"{recipe.name}.json"
    if recipe.script is not None:
        command = [sys.executable, str(recipe.script), "--config", str(recipe.path), "--output", str(path)]
        if subprocess.run(command, check=False).returncode:
            raise UserError(f"{recipe.script} failed: see its output above")
        return path

    stored = read_results(path).get("runs", {})
    content = {"name": recipe.name, "title": recipe.title, "recipe": str(recipe.path), "runs": stored}
    todo = [
        (run, seed)
        for seed in recipe.seeds  # all methods at one seed before the next: the table fills evenly
        for run in recipe.runs
        if not _is_current(stored.get(run, {}).get(str(seed), {}), recipe.run_settings(run, seed))
    ]
    done = len(recipe.runs) * len(recipe.seeds) - len(todo)
    say(f"{recipe.title}: {len(todo)} runs to do, {done} stored in {path}")
    running: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
    epochs: dict[tuple[str, int], int] = {}
    failed = []
    try:
        while todo or running:
            while todo and len(running) < jobs:
                run, seed = todo.pop(0)
                share = max(1, (os.cpu_count() or 1) // jobs)
                threads = _begun(recipe, run, seed, work).get("threads", share)
                running[run, seed] = _start(recipe, run, seed, work, threads)
                as_begun = "" if threads == share else f" by {threads} threads, as it began"
                say(f"{run}, seed {seed}: training in {_folder(recipe, run, seed, work)}{as_begun}")
            time.sleep(0.2)
            for (run, seed), process in list(running.items()):
                label, ended = f"{run}, seed {seed}", process.poll() is not None
                lines = _epochs_done(_folder(recipe, run, seed, work))
                if lines != epochs.get((run, seed), 0):
                    epochs[run, seed] = lines
                    progress(label, lines, make_config(recipe.run_settings(run, seed)).epochs)
                if not ended:
                    continue
                del running[run, seed]
                if process.returncode or not (_folder(recipe, run, seed, work) / "evaluation.json").exists():
                    failed.append(label)
                    log, words = _last_words(_folder(recipe, run, seed, work))
                    say(f"{label}: failed, see {log}{words}")
                    continue
                result = _collect(recipe, run, seed, work, say)
                stored.setdefault(run, {})[str(seed)] = result
                write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
                say(f"{label}: mode {result['evaluation']['mode']['accuracy']:.2%}")
    finally:
        for process in running.values():  # interrupted: each saves a checkpoint and stops
            process.terminate()
        for process in running.values():
            process.wait()
    if failed:
        raise UserError(f"{len(failed)} runs failed ({'; '.join(failed)}): mend the cause and call reproduce again")
    return path


def _is_current(result: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether a stored result is what these settings would give today."""
    if result.get("settings") != settings:
        return False
    # results of a time before it was stored have no config
    return "config" not in result or _alike(result["config"], settings)


def _alike(config: dict[str, Any], settings: dict[str, Any]) -> bool:
    # a setting that came after the result is not in `settings`, which are equal: it has its default
    now = settings_of(make_config(settings))
    return all(now.get(name) == value for name, value in config.items() if name != "threads")


def _folder(recipe: Recipe, run: str, seed: int, work: Path) -> Path:
    return work / recipe.name / f"{run}-{seed}"


def _begun(recipe: Recipe, run: str, seed: int, work: Path) -> dict[str, Any]:
    """The settings that a run began with; none if it did not begin."""
    file = _folder(recipe, run, seed, work) / "config.toml"
    return read_toml(file) if file.exists() else {}


def _start(recipe: Recipe, run: str, seed: int, work: Path, threads: int) -> "subprocess.Popen[bytes]":
    folder = _folder(recipe, run, seed, work)
    folder.parent.mkdir(parents=True, exist_ok=True)
    settings = {"threads": threads, **recipe.run_settings(run, seed)}
    file = folder.with_name(f"{folder.name}.toml")
    text = to_toml(make_config(settings))
    begun = _begun(recipe, run, seed, work)
    if begun and file.exists() and file.read_text(encoding="utf-8") != text:
        raise UserError(f"{folder} was started with other settings: move it away, or set the recipe back")
    if begun and not _alike(begun, settings):
        raise UserError(f"{folder} was started when the method had other defaults: move it away")
    write_text(file, text)
    command = [sys.executable, "-m", "bayesbinn", "train", "--config", str(file), "--output", str(folder), "--resume"]
    with folder.with_name(f"{folder.name}.log").open("ab") as log:
        # a session of its own, which Ctrl-C does not reach: it is told once, by `reproduce`, and saves
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def _epochs_done(folder: Path) -> int:
    try:
        return (folder / "metrics.jsonl").read_text(encoding="utf-8").count("\n")
    except FileNotFoundError:
        return 0


def _last_words(folder: Path) -> tuple[Path, str]:
    """The log of a run, and its last line after a colon."""
    log = folder.with_name(f"{folder.name}.log")
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    last = next((line for line in reversed(lines) if line.strip()), "")
    return log, f": {last}" if last else ""


def _collect(recipe: Recipe, run: str, seed: int, work: Path, say: Callable[[str], None]) -> dict[str, Any]:
    folder = _folder(recipe, run, seed, work)
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    lines, notes = read_json_lines(folder / "metrics.jsonl", {"accuracy", "nll"})
    for note in notes:
        say(f"note: {note}")
    names = [key for key in (lines[-1] if lines else ()) if key.endswith(("accuracy", "nll"))]
    curve = {key: [line.get(key) for line in lines] for key in names}
    environment = evaluation.pop("environment")
    return {
        "settings": recipe.run_settings(run, seed),
        "config": read_toml(folder / "config.toml"),
        "num_train": load_checkpoint(folder)[2]["description"]["num_train"],
        "evaluation": evaluation,
        "curve": curve,
        "environment": {**environment, "command": _command(recipe.run_settings(run, seed)), "commit": _commit()},
    }


def _command(settings: dict[str, Any]) -> str:
    words = ["bayesbinn", "train", str(settings.get("data", "digits"))]
    for key, value in settings.items():
        flag = key.replace("_", "-")
        if key == "data":
            continue
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return " ".join([*words, "--output", "RUN"])


def _commit() -> str | None:
    """The commit of the code that runs; None outside a clone."""
    here = Path(__file__).parent
    try:
        head = subprocess.run(["git", "-C", str(here), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip()

"""Two processes train into one folder, started and killed at random moments: is a checkpoint ever missing or mixed?

    python benchmarks/writers.py --trials 50 --output benchmarks/results/faults.json

In half of the trials the two are different runs, in half the same run given to two, with resume. A third process reads
the checkpoint all the time: it must be whole, and there from the first on. What is left is then trained to its end, and
must have the weights, optimizer state and generators of a run that had the folder to itself, bit for bit.
"""

import argparse
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from bayesbinn.environment import environment
from bayesbinn.errors import UserError
from bayesbinn.files import update_json
from bayesbinn.training import train
from bayesbinn.training.checkpoint import has_checkpoint, load_checkpoint

SETTINGS: dict[str, Any] = {"data": "digits", "width": 64, "depth": 1, "batch_size": 64, "epochs": 2, "samples": 0}
SETTINGS |= {"checkpoint_steps": 1, "threads": 1}
REFUSED, REFUSALS = 2, ("is being written by process", "already holds a run")


def fork(folder: Path, delay: float, resume: bool, **settings: Any) -> int:
    """Start a writer: a fork, as imports take longer than the training does."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        time.sleep(delay)
        train({**SETTINGS, **settings}, folder, resume=resume)
        status = 0
    except UserError as error:
        status = REFUSED if any(refusal in str(error) for refusal in REFUSALS) else 1
    finally:
        os._exit(status)


def bits(folder: Path) -> list[dict[str, bytes]]:
    return [{k: v.numpy().tobytes() for k, v in part.items()} for part in load_checkpoint(folder)[:2]]


def trial(folder: Path, resume: bool, calm: list[Any], rng: random.Random, counts: dict[str, int]) -> None:
    """One pair of writers; `counts` collects what has happened."""
    seeds = (0, 0) if resume else (0, 1)
    pids = {fork(folder, rng.random() * 0.3, resume, seed=seed) for seed in seeds}
    kills = sorted(rng.random() * 1.5 for _ in range(rng.randrange(3)))
    began, seen = time.monotonic(), False
    while pids:
        if kills and time.monotonic() - began > kills[0]:
            kills.pop(0)
            os.kill(rng.choice(sorted(pids)), signal.SIGKILL)
        if has_checkpoint(folder):
            seen = True
            try:
                load_checkpoint(folder)
                counts["readings"] += 1
            except UserError as error:
                print(error)
                counts["mixed or damaged"] += 1
        elif seen:
            counts["missing"] += 1
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            pids.remove(pid)
            ends = {0: "writers that ended well", REFUSED: "writers refused", -signal.SIGKILL: "writers killed"}
            counts[ends.get(os.waitstatus_to_exitcode(status), "writers that failed otherwise")] += 1
    if (folder / "config.toml").exists():
        train({}, folder, resume=True)
        counts["ends that are nobody's"] += bits(folder) not in calm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="JSON file, of which this writes the section `writers`")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--seed", type=int, default=2020)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp())
    for seed in (0, 1):
        train({**SETTINGS, "seed": seed}, folder / f"calm-{seed}")
    calm = [bits(folder / f"calm-{seed}") for seed in (0, 1)]
    names = ("writers that ended well", "writers refused", "writers killed", "writers that failed otherwise")
    counts = dict.fromkeys((*names, "readings", "missing", "mixed or damaged", "ends that are nobody's"), 0)
    for number in range(options.trials):
        trial(folder / str(number), number % 2 == 1, calm, rng, counts)
        print(number, counts, flush=True)
    shutil.rmtree(folder)
    result = {"environment": environment(), "settings": SETTINGS, "trials": options.trials, **counts}
    if options.output:
        update_json(options.output, writers=result)


if __name__ == "__main__":
    main()

"""Kill a training run again and again, at random moments, and see whether it ends with the weights of a calm one.

    python benchmarks/faults.py --output benchmarks/results/faults.json

With one process, and with two under torchrun, where rank 0, rank 1 or everything is killed (SIGKILL).  A checkpoint is
written after every step, so that many kills come while one is being written: those are counted (a half-written
file is left).  The run is started anew with --resume after each kill.

    python benchmarks/faults.py --runtime --output benchmarks/results/faults.json

measures one loaded network under threads, forks and many loads instead (see runtime_faults.py).
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import runtime_faults

from bayesbinn.environment import environment
from bayesbinn.files import update_json
from bayesbinn.training.checkpoint import has_checkpoint, load_checkpoint

TEXT = "digits --epochs 8 --width 512 --depth 2 --batch-size 32 --checkpoint-steps 1 --samples 0"
SETTINGS = TEXT.split()
STEPS_PER_EPOCH = 1437 // 32


def command(run: Path, processes: int) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    start = [sys.executable, *(launcher if processes > 1 else [])]
    return [*start, "-m", "bayesbinn", "train", *SETTINGS, "--output", str(run), "--resume"]


def start(run: Path, processes: int) -> "subprocess.Popen[bytes]":
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command(run, processes), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(run: Path, processes: int) -> None:
    if start(run, processes).wait() != 0:
        raise SystemExit(f"the run in {run} did not end well")


def steps_done(run: Path) -> int:
    if not has_checkpoint(run):
        return 0
    progress = load_checkpoint(run)[2]["progress"]
    return int(progress["epoch"] * STEPS_PER_EPOCH + progress["batch"])


def children(pid: int) -> list[int]:
    """The processes that `pid` has started, in the order of their starts."""
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill(process: "subprocess.Popen[bytes]", victim: str) -> None:
    workers = children(process.pid)
    chosen = {"all": [process.pid, *workers], "rank 0": workers[:1], "rank 1": workers[1:2]}[victim]
    for pid in chosen:
        os.kill(pid, signal.SIGKILL)
    process.wait()


def experiment(folder: Path, processes: int, kills: int, rng: random.Random) -> dict[str, Any]:
    calm, run = folder / f"calm-{processes}", folder / f"killed-{processes}"
    finish(calm, processes)
    victims: dict[str, int] = {}
    saving = 0
    while sum(victims.values()) < kills:
        process = start(run, processes)
        before = steps_done(run)
        goal = before + rng.randint(1, 8)
        while steps_done(run) < goal:
            if process.poll() is not None:
                raise SystemExit(f"a run of {processes} ended by itself with status {process.returncode}")
            time.sleep(0.002)
        time.sleep(rng.random() * 0.1)  # anywhere in a step or a save
        victim = rng.choice(["all", "rank 0", "rank 1"]) if processes > 1 else "all"
        kill(process, victim)
        victims[victim] = victims.get(victim, 0) + 1
        saving += any(run.glob(".checkpoint.safetensors.*.new"))
    finish(run, processes)
    parts = [load_checkpoint(r)[:2] for r in (calm, run)]
    equal = all(
        a.keys() == b.keys() and all(a[k].numpy().tobytes() == b[k].numpy().tobytes() for k in a)
        for a, b in zip(*parts, strict=True)
    )
    return {
        "processes": processes,
        "kills": victims,
        "of these while a checkpoint was being written": saving,
        "weights, optimizer state and generators equal, bit for bit": equal,
    }


def store(output: Path | None, part: dict[str, Any]) -> None:
    """Puts `part` beside what the file holds, and prints it."""
    print(json.dumps(part, indent=2))
    if output:
        update_json(output, **part)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="JSON file, of which this writes the section `killed`")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, nargs="+", choices=(1, 2), default=[1, 2])
    parser.add_argument("--seed", type=int, default=2020)
    parser.add_argument("--runtime", action="store_true", help="one loaded network under threads and forks, instead")
    parser.add_argument(
        "--before", type=Path, help="the speed of `run` beside the built package in this folder, instead"
    )
    options = parser.parse_args()
    if options.runtime:
        store(options.output, {"runtime": {"environment": environment(), **runtime_faults.measure()}})
        return
    if options.before:
        ratios = runtime_faults.measure_speed(options.before)
        store(options.output, {"processor time of run, now over before": {"environment": environment(), **ratios}})
        return
    rng = random.Random(options.seed)
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for processes in options.processes:
            runs.append(experiment(Path(folder), processes, options.kills, rng))
            store(options.output, {"killed": {"environment": environment(), "settings": TEXT, "runs": runs}})
    if not all(run["weights, optimizer state and generators equal, bit for bit"] for run in runs):
        raise SystemExit("a killed run differs from the calm one")


if __name__ == "__main__":
    main()

"""Train on two processes of gloo whose mutexes come late, and see whether one of them aborts or hangs at its end.

    python benchmarks/gloo.py --trials 10 --output benchmarks/results/faults.json

The delay comes from `delay_gloo.c`, compiled and preloaded here. All processes are forks of this one, which has
imported everything and started no thread: each then ends as Python ends. Scenarios, each with λ split over the ranks:

calm, late, killed  `bayesbinn train`; a rank is stopped for two seconds (late) or killed, at a random moment
nan                 the same, and the loss of rank 1 becomes NaN
alive               a program of the library that keeps the split network, and ends with `end_process`
"""

import argparse
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # which FSDP2 imports when it is first used; here once for all
import torch.distributed.fsdp
import torch.nn.functional as F
from torch import nn

import bayesbinn as bb
from bayesbinn.__main__ import run as bayesbinn
from bayesbinn.environment import environment
from bayesbinn.files import update_json
from bayesbinn.training.checkpoint import has_checkpoint
from bayesbinn.training.distributed import connect, end_process

HERE = Path(__file__).parent
TEXT = "digits --width 16 --depth 1 --epochs 2 --batch-size 512 --checkpoint-steps 1 --samples 0 --sharding full"
DELAY = 1500  # ms at most; a fixed one misses the moment in which Python ends
LIMIT = 240.0  # seconds after which a process counts as hanging
EXPECTED: dict[str, tuple[set[int], set[int]]] = {  # exit statuses of the rank that is meddled with, and of the other
    "calm": ({0}, {0}),
    "late": ({0}, {0}),
    "killed": ({-signal.SIGKILL}, {1}),
    "nan": ({1}, {2}),
    "alive": ({0}, {0}),
}
KEPT: list[nn.Module] = []


def train(folder: Path) -> None:
    sys.argv = ["bayesbinn", "train", *TEXT.split(), "--timeout", "60", "--output", str(folder)]
    bayesbinn()


def train_to_nan(folder: Path) -> None:
    loss: Any = F.cross_entropy
    if os.environ["RANK"] == "1":
        F.cross_entropy = lambda *a, **k: loss(*a, **k) * float("nan")  # type: ignore[assignment]
    train(folder)


def keep(folder: Path) -> None:
    with connect("full", timeout=60) as world:
        net = bb.binarize_(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)))
        KEPT.append(net)
        world.shard_(net)
        for _ in range(3):
            F.cross_entropy(net(torch.randn(4, 8)), torch.arange(4)).backward()
        world.any(False)  # whose tensor only gloo still holds
    end_process()


PROGRAMS: dict[str, Callable[[Path], None]] = {"nan": train_to_nan, "alive": keep}


def fork(scenario: str, folder: Path, rank: int, port: int) -> int:
    pid = os.fork()
    if pid:
        return pid
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in ranks.items()}}
    log = os.open(f"{folder}.{rank}.log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    PROGRAMS.get(scenario, train)(folder)
    sys.exit()


def statuses(pids: list[int]) -> list[int | None]:
    """The exit statuses; None for what did not end by itself."""
    found: dict[int, int | None] = {}
    end = time.monotonic() + LIMIT
    while len(found) < len(pids) and time.monotonic() < end:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            found[pid] = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.02)
    for pid in set(pids) - found.keys():
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return [found.get(pid) for pid in pids]


def trial(scenario: str, folder: Path, rng: random.Random) -> str:
    """One training: "well", "aborted", "hung", or what else was not expected."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    pids = [fork(scenario, folder, rank, port) for rank in range(2)]
    victim = 1
    if scenario in ("late", "killed"):
        while not has_checkpoint(folder):
            time.sleep(0.01)
        time.sleep(rng.random() * 2)
        victim = rng.randrange(2)
        os.kill(pids[victim], signal.SIGKILL if scenario == "killed" else signal.SIGSTOP)
        if scenario == "late":
            time.sleep(2)
            os.kill(pids[victim], signal.SIGCONT)
    found = statuses(pids)
    if -signal.SIGABRT in found:
        return "aborted"
    if None in found:
        return "hung"
    of_victim, of_other = EXPECTED[scenario]
    return "well" if found[victim] in of_victim and found[1 - victim] in of_other else f"statuses {found}"


def preloaded() -> None:
    """Start this program anew with the delays, unless it has them."""
    if "GLOO_DELAY_MS" in os.environ:
        return
    library = Path(tempfile.mkdtemp()) / "delay_gloo.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, HERE / "delay_gloo.c", "-ldl"], check=True)
    more = {"LD_PRELOAD": str(library), "GLOO_DELAY_MS": str(DELAY), "OMP_NUM_THREADS": "1"}
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **more})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path, help="JSON file, of which this writes the section `distributed`")
    parser.add_argument("--trials", type=int, default=10, help="of each scenario")
    parser.add_argument("--seed", type=int, default=2020)
    options = parser.parse_args()
    preloaded()
    torch.set_num_threads(1)
    made, rng = environment(), random.Random(options.seed)
    counts: dict[str, dict[str, int]] = {scenario: {} for scenario in EXPECTED}
    folder = Path(tempfile.mkdtemp())  # no context: the forks unwind this stack
    for number in range(options.trials):
        for scenario, found in counts.items():
            result = trial(scenario, folder / f"{scenario}-{number}", rng)
            found[result] = found.get(result, 0) + 1
            print(number, scenario, result, flush=True)
            if options.output:
                found_so_far = {"settings": TEXT, "largest delay of a mutex, ms": DELAY, "trials": counts}
                update_json(options.output, distributed={"environment": made, **found_so_far})
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()

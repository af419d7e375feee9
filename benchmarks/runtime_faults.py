"""One loaded network under threads, forks and many loads; `faults.py --runtime` stores what this finds.

Nothing here needs torch but `files`, which makes the networks.  Answers are compared with those of one thread.

    python benchmarks/runtime_faults.py PACKAGE FILE BATCH

is one side of `speed`: it times calls with the `bayesbinn` in the folder PACKAGE ("": the installed one), as often as
its input says.
"""

import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

if __name__ == "__main__" and sys.argv[1]:  # not the installed package, which an editable one puts before any path
    sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, type)]
    sys.path.insert(0, sys.argv[1])

from bayesbinn.runtime import Network, load

Floats = NDArray[np.float32]


def files() -> dict[str, bytes]:
    """An MLP and a convolutional network in which the threads of one call do share work, and one that loads quickly."""
    import torch
    from torch import nn

    import bayesbinn as bb

    torch.manual_seed(0)
    mlp = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    layers = [nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    conv = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 12 * 12, 10))
    nets = {"mlp": (mlp, (256,)), "conv": (conv, (8, 12, 12)), "small": (nn.Sequential(nn.Linear(16, 4)), (16,))}
    return {
        name: bb.deploy.pack(bb.binarize_(net).eval(), num_samples=1, input_shape=shape)
        for name, (net, shape) in nets.items()
    }


def inputs(network: Network, count: int, batch: int) -> list[Floats]:
    """`count` different batches."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=(batch, *network.program.input_shape)).astype(np.float32) for _ in range(count)]


def wrong_answers(raw: bytes, answers: int, *, callers: int = 4, threads: int = 1, batch: int = 4) -> int:
    """How many of `answers` calls by `callers` Python threads of one network are not what one thread answers."""
    network = load(raw, threads=threads)
    batches = inputs(network, 4 * callers, batch)
    expected = [load(raw).run(x) for x in batches]
    ready = threading.Barrier(callers)

    def call(caller: int) -> int:
        ready.wait()
        mine = [(caller + callers * i) % len(batches) for i in range(answers // callers)]
        return sum(not np.array_equal(network.run(batches[i]), expected[i]) for i in mine)

    with ThreadPoolExecutor(callers) as pool:
        return sum(pool.map(call, range(callers)))


def hangs(raw: bytes, forks: int, *, threads: int = 2, busy: bool = False, patience: float = 30) -> tuple[int, int]:
    """(hung, failed) of `forks` children, each of which runs its parent's network, loads another, and frees both.

    Args:
        busy: whether another thread of the parent is in a call while it forks.
        patience: seconds after which a child counts as hung.
    """
    network = load(raw, threads=threads)
    x = inputs(network, 1, 32)[0]
    expected, done = network.run(x), threading.Event()

    def keep_busy() -> None:
        while not done.is_set():
            network.run(x)

    def child() -> bool:
        nonlocal network
        right = np.array_equal(network.run(x), expected)
        right &= np.array_equal(load(raw, threads=threads).run(x), expected)
        del network
        return right

    other = threading.Thread(target=keep_busy)
    if busy:
        other.start()
    found = [_in_child(child, patience) for _ in range(forks)]
    done.set()
    if busy:
        other.join()
    return found.count(None), found.count(False)


def _in_child(work: Callable[[], bool], patience: float) -> bool | None:
    """Whether `work` was true in a forked child; None if the child hung (it is killed)."""
    pid = os.fork()
    if pid == 0:
        status = 2
        try:
            status = 0 if work() else 1
        finally:
            os._exit(status)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def growth(raw: bytes, loads: int, *, threads: int = 1) -> int:
    """Bytes by which the memory of this process grows over `loads` loads, runs and frees, after the first hundred."""
    x = inputs(load(raw), 1, 1)[0]
    for _ in range(100):
        load(raw, threads=threads).run(x)
    before = _resident()
    for _ in range(loads):
        load(raw, threads=threads).run(x)
    return _resident() - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def throughput(raw: bytes, *, callers: int = 2, rounds: int = 40, calls: int = 50, batch: int = 32) -> dict[str, Any]:
    """Answers a second of `callers` threads on one network over that of one thread, in turns.

    At real-time priority where that is allowed: on a shared machine the ratio would depend on what others do.
    """
    network = load(raw)
    x = inputs(network, 1, batch)[0]

    def work(_: int) -> None:
        for _ in range(calls):
            network.run(x)

    def rate(pool: ThreadPoolExecutor, count: int) -> float:
        start = time.perf_counter()
        list(pool.map(work, range(count)))
        return count * calls / (time.perf_counter() - start)

    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))  # before the pool's threads, which inherit it
    except PermissionError:
        priority = "the usual priority"
    else:
        priority = "real-time priority"
    try:
        with ThreadPoolExecutor(callers) as pool:
            rate(pool, callers)
            ratios = sorted(rate(pool, callers) / rate(pool, 1) for _ in range(rounds))
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    spread = {"least": round(ratios[0], 3), "most": round(ratios[-1], 3)}
    return {"median": round(statistics.median(ratios), 3), **spread, "rounds": rounds, "at": priority}


def speed(file: Path, before: Path, *, batch: int, rounds: int = 101, seconds: float = 0.03) -> dict[str, Any]:
    """Processor time of a call now over that of the package in the folder `before`: both take turns, one thread."""
    sides = []
    for package in (str(before), ""):
        command = [sys.executable, __file__, package, str(file), str(batch)]
        sides.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1))

    def time_of(side: "subprocess.Popen[str]", calls: int) -> float:
        assert side.stdin is not None
        assert side.stdout is not None
        side.stdin.write(f"{calls}\n")
        return float(side.stdout.readline()) / calls

    calls = max(1, round(seconds / max(time_of(side, 5) for side in sides)))
    times = [[time_of(side, calls) for side in sides] for _ in range(rounds)]
    for side in sides:
        side.communicate()
    old, new = (statistics.median(column) for column in zip(*times, strict=True))
    ratio = statistics.median(new / old for old, new in times)
    return {"before, μs": round(1e6 * old, 2), "now, μs": round(1e6 * new, 2), "median of ratios": round(ratio, 4)}


def measure() -> dict[str, Any]:
    """Answers under threads and forks, memory, throughput."""
    raws = files()
    return {
        "[wrong, of] answers of one network to 4 threads": {
            f"{name}, threads={threads}": [wrong_answers(raws[name], answers, threads=threads), answers]
            for name, threads, answers in (("mlp", 1, 100_000), ("mlp", 2, 20_000), ("conv", 1, 5_000))
        },
        "[hung, wrong] children of 200 forks, threads=2": {
            f"{name}, {'during a call' if busy else 'between calls'}": hangs(raws[name], 200, busy=busy)
            for name in ("mlp", "conv")
            for busy in (False, True)
        },
        "bytes that 20,000 loads, runs and frees leave": growth(raws["small"], 20_000),
        "throughput of 2 threads over 1": throughput(raws["mlp"]),
    }


def measure_speed(before: Path) -> dict[str, Any]:
    """Processor time of `run` over that of the package in the folder `before`."""
    with tempfile.TemporaryDirectory() as folder:
        for name, raw in files().items():
            (Path(folder) / name).write_bytes(raw)
        return {
            f"{name}, batch {batch}": speed(Path(folder) / name, before, batch=batch)
            for name, batch in (("small", 1), ("mlp", 1), ("mlp", 32), ("conv", 8))
        }


def _time_calls(file: str, batch: str) -> None:
    network = load(file)
    x = inputs(network, 1, int(batch))[0]
    network.run(x)
    for line in sys.stdin:
        start = time.process_time()
        for _ in range(int(line)):
            network.run(x)
        print(time.process_time() - start, flush=True)


if __name__ == "__main__":
    _time_calls(*sys.argv[2:])

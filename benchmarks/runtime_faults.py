"""One loaded network under threads, forks and many loads; `faults.py --runtime` stores what this finds.

Nothing here needs torch but `files`, which makes the networks.  Answers are compared with those of one thread.
"""

import os
import resource
import signal
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def throughput(raw: bytes, *, callers: int = 2, rounds: int = 15, calls: int = 100, batch: int = 32) -> dict[str, Any]:
    """Answers a second of `callers` threads on one network over that of one thread, in turns."""
    network = load(raw)
    x = inputs(network, 1, batch)[0]

    def work(_: int) -> None:
        for _ in range(calls):
            network.run(x)

    def rate(pool: ThreadPoolExecutor, count: int) -> float:
        start = time.perf_counter()
        list(pool.map(work, range(count)))
        return count * calls / (time.perf_counter() - start)

    with ThreadPoolExecutor(callers) as pool:
        rate(pool, callers)
        ratios = sorted(rate(pool, callers) / rate(pool, 1) for _ in range(rounds))
    return {"median": round(statistics.median(ratios), 3), "best": round(ratios[-1], 3), "rounds": rounds}

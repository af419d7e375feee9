"""What a training step costs: forward and backward, draw, update; beside Adam, STE and the rule as published in 2020.

    python benchmarks/train_step.py --output benchmarks/results/train_step.json   # measures; --parts, --threads choose
    python benchmarks/train_step.py --page docs/performance.md --output ...       # writes the tables from the result

The network is an MLP 784-W-W-W-10 with batch norm, without biases, at batch 100; every contender trains its own copy.
They take turns, in an order shuffled every round, and medians are kept.  The draw is timed on its own before each step,
with the caches as the last step left them; forward and backward is what remains of the step.

Freed memory is kept for the next step, as `bayesbinn train` does it.  The code of 2020 ran without that: "2020 rule"
takes its turns in a process of its own that leaves the allocator alone, "2020 rule, memory kept" in this one.
"""

import argparse
import ctypes
import json
import random
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn import _native
from bayesbinn.data import batches, load_data
from bayesbinn.environment import environment, keep_freed_memory
from bayesbinn.nn import binary_layers
from benchmarks.rule2020 import Rule2020
from benchmarks.train_step_page import stored, write_page

WIDTHS = {"1M": 536, "10M": 2048, "100M": 6875}
ROUNDS = {"1M": 60, "10M": 15, "100M": 5}
BATCH, NUM_DATA = 100, 60_000
PUBLISHED = "2020 rule"
# bayesbinn: the plain rule without state; the other forms have momentum, as the defaults do
FORMS = {"bayesbinn per tensor": "tensor", "bayesbinn per weight": "weight"}
OURS = ("bayesbinn", "bayesbinn bfloat16", *FORMS)
CONTENDERS = (*OURS, "float, Adam", "ste, Adam", PUBLISHED, f"{PUBLISHED}, memory kept")
clock = time.perf_counter
Timer = Callable[[Tensor, Tensor], dict[str, float]]


def mlp(width: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in ((784, width), (width, width), (width, width), (width, 10)):
        layers += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs, affine=False), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def contender(name: str, width: int) -> tuple[nn.Module, Timer]:
    """The network and a function that takes one step and returns the seconds of its parts."""
    net = mlp(width)
    if name.startswith(PUBLISHED):
        return net, _rule2020(net)
    draw: Callable[[], Any] = lambda: None  # noqa: E731
    if name.startswith("bayesbinn"):
        layers = [layer for _, layer in binary_layers(bb.binarize_(net))]
        if name.endswith("bfloat16"):
            for layer in layers:
                layer.natural.data = layer.natural.data.to(torch.bfloat16)
        form = FORMS.get(name, "plain")
        options = {"num_data": NUM_DATA, "kl_weight": 0.002, "form": form, "momentum": 0.9 if name in FORMS else 0.0}
        optimizer: torch.optim.Optimizer = bb.BayesBiNN(bb.split_parameters(net)[0], 0.0002, **options)
    else:
        if name.startswith("ste"):
            bb.binarize_(net, binarizer=bb.binarizers.SignSTE(), magnitude=0.1)
        layers = [layer for _, layer in binary_layers(net)]
        optimizer = torch.optim.Adam(net.parameters(), 1e-3, fused=True)
    if layers:
        draw = lambda: [layer.binarizer.binarize(layer.natural) for layer in layers]  # noqa: E731

    def step(x: Tensor, y: Tensor) -> dict[str, float]:
        t0 = clock()
        draw()
        t1 = clock()
        F.cross_entropy(net(x), y).backward()
        t2 = clock()
        optimizer.step()
        t3 = clock()
        optimizer.zero_grad()
        t4 = clock()
        return {"draw": t1 - t0, "update": t3 - t2 + t4 - t3, "step": t4 - t1}

    return net, step


def _rule2020(net: nn.Module) -> Timer:
    rule = Rule2020(list(net.parameters()), 1e-4, NUM_DATA)

    def step(x: Tensor, y: Tensor) -> dict[str, float]:
        t0 = clock()
        weight = rule.draw()
        t1 = clock()
        grads = torch.autograd.grad(F.cross_entropy(net(x), y), rule.params)
        t2 = clock()
        rule.update(weight, list(grads))
        t3 = clock()
        return {"draw": t1 - t0, "update": t3 - t2, "step": t3 - t0}

    return step


class Elsewhere:
    """The published rule in a process with the allocator as it comes; it works only when asked."""

    def __init__(self, size: str) -> None:
        command = [sys.executable, __file__, "--serve", size, "--threads", str(torch.get_num_threads())]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def _ask(self, count: int) -> dict[str, float]:
        assert self.process.stdin
        assert self.process.stdout
        print(count, file=self.process.stdin, flush=True)
        answer: dict[str, float] = json.loads(self.process.stdout.readline())
        return answer

    def step(self, x: Tensor, y: Tensor) -> dict[str, float]:
        return self._ask(0)

    def block(self, length: int) -> float:
        return self._ask(length)["seconds"]

    def close(self) -> None:
        self.process.communicate()


def serve(size: str) -> None:
    """Answer each line of stdin: 0 with the parts of a step, L > 0 with the seconds a step of L steps through MNIST."""
    _, timer = contender(PUBLISHED, WIDTHS[size])
    x, y = torch.randn(BATCH, 784), torch.randint(10, (BATCH,))
    block: Callable[[int], float] | None = None
    for line in sys.stdin:
        if not int(line):
            answer = timer(x, y)
        else:
            block = block or _block(PUBLISHED, timer)
            answer = {"seconds": block(int(line))}
        print(json.dumps(answer), flush=True)


def _block(name: str, timer: Timer) -> Callable[[int], float]:
    """A function that takes L steps through MNIST in training order and returns the seconds a step, data included."""
    stream = batches(load_data("mnist").train, BATCH, seed=0, epoch=0)
    timer(*_inputs(next(stream)))  # what the first step allocates later ones reuse

    def run(length: int) -> float:
        started, extra = clock(), 0.0
        for _ in range(length):
            parts = timer(*_inputs(next(stream)))
            extra += 0.0 if name.startswith(PUBLISHED) else parts["draw"]  # drawn once more, for its time alone
        return (clock() - started - extra) / length

    return run


def steps(size: str) -> dict[str, Any]:
    """Median milliseconds of the parts of a step, for each contender; and the number of weights."""
    x, y = torch.randn(BATCH, 784), torch.randint(10, (BATCH,))
    names = [name for name in CONTENDERS if size != "100M" or not name.startswith(PUBLISHED)]  # 8 s a step
    published = Elsewhere(size)
    timers = {name: published.step if name == PUBLISHED else contender(name, WIDTHS[size])[1] for name in names}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in timers}
    order = random.Random(0)
    for round_ in range(ROUNDS[size] + 2):
        for name in order.sample(names, len(names)):
            parts = timers[name](x, y)
            if round_ >= 2:  # the first rounds allocate what later ones reuse
                found[name].append(parts)
    published.close()
    width = WIDTHS[size]
    medians: dict[str, Any] = {"weights": 784 * width + 2 * width**2 + 10 * width}
    for name, rows in found.items():
        m = {part: 1e3 * statistics.median(row[part] for row in rows) for part in rows[0]}
        m["forward+backward"] = m["step"] - m["draw"] - m["update"]
        m["own"] = m["draw"] + m["update"]  # what the method adds to forward and backward
        medians[name] = {part: round(value, 4) for part, value in m.items()}
    return medians


def epoch(blocks: int = 5, length: int = 20) -> dict[str, Any]:
    """Milliseconds a step through MNIST in training order, data included; `blocks` runs of `length` steps each."""
    published = Elsewhere("10M")
    run = {
        name: published.block if name == PUBLISHED else _block(name, contender(name, WIDTHS["10M"])[1])
        for name in CONTENDERS
    }
    found: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    order = random.Random(0)
    for _ in range(blocks):
        for name in order.sample(CONTENDERS, len(CONTENDERS)):
            found[name].append(run[name](length))
    published.close()
    medians = {name: round(1e3 * statistics.median(values), 4) for name, values in found.items()}
    return {"blocks": blocks, "steps a block": length, "ms a step": medians}


def _inputs(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    x, y = batch
    return x.flatten(1).float() / 255, y


def memory(name: str, count: int = 10_000_000) -> dict[str, float]:
    """Bytes a weight of training state (parameter and optimizer), at rest and at the peak of an update.

    Of this process, by the operating system's count; the gradient, alive at the peak, is taken off.
    """
    if count > 1000:
        memory(name, 1000)  # what torch imports on first use is no state
    before = _resident("VmRSS")
    dtype = torch.bfloat16 if "bfloat16" in name else torch.float32
    natural = nn.Parameter(torch.ones(count, dtype=dtype))
    if name.startswith("bayesbinn"):
        beta = 0.9 if "momentum" in name or name in FORMS else 0.0
        form = FORMS.get(name, "plain")
        optimizer: Any = bb.BayesBiNN([natural], 0.1, num_data=NUM_DATA, momentum=beta, form=form)
    elif name == "Adam":
        optimizer = torch.optim.Adam([natural], fused=True)
    else:
        optimizer = Rule2020([natural], 1e-4, NUM_DATA)
    for _ in range(2):
        grad = torch.full((count,), 1e-3, dtype=dtype)
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        if isinstance(optimizer, Rule2020):
            optimizer.update(optimizer.draw(), [grad])
        else:
            natural.grad = grad
            optimizer.step()
            optimizer.zero_grad()
        peak = _resident("VmHWM") - grad.nbytes
        natural.grad = None
        del grad
    ctypes.CDLL(None).malloc_trim(0)  # what is free counts for nothing
    return {"rest": (_resident("VmRSS") - before) / count, "peak": (peak - before) / count}


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def profile(size: str = "10M", count: int = 5) -> list[tuple[str, float]]:
    """Milliseconds a step of the operations of a bayesbinn step, the largest first."""
    x, y = torch.randn(BATCH, 784), torch.randint(10, (BATCH,))
    net, _ = contender("bayesbinn", WIDTHS[size])
    optimizer = bb.BayesBiNN(bb.split_parameters(net)[0], 0.1, num_data=NUM_DATA)

    def step() -> None:
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as found:
        for _ in range(count):
            step()
    rows = sorted(((e.key, e.self_cpu_time_total / 1e3 / count) for e in found.key_averages()), key=lambda r: -r[1])
    return [(name, round(ms, 3)) for name, ms in rows[:8]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "train_step.json")
    parser.add_argument("--parts", nargs="*", default=["1M", "10M", "100M", "epoch", "memory", "profile"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cpu-time", action="store_true", help="of the main thread, for a machine that others use too")
    parser.add_argument("--page", type=Path, help="write the tables into this page, measure nothing")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(memory(arguments.memory_of)))
        return
    if arguments.serve:
        torch.set_num_threads(arguments.threads[0])
        serve(arguments.serve)
        return
    if arguments.cpu_time:
        if arguments.threads != [1]:
            parser.error("--cpu-time is that of one thread: give --threads 1")
        global clock
        clock = time.thread_time
    results = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    if arguments.page:
        write_page(arguments.page, stored(arguments.output.parent))
        return
    keep_freed_memory()  # as `bayesbinn train` does; for all contenders
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for part in arguments.parts:
            if part == "memory":
                names = ("bayesbinn", "bayesbinn bfloat16", "bayesbinn momentum", "Adam", "2020 rule")
                for name in names:
                    command = [sys.executable, __file__, "--memory-of", name]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    results.setdefault("memory", {})[name] = json.loads(done.stdout)
            else:
                torch.manual_seed(0)
                measured = {"epoch": epoch, "profile": profile}[part]() if part in ("epoch", "profile") else steps(part)
                about = {
                    **environment(),
                    "clock": clock.__name__,
                    "isa": _native.chosen() if _native.library() else "none",
                }
                faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                entry = {"environment": about, "minor_faults": faults, "results": measured}
                results.setdefault(part, {})[str(threads)] = entry
            arguments.output.write_text(json.dumps(results, indent=1) + "\n")
            print(part, threads, json.dumps(results[part], indent=1), flush=True)


if __name__ == "__main__":
    main()

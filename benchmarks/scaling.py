"""Training throughput of two processes with one thread each, beside one process with one thread, on one machine.

    python benchmarks/scaling.py --output benchmarks/results/scaling.json

The step is that of the library's loop: forward, backward, BayesBiNN for λ and Adam for the rest, on random inputs (MLP
784-2048×3-10, about 10 M binary weights), under DDP on gloo.  Weak scaling gives every process the batch that the one
process had; strong scaling divides that batch; apart, both work at once and exchange nothing, which is what the
machine's memory and cores allow at most.  All cases run in turns in the same processes, rank 1 asleep where rank 0
works alone; figures are medians over the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import bayesbinn as bb
from bayesbinn.environment import environment
from bayesbinn.training.models import ModelConfig, build_model

CONFIG = ModelConfig(width=2048, depth=3)


class Worker:
    """A network, its optimizers, and steps of it."""

    def __init__(self, together: bool) -> None:
        torch.manual_seed(0)
        net = bb.binarize_(build_model(CONFIG, (784,), 10))
        binary, real = bb.split_parameters(net)
        self.num_weights = sum(p.numel() for p in binary)
        self.optimizers = [bb.BayesBiNN(binary, lr=0.0002, num_data=60_000, kl_weight=0.002), torch.optim.Adam(real)]
        self.model: nn.Module = DistributedDataParallel(net, gradient_as_bucket_view=True) if together else net

    def seconds(self, batch: int, steps: int) -> float:
        """Of one step, the mean over `steps`."""
        x, y = torch.randn(batch, 784), torch.randint(10, (batch,))
        started = time.perf_counter()
        for _ in range(steps):
            F.cross_entropy(self.model(x), y).backward()
            for optimizer in self.optimizers:
                optimizer.step()
                optimizer.zero_grad()
        return (time.perf_counter() - started) / steps


def measure(batches: list[int], rounds: int, steps: int) -> dict[str, Any]:
    """What every rank does; the result counts on rank 0."""
    rank = dist.get_rank()
    torch.set_num_threads(1)
    alone, together = Worker(together=False), Worker(together=True)
    result: dict[str, Any] = {"num_weights": alone.num_weights, "rounds": rounds, "steps": steps, "batches": {}}
    for batch in batches:
        seconds: dict[str, list[float]] = {"one": [], "apart": [], "weak": [], "strong": []}
        for turn in range(rounds + 1):
            found = {}
            if rank == 0:
                found["one"] = alone.seconds(batch, steps)
            dist.barrier()
            found["apart"] = alone.seconds(batch, steps)
            dist.barrier()
            for case, share in (("weak", batch), ("strong", batch // 2)):
                found[case] = together.seconds(share, steps)
                dist.barrier()
            if rank == 0 and turn > 0:  # the first is to warm up
                for case, value in found.items():
                    seconds[case].append(value)
        if rank == 0:
            times = {case: statistics.median(values) for case, values in seconds.items()}
            result["batches"][str(batch)] = {
                "seconds per step": {k: round(v, 4) for k, v in times.items()},
                "apart: throughput of two over one": round(2 * times["one"] / times["apart"], 3),
                "weak: throughput of two over one": round(2 * times["one"] / times["weak"], 3),
                "strong: throughput of two over one": round(times["one"] / times["strong"], 3),
                "all rounds": {k: [round(v, 4) for v in values] for k, values in seconds.items()},
            }
    # what the two small collectives of a step of `bayesbinn train` cost beside the gradients: the agreement to stop,
    # and the metrics with batch norm's running statistics
    for name, size in (("stop", 1), ("metrics and statistics", 2 * (3 * 2048 + 10) + 2)):
        small = torch.zeros(size, dtype=torch.float64)
        started = time.perf_counter()
        for _ in range(200):
            dist.all_reduce(small)
        result.setdefault("small collectives, seconds", {})[name] = round((time.perf_counter() - started) / 200, 6)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--output", type=Path)
    parser.add_argument("--batches", type=int, nargs="+", default=[100, 400])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    if "RANK" not in os.environ:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        env = {**os.environ, "OMP_NUM_THREADS": "1"}
        sys.exit(subprocess.run([*launcher, *sys.argv], env=env, check=False).returncode)
    dist.init_process_group("gloo")
    result = measure(options.batches, options.rounds, options.steps)
    if dist.get_rank() == 0:
        text = json.dumps({"environment": environment(), "cores": os.cpu_count(), **result}, indent=2)
        print(text)
        if options.output:
            options.output.write_text(text + "\n")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

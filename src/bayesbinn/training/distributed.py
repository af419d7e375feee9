"""Training in several processes, as torchrun starts them: who this one is, sums over all, and the spread network.

Without torchrun there is a `World` of one, in which every function here is the identity and no process group exists.
Each rank draws its own weights and sees its own part of every batch; gradients are averaged, so W ranks are W samples.
"""

import gc
import inspect
import os
import re
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import UserError
from ..locks import one_writer
from ..nn import binary_layers

SHARDINGS = ("none", "full")
VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_MEETINGS = count()
_Cached: Any = type(lru_cache(int))


class PeerError(Exception):
    """Another rank has met an error, and says which: end without a word."""


class LostError(Exception):
    """Another rank has gone, or does not answer."""


@dataclass(frozen=True)
class World:
    """The processes of this run.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        sharding: "none": every rank holds the whole λ (DDP); "full": each holds a part of it (FSDP2).
    """

    rank: int = 0
    size: int = 1
    sharding: str = "none"

    @property
    def main(self) -> bool:
        """Whether this rank is the one that prints and writes."""
        return self.rank == 0

    def sum_(self, *tensors: Tensor) -> None:
        """Replace each tensor by its sum over the ranks, in one collective."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1).to(tensors[-1].device, torch.float64) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true on some rank."""
        if self.size == 1:
            return flag
        ranks = torch.tensor(int(flag))
        dist.all_reduce(ranks)
        return bool(ranks)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of every rank; same shape and dtype on all, on the CPU."""
        if self.size == 1:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in range(self.size)]
        dist.all_gather(found, tensor)
        return found

    def part(self, batch: Tensor) -> Tensor:
        """This rank's share of a batch whose size is a multiple of `size`."""
        share = len(batch) // self.size
        return batch[self.rank * share : (self.rank + 1) * share]

    @contextmanager
    def together(self) -> Iterator[None]:
        """What fails inside on any rank ends all: the lowest such rank raises its error, the others `PeerError`.

        For local work only: a rank that fails would leave the others waiting in a collective.
        """
        if self.size == 1:
            yield
            return
        error = None
        try:
            yield
        except Exception as caught:
            error = caught
        first = torch.tensor(self.size if error is None else self.rank)
        dist.all_reduce(first, dist.ReduceOp.MIN)
        if error is not None and int(first) == self.rank:
            if isinstance(error, UserError) and not self.main:
                raise UserError(f"rank {self.rank} on {socket.gethostname()}: {error}") from None
            raise error
        if int(first) < self.size:
            raise PeerError from None

    @contextmanager
    def one_writer(self, folder: Path) -> Iterator[None]:
        """Inside, these processes alone write into `folder` (see `locks.one_writer`)."""
        with ExitStack() as lock:
            with self.together():
                if self.main:
                    lock.enter_context(one_writer(folder))
            yield

    def agreed(self, error: Exception) -> Exception:
        """The error to raise for what every rank has found at once, so that only one reports it."""
        return error if self.main else PeerError()

    def seed(self, seed: int, *more: int) -> None:
        """Give every rank a random stream of its own, decided by `seed`, the rank and `more`."""
        torch.manual_seed(int(np.random.SeedSequence([seed, self.rank, *more]).generate_state(1, np.uint64)[0]))

    def shard_(self, net: nn.Module) -> None:
        """Split the parameters over the ranks, with sharding "full"; before optimizers are built, which split too.

        Single numbers cannot be split: every rank holds them, and their gradients are left for the loop to average.
        """
        if self.sharding != "full":
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        numbers = {p for p in net.parameters() if p.ndim == 0}
        device = next(net.parameters()).device.type
        # resharding the root as well, so that its parameters are always the optimizer's outside forward and backward
        options: Any = {"mesh": init_device_mesh(device, (self.size,)), "reshard_after_forward": True}
        for _, layer in binary_layers(net):
            fully_shard(layer, **options)
        fully_shard(net, **options, ignored_params=numbers)

    def wrap(self, net: nn.Module) -> nn.Module:
        """What to call in place of `net`, so that backward averages the gradients over the ranks."""
        if self.size == 1 or self.sharding == "full":
            return net
        parallel: Any = nn.parallel.DistributedDataParallel
        # the loop averages batch norm's running statistics, where DDP would broadcast those of rank 0 (torch 2.13
        # gave the option another name)
        names = inspect.signature(parallel).parameters
        option = "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
        wrapped: nn.Module = parallel(net, gradient_as_bucket_view=True, **{option: False})
        return wrapped

    def accumulating(self, model: nn.Module) -> AbstractContextManager[None]:
        """Inside, backward adds to this rank's own gradients; the first backward outside averages them all."""
        if self.size == 1:
            return nullcontext()
        if isinstance(model, nn.parallel.DistributedDataParallel):
            no_sync: AbstractContextManager[None] = model.no_sync()
            return no_sync
        return _unsynchronised(model)


@contextmanager
def _unsynchronised(model: Any) -> Iterator[None]:
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)


def ranks() -> tuple[int, int]:
    """(rank, size) from the variables that torchrun sets; (0, 1) without them.

    Raises:
        UserError: if some of them are missing or no numbers.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        return 0, 1
    missing = [name for name in VARIABLES if name not in os.environ]
    if missing:
        raise UserError(
            f"WORLD_SIZE is {size} but {', '.join(missing)} is not set: start with torchrun, or unset WORLD_SIZE"
        )
    return _number("RANK", 0), size


def _number(name: str, default: int) -> int:
    value = os.environ.get(name, str(default))
    if not value.isdecimal():
        raise UserError(f"{name} must be a whole number, as torchrun sets it, got {value!r}: start with torchrun")
    return int(value)


@contextmanager
def connect(sharding: str = "none", timeout: float = 600.0) -> Iterator[World]:
    """Meet the other processes that torchrun has started, for the time inside.

    CPU tensors go through gloo; CUDA tensors through NCCL, where every local rank has a device of its own.  At the end
    nothing of ours holds the group, so its threads end too: one that outlives Python would abort the process.  A
    network split over the ranks that you keep also holds it: see `end_process`.

    Args:
        sharding: of `SHARDINGS`.
        timeout: seconds after which a rank that does not answer counts as gone.

    Raises:
        UserError: for what cannot be, such as a part of λ each for one process.
        LostError: when another rank has gone or does not answer.
    """
    rank, size = ranks()
    if sharding == "full" and size == 1:
        raise UserError(
            "sharding 'full' splits λ over several processes and this is the only one: start with "
            "torchrun --nproc-per-node N -m bayesbinn train ..., or leave --sharding out"
        )
    if sharding == "full" and torch.__version__ < "2.7":
        raise UserError(f"sharding 'full' needs torch 2.7, this is {torch.__version__}: update it, or leave it out")
    if size == 1:
        yield World()
        return
    from torch.distributed.distributed_c10d import PrefixStore  # a torch built without these trains alone all the same
    from torch.distributed.rendezvous import rendezvous

    if sharding == "full":
        import_module("torch.distributed.fsdp")  # before the group: what it imports keeps it as a default argument

    cuda = torch.cuda.is_available() and torch.cuda.device_count() >= _number("LOCAL_WORLD_SIZE", size)
    try:
        if cuda:
            torch.cuda.set_device(_number("LOCAL_RANK", 0))
        with _mortal():
            store, *_ = next(rendezvous("env://", timeout=timedelta(seconds=timeout)))
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if cuda else "gloo",
                store=PrefixStore(_prefix(size), store),
                rank=rank,
                world_size=size,
                timeout=timedelta(seconds=timeout),
            )
        yield World(rank, size, sharding)
    except RuntimeError as error:
        if not _from_network(error):
            raise
        what = re.sub(r"^.*?\[/\S+\] ", "", str(error).partition("\n")[0]).partition(". ")[0]
        raise LostError(
            f"rank {rank} of {size} lost another one ({what}): the last checkpoint is kept; continue with --resume"
        ) from None
    finally:
        _disconnect(sys.exc_info()[1])


def _disconnect(error: BaseException | None) -> None:
    """Leave the group and drop what holds it: its threads end with the last reference, not with its destruction."""
    while error is not None:  # the frames that an error has passed hold networks
        traceback.clear_frames(error.__traceback__)
        error = error.__context__
    if dist.is_initialized():
        dist.destroy_process_group()
    _clear_caches_of_meshes()
    gc.collect()  # networks are circles


def _clear_caches_of_meshes() -> None:
    """Empty the caches of torch: they hold meshes, which hold the group."""
    if "torch.distributed.tensor" not in sys.modules:
        return
    for cached in gc.get_objects():
        if type(cached) is _Cached and cached.__module__.startswith("torch.distributed."):
            cached.cache_clear()
    planners = sys.modules.get("torch.distributed.tensor._redistribute")
    # not every version has these
    getattr(planners, "clear_redistribute_planner_cache", int)()
    getattr(torch._C, "_clear_DTensor_sharding_propagator_cache", int)()


def end_process(status: int = 0) -> NoReturn:
    """Flush what has been printed, and end this process here and now: no thread of gloo can meet an ending Python.

    The last line of a rank's program that keeps a network split over the ranks.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _prefix(size: int) -> str:
    """A part of torchrun's store for this meeting only: addresses of earlier ones, and of the dead, stay in it.

    The restarts of one torchrun are numbered.  Several nodes have a torchrun each, and these need not count alike.
    """
    one_node = _number("LOCAL_WORLD_SIZE", 1) == size
    restart = _number("TORCHELASTIC_RESTART_COUNT", 0) if one_node else 0
    return f"bayesbinn {restart} {next(_MEETINGS)}"


@contextmanager
def _mortal() -> Iterator[None]:
    """Inside, SIGTERM ends the process at once: waiting for others in C++, it would not get to a handler of ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _from_network(error: RuntimeError) -> bool:
    """Whether a collective failed: gloo has no exception of its own."""
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error)

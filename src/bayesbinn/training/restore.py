"""The state of training, put together from all ranks and put back: what a checkpoint holds beside the network."""

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import shards
from ..errors import UserError
from .distributed import World


def whole(tensors: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """On rank 0 the tensors with the parts of all ranks, one after the other, to bound the others' memory."""
    # in one order on all ranks: a loaded optimizer's state is in that of the file's reader, which is random
    gathered = ((name, shards.whole(tensors[name])) for name in sorted(tensors))
    return {name: tensor.cpu() if world.size > 1 else tensor for name, tensor in gathered if world.main}


def random_states(device: torch.device, world: World) -> dict[str, Tensor]:
    """The generators' states: random.cpu, and random.cpu.1, ... of the ranks beyond 0; the same of cuda."""
    own = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["random.cuda"] = torch.cuda.get_rng_state(device)
    return {
        f"{name}.{rank}" if rank else name: state
        for name, tensor in own.items()
        for rank, state in enumerate(world.gather(tensor))
    }


def set_random_states(training: dict[str, Tensor], device: torch.device, world: World) -> bool:
    """Set this rank's generators to what `random_states` gave; False if that was of another number of ranks."""
    if world.size != sum(name.startswith("random.cpu") for name in training):
        return False
    suffix = f".{world.rank}" if world.rank else ""
    torch.set_rng_state(training[f"random.cpu{suffix}"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(training[f"random.cuda{suffix}"], device)
    return True


def split_state(optimizer: Optimizer, packed: dict[str, Any]) -> dict[str, Any]:
    """A state_dict of whole tensors, those in the shape of a split parameter split like it."""
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for index, entry in packed["state"].items():
        like = params[index]
        for key, value in entry.items():
            if isinstance(value, Tensor) and value.shape == like.shape:
                entry[key] = shards.split(value, like)
    return packed


def check_description(found: dict[str, Any], need: dict[str, Any], run: Path) -> None:
    """Refuse a checkpoint whose description differs from what is needed.

    Raises:
        UserError: naming the first thing that differs, of the settings the first that was changed.
    """
    for name, value in found["config"].items() if "config" in need else ():
        now = need["config"].get(name)
        if now != value:
            raise UserError(f"{run / 'config.toml'} has {name} = {now!r}, training began with {value!r}: set it back")
    for name, value in need.items():
        if name != "config" and found[name] != value:
            raise UserError(
                f"checkpoint of {run} is of another run: {name} is {found[name]!r} there, {value!r} here; "
                "use the data and settings that it was made with"
            )


def compare_threads(before: int, run: Path) -> None:
    """Say so if this process computes with another number of threads than the checkpoint's: sums round otherwise."""
    now = torch.get_num_threads()
    if now != before:
        warnings.warn(
            f"{run} was computed with {before} threads and goes on with {now}: its bits are not those of a run that "
            f"never stopped (OMP_NUM_THREADS={before} makes them so)",
            stacklevel=2,
        )


def load_state(net: nn.Module, model: dict[str, Tensor], run: Path) -> None:
    """Load a state_dict, or say in one sentence that it is another network's.

    Raises:
        UserError: naming the first tensor that does not fit.
    """
    own = net.state_dict()  # copying moves the tensors to the network's device
    wrong = [name for name in own if name not in model or model[name].shape != own[name].shape]
    if not wrong:
        parts = {name: shards.split(tensor, own.get(name)) for name, tensor in model.items()}
        wrong = net.load_state_dict(parts, strict=False).unexpected_keys
    if wrong:
        found, need = (tuple(s[wrong[0]].shape) if wrong[0] in s else "nothing" for s in (model, own))
        raise UserError(
            f"checkpoint of {run} is of another network: {wrong[0]} is {found} there, {need} here; "
            "use the settings that it was made with"
        )

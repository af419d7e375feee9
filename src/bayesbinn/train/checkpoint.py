"""Runs on disk: a folder whose checkpoint is replaced as a whole, never seen half-written, and holds no pickle.

RUN/config.toml            what was asked
RUN/checkpoint/            model.safetensors  training.safetensors  state.json
RUN/metrics.jsonl          a line per epoch
RUN/evaluation.json        the final evaluation, and what it was made with
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.optim import Optimizer

from .errors import UserError

FORMAT = 1


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all (temporary name, flush to disk, rename)."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def save_checkpoint(run: Path, model: dict[str, Tensor], training: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Replace RUN/checkpoint by a new one; whenever the process dies, one complete checkpoint remains.

    Args:
        model: the network's state_dict.
        training: every other tensor (optimizer state, generators, ...).
        state: everything that JSON holds.
    """
    new, current, old = (run / f"checkpoint{suffix}" for suffix in (".new", "", ".old"))
    found = checkpoint_folder(run)
    if found is not None and found != current:  # an earlier process died between its two renames
        found.rename(current)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    # safetensors refuses views that share memory (two layers with one λ): each name gets its own copy on disk
    save_file({k: v.detach().clone().contiguous() for k, v in model.items()}, new / "model.safetensors")
    save_file({k: v.detach().clone().contiguous() for k, v in training.items()}, new / "training.safetensors")
    (new / "state.json").write_text(json.dumps({"format": FORMAT, **state}), encoding="utf-8")
    for file in new.iterdir():
        with file.open("rb+") as handle:
            os.fsync(handle.fileno())
    if current.exists():
        current.rename(old)
    new.rename(current)
    shutil.rmtree(old, ignore_errors=True)


def checkpoint_folder(run: Path) -> Path | None:
    """The newest complete checkpoint, or None.

    A process can die between the two renames of `save_checkpoint`; then `checkpoint.old` and a complete
    `checkpoint.new` exist, and the new one is good.
    """
    for name in ("checkpoint", "checkpoint.new", "checkpoint.old"):
        complete = name != "checkpoint.new" or (run / "checkpoint.old").exists()
        if complete and (run / name / "state.json").exists():
            return run / name
    return None


def load_checkpoint(run: Path, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """(model, training, state) as given to `save_checkpoint`.

    Raises:
        UserError: if there is no checkpoint, or it is truncated, unreadable or of a newer format.
    """
    folder = checkpoint_folder(run)
    if folder is None:
        raise UserError(f"{run} holds no checkpoint: train it first (bayesbinn train --output {run})")
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state["format"] > FORMAT:
            raise UserError(
                f"{folder} has format {state['format']}, this version reads up to {FORMAT}: update bayesbinn"
            )
        model = load_file(folder / "model.safetensors", device=str(device))
        training = load_file(folder / "training.safetensors")
    except (OSError, SafetensorError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise UserError(f"checkpoint {folder} is damaged ({error}): restore it from a copy, or train again") from None
    return model, training, state


def flatten_optimizer(name: str, optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimizer's state_dict as (tensors, JSON), for `unflatten_optimizer`."""
    packed = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for index, entry in packed["state"].items():
        for key, value in entry.items():
            (tensors if isinstance(value, Tensor) else plain)[f"{name}.{index}.{key}"] = value
    return tensors, {"param_groups": packed["param_groups"], "plain": plain}


def unflatten_optimizer(name: str, tensors: dict[str, Tensor], packed: dict[str, Any]) -> dict[str, Any]:
    """The state_dict that `flatten_optimizer` took apart."""
    state: dict[int, dict[str, Any]] = {}
    for full, value in (tensors | packed["plain"]).items():
        owner, _, rest = full.partition(".")
        index, _, key = rest.partition(".")
        if owner == name:
            state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": packed["param_groups"]}

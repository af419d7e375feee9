"""Runs on disk: a folder whose checkpoint is replaced as a whole, never seen half-written, and holds no pickle.

RUN/config.toml            what was asked
RUN/checkpoint/            model.safetensors  training.safetensors  state.json
RUN/metrics.jsonl          a line per epoch
RUN/evaluation.json        the final evaluation, and what it was made with
RUN/report.html            the same, and the training, for people
"""

import json
import shutil
import zlib
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.optim import Optimizer

from ..errors import UserError
from ..files import write_bytes

FORMAT = 1


def save_checkpoint(run: Path, model: dict[str, Tensor], training: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Replace RUN/checkpoint by a new one; whenever the process dies, one complete checkpoint remains.

    Args:
        model: the network's state_dict.
        training: every other tensor (optimizer state, generators, ...).
        state: everything that JSON holds.

    `checkpoint.new` is written and takes the place of `checkpoint`, which is called `checkpoint.old` meanwhile.
    """
    new, current, old = (run / f"checkpoint{suffix}" for suffix in (".new", "", ".old"))
    found = checkpoint_folder(run)
    if found is not None and found != current:  # an earlier process died between its two renames
        found.rename(current)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir()
    sums = {}
    for name, tensors in (("model", model), ("training", training)):
        # safetensors refuses views that share memory (two layers with one λ): each name gets its own copy on disk
        content = save({k: v.detach().clone().contiguous() for k, v in tensors.items()})
        sums[name] = zlib.crc32(content)
        write_bytes(new / f"{name}.safetensors", content)
    write_bytes(new / "state.json", json.dumps({**state, "format": FORMAT, "crc32": sums}).encode())
    if current.exists():
        current.rename(old)
    new.rename(current)
    shutil.rmtree(old, ignore_errors=True)


def checkpoint_folder(run: Path) -> Path | None:
    """The newest complete checkpoint, or None.

    A process can die between the two renames of `save_checkpoint`; then `checkpoint.old` and a complete
    `checkpoint.new` exist, and the new one is good.
    """
    new, current, old = (run / f"checkpoint{suffix}" for suffix in (".new", "", ".old"))
    if current.exists():
        return current
    return new if new.exists() and old.exists() else None


def load_checkpoint(run: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """(model, training, state) as given to `save_checkpoint`, tensors on the CPU.

    Raises:
        UserError: if there is no checkpoint, or it is truncated, changed, unreadable or of a newer format.
    """
    folder = checkpoint_folder(run)
    if folder is None:
        raise UserError(f"{run} holds no checkpoint yet: train it with bayesbinn train --output {run} --resume")
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if state["format"] > FORMAT:
            raise UserError(
                f"{folder} has format {state['format']}, this version reads up to {FORMAT}: update bayesbinn"
            )
        model, training = (
            _read(folder / f"{name}.safetensors", state["crc32"][name]) for name in ("model", "training")
        )
    except (OSError, SafetensorError, json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise damaged(folder, error) from None
    return model, training, state


def damaged(folder: Path, error: Exception) -> UserError:
    """The error for a checkpoint that cannot be used."""
    reason = f"lacks {error}" if isinstance(error, KeyError) else error
    return UserError(f"checkpoint {folder} is damaged ({reason}): restore it from a copy, or train again")


def _read(path: Path, crc32: int) -> dict[str, Tensor]:
    content = path.read_bytes()
    if zlib.crc32(content) != crc32:
        raise OSError(f"{path.name} is not as it was written")
    return load(content)


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

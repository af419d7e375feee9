"""The checkpoint of a run: one file, so that it is replaced as a whole, whoever reads meanwhile; it holds no pickle.

RUN/config.toml               what was asked
RUN/checkpoint.safetensors    the network (model.*), the rest of training (training.*), and what JSON holds
RUN/metrics.jsonl             a line per epoch
RUN/evaluation.json           the final evaluation, and what it was made with
RUN/report.html               the same, and the training, for people
"""

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from torch.optim import Optimizer

from ..errors import UserError
from ..files import write_bytes

FILE = "checkpoint.safetensors"
FORMAT = 1


def save_checkpoint(run: Path, model: dict[str, Tensor], training: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Replace the run's checkpoint by a new one; whenever the process dies, a complete one remains.

    Args:
        model: the network's state_dict.
        training: every other tensor (optimizer state, generators, ...).
        state: everything that JSON holds.
    """
    parts = {"model": model, "training": training}
    # safetensors refuses views that share memory (two layers with one λ): each name gets its own copy on disk
    tensors = {
        f"{part}.{k}": v.detach().cpu().clone(memory_format=torch.contiguous_format)
        for part, named in parts.items()
        for k, v in named.items()
    }
    text = json.dumps(state)
    # one entry, as safetensors writes several in any order: the same state is the same file
    record = {"format": FORMAT, "crc32": _checksum(tensors, text), "state": text}
    write_bytes(run / FILE, save(tensors, {"checkpoint": json.dumps(record)}))


def has_checkpoint(run: Path) -> bool:
    """Whether a run has got as far as its first checkpoint."""
    return (run / FILE).exists()


def load_checkpoint(run: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """(model, training, state) as given to `save_checkpoint`, tensors on the CPU.

    Raises:
        UserError: if there is no checkpoint, or it is truncated, changed, unreadable or of a newer format.
    """
    if not has_checkpoint(run):
        raise UserError(f"{run} holds no checkpoint yet: train it with bayesbinn train --output {run} --resume")
    try:
        content = (run / FILE).read_bytes()  # opened once: it may be replaced meanwhile
        tensors = load(content)
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        record = json.loads(header["__metadata__"]["checkpoint"])
        newer = record["format"] > FORMAT
        if not newer and _checksum(tensors, record["state"]) != record["crc32"]:
            raise OSError("it is not as it was written")
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise damaged(run, error) from None
    if newer:
        raise UserError(
            f"{run / FILE} has format {record['format']}, this version reads up to {FORMAT}: update bayesbinn"
        )
    model, training = (
        {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
        for prefix in ("model.", "training.")
    )
    return model, training, json.loads(record["state"])


def damaged(run: Path, error: Exception) -> UserError:
    """The error for a checkpoint that cannot be used."""
    reason = f"lacks {error}" if isinstance(error, KeyError) else error
    return UserError(f"{run / FILE} is damaged ({reason}): restore it from a copy, or train again")


def _checksum(tensors: dict[str, Tensor], text: str) -> int:
    """CRC-32 of the text, and of every tensor's name, type, shape and bytes."""
    crc = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        crc = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), crc)
        crc = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, crc)
    return crc


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

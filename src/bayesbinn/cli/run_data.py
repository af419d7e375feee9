"""The data that a run was trained on, as its network takes them, and what it held out."""

from pathlib import Path
from typing import Any

from torch import nn

from ..data import Data, Examples, load_data, load_text, tokenizer_of
from ..data.text import PREFIX
from ..errors import UserError
from ..training.config import Config

Loaded = tuple[nn.Module, Config, dict[str, Any]]


def data_of(name: str, config: Config, description: dict[str, Any], validation: float = 0.0) -> Data:
    """The data set of that name as the network of a run takes it.

    Raises:
        UserError: for data of another kind, or as `load_data`.
    """
    if (description["task"] == "text") != name.startswith(PREFIX):
        wanted = f"{PREFIX}FILE" if description["task"] == "text" else "data with classes or numbers"
        raise UserError(f"the network learned {config.data}, which is not as {name} is: give {wanted}")
    if description["task"] == "text":
        return load_text(name, config.context, config.vocabulary, validation, tokenizer_of(description["tokenizer"]))
    shape = description["input_shape"]
    kept = ("classes", "offset", "features", "limits", "target", "task", "columns", "image_size")
    known = {key: description[key] for key in kept} | {"channels": shape[0] if len(shape) == 3 else 0}
    other = name != config.data  # to test on: all of it, unless it says which part
    return load_data(name, validation, **known, skip_damaged=config.skip_damaged, whole=other)


def changed(data: Data, loaded: dict[Path, Loaded]) -> list[str]:
    """Notes of the runs whose training data are not those that are there now."""
    notes: list[str] = []
    first = next(iter(loaded.values()))[2]["data"]
    for run, (_, config, description) in loaded.items():
        then, now = description["data"], data.fingerprint
        if then != now and (config.data == data.name or then == first):  # else it was trained on another set
            whose = f" of {run}" if len(loaded) > 1 else ""
            notes.append(f"{data.name} has changed since training{whose}: {then} then, {now} now")
    return notes


def held_out_of(data: Data, run: Path, changed: list[str]) -> Examples:
    """The examples of `data` that a run has not trained on, which --scale needs.

    Raises:
        UserError: if there are none, or the data have `changed`.
    """
    if data.validation is None:
        raise UserError(
            f"--scale needs examples that {run} has not trained on, and it held none out: train with --validation 0.1"
        )
    if changed:
        raise UserError(f"--scale needs the examples that were held out in training, and {changed[0]}: train again")
    return data.validation

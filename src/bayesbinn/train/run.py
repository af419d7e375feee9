"""A run from end to end: start or resume it, and load it for use."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .checkpoint import checkpoint_folder, damaged, load_checkpoint, write_text
from .config import Config, make_config, read_toml, to_toml
from .data import load_data, to_device
from .environment import environment
from .errors import UserError
from .evaluation import evaluate_voters
from .loop import Callbacks, Trainer, check_description, load_state
from .methods import apply_method, check_method, resolve
from .models import build_model
from .report import write_report
from .voters import make_voters


def train(
    settings: dict[str, Any], run: Path, *, resume: bool = False, callbacks: Callbacks | None = None
) -> dict[str, Any]:
    """Train a network into the folder `run` and evaluate it on the test set.

    Args:
        settings: of `Config`; what is left out has its default.
        run: the run's folder; new or empty, unless resuming.
        resume: continue the run in `run` bit for bit; starts it where there is none yet.
        callbacks: for progress and for stopping.

    Returns:
        The final evaluation, as in RUN/evaluation.json (see `evaluation.evaluate`).

    Raises:
        UserError: for anything wrong with the settings, the data or the folder; nothing is written then.
        StoppedError: at a signal, with everything saved.
    """
    resuming = resume and (run / "config.toml").exists()
    config = _resumed(settings, run) if resuming else make_config(settings)
    if not resuming:
        check_new(run)
    check_method(config)
    if config.threads:
        torch.set_num_threads(config.threads)
    device = find_device(config.device)
    data = load_data(config.data, config.validation)
    config = resolve(config, len(data.train))
    if config.augment == "crop-flip" and len(data.input_shape) != 3:
        raise UserError(f"augment 'crop-flip' needs images, {config.data} has inputs of shape {data.input_shape}")
    torch.manual_seed(config.seed)
    data = to_device(data, device)
    net = build_model(config.model_config, data.input_shape, data.num_classes, data.mean, data.std)
    net, optimizers = _with_method(net, config, device)
    description = {
        "model": config.model,
        "method": config.method,
        "num_train": len(data.train),
        "input_shape": list(data.input_shape),
        "num_classes": data.num_classes,
    }
    trainer = Trainer(net, optimizers, data, config, run, description)
    if resuming and checkpoint_folder(run) is not None:
        trainer.load()
    else:
        run.mkdir(parents=True, exist_ok=True)
        write_text(run / "config.toml", to_toml(config))
    trainer.fit(callbacks)
    result = evaluate_voters(make_voters([net], config.samples), data.test)
    write_report(run / "report.html", [run], net, config, data.test.x, result)
    del result["figures"]  # they are drawn
    result["train_seconds"] = trainer.progress.seconds
    write_text(run / "evaluation.json", json.dumps({**result, "environment": environment()}, indent=2) + "\n")
    return result


def load_run(run: Path | str, device: str = "cpu") -> tuple[nn.Sequential, Config, dict[str, Any]]:
    """The trained network of a run, in evaluation mode, with its configuration and description.

    The network takes inputs in the units of the data files.

    Returns:
        (net, config, description); description holds `input_shape` and `num_classes`, of the network.

    Raises:
        UserError: if `run` is no run, or its checkpoint is missing, damaged or of another network.
    """
    run, found = Path(run), find_device(device)
    if not (run / "config.toml").exists():
        raise UserError(f"{run} holds no run: train one with bayesbinn train --output {run}")
    config = resolve(make_config(read_toml(run / "config.toml")), num_train=1)
    model, _, state = load_checkpoint(run)
    try:
        description = state["description"]
        check_description(description, {"model": config.model, "method": config.method}, run)
        shape, num_classes = tuple(description["input_shape"]), description["num_classes"]
    except KeyError as error:
        raise damaged(run / "checkpoint", error) from None
    net, _ = _with_method(build_model(config.model_config, shape, num_classes), config, found)
    load_state(net, model, run)
    return net.eval(), config, {**description, "input_shape": shape}


def check_new(run: Path) -> None:
    """Refuse an output folder that holds anything.

    Raises:
        UserError: saying what is there and what to do.
    """
    if (run / "config.toml").exists():
        raise UserError(f"{run} already holds a run: continue it with --resume, or choose another --output")
    # a run that was killed at its very start may have left the temporary file of its configuration
    if run.exists() and (not run.is_dir() or any(path.name != ".config.toml.new" for path in run.iterdir())):
        raise UserError(f"{run} exists and is not an empty folder: choose another --output")
    parent = next(p for p in run.absolute().parents if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"cannot write in {parent}: choose another --output")


def _resumed(settings: dict[str, Any], run: Path) -> Config:
    stored = make_config(read_toml(run / "config.toml"))
    for key, value in dataclasses.asdict(make_config(settings)).items():
        if key in settings and getattr(stored, key) != value:
            raise UserError(
                f"{run} was started with {key} = {getattr(stored, key)!r}, not {value!r}: resume it unchanged"
            )
    return stored


def find_device(name: str) -> torch.device:
    """The torch device of that name.

    Raises:
        UserError: if there is none, or it cannot compute.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except Exception as error:  # each backend has its own way to be missing
        reason = str(error).partition("\n")[0]
        raise UserError(f"device {name!r} is not available ({reason}): use cpu, cuda or mps") from None
    return device


def _with_method(net: nn.Sequential, config: Config, device: torch.device) -> tuple[nn.Sequential, Any]:
    try:
        return apply_method(net.to(device), config)
    except UserError:
        raise
    except ValueError as error:  # what the library refuses, the user asked for
        raise UserError(str(error)) from None

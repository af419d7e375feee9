"""A run from end to end: start or resume it, and load it for use."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import _native
from ..data.dataset import load_data, to_device
from ..environment import environment
from ..errors import UserError
from ..evaluation.report import write_report
from ..evaluation.scores import evaluate_voters
from ..evaluation.voters import make_voters
from ..files import write_text
from ..locks import LOCK
from ..outputs import calibrate_draws_, calibrate_mode_
from ..posterior import has_posterior
from .checkpoint import damaged, has_checkpoint, load_checkpoint, save_checkpoint
from .config import Config, make_config, read_toml, settings_of, to_toml
from .distributed import World, connect
from .loop import Callbacks, Trainer
from .methods import check_method, make_binary_, make_optimizers, resolve
from .models import build_model
from .restore import check_description, load_state

DRAWN = 8  # networks behind the batch-norm statistics of draws, where training has drawn none


def train(
    settings: dict[str, Any],
    run: Path,
    *,
    resume: bool = False,
    callbacks: Callbacks | None = None,
    sharding: str = "none",
    timeout: float = 600.0,
) -> dict[str, Any]:
    """Train a network into the folder `run` and evaluate it on the test set.

    Under torchrun every process calls this, and they train together; rank 0 writes (see `distributed`).

    Args:
        settings: of `Config`; what is left out has its default.
        run: the run's folder; new or empty, unless resuming.
        resume: continue the run in `run` bit for bit; starts it where there is none yet.
        callbacks: for progress and for stopping; each rank has its own.
        sharding: how several processes hold λ, one of `distributed.SHARDINGS`; changes no result.
        timeout: seconds after which a process that does not answer counts as gone.

    Returns:
        The final evaluation, as in RUN/evaluation.json (see `evaluation.evaluate`); {} on other ranks than 0.

    Raises:
        UserError: for anything wrong with the settings, the data or the folder; nothing is written then.
        StoppedError: at a signal, with everything saved.
        PeerError: on the other ranks, when one has raised any of these but StoppedError, which all raise.
        LostError: when another process has gone.
    """
    with connect(sharding, timeout) as world, world.one_writer(run):
        return _train(settings, run, resume, callbacks, world)


def _train(
    settings: dict[str, Any], run: Path, resume: bool, callbacks: Callbacks | None, world: World
) -> dict[str, Any]:
    resuming = world.any(resume and (run / "config.toml").exists())
    with world.together():
        config = _resumed(settings, run) if resuming else make_config(settings)
        if world.main and not resuming:
            check_new(run)
        check_method(config)
        _native.check_choice()
        _check_world(config, world)
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
        net = _made_binary(net, config, device)
    world.shard_(net)
    optimizers = make_optimizers(net, config)
    description = {
        "model": config.model,
        "method": config.method,
        "num_train": len(data.train),
        "input_shape": list(data.input_shape),
        "num_classes": data.num_classes,
        "config": settings_of(config),
    }
    trainer = Trainer(net, optimizers, data, config, run, description, world)
    with world.together():
        if resuming and has_checkpoint(run):
            trainer.load()
        elif world.main:
            write_text(run / "config.toml", to_toml(config))
    trainer.fit(callbacks)
    if not world.main:
        return {}
    if world.sharding == "full":  # rank 0 has a part of the network, and a whole one in the last checkpoint
        net = load_run(run, config.device)[0]
    if has_posterior(net):
        seen = data.calibration(config.augment)
        if config.estimator == "mean" and len(seen) >= 2 * DRAWN:  # training has drawn nothing
            calibrate_draws_(net, seen, DRAWN)
        calibrate_mode_(net, seen)
        _, training, state = load_checkpoint(run)
        save_checkpoint(run, net.state_dict(), training, state)
    result = evaluate_voters(make_voters([net], config.samples), data.test)
    write_report(run / "report.html", [run], net, dataclasses.asdict(config), data.test.x, result)
    del result["figures"]  # they are drawn
    result["train_seconds"] = trainer.progress.seconds
    made_with = environment() | ({"ranks": world.size} if world.size > 1 else {})
    write_text(run / "evaluation.json", json.dumps({**result, "environment": made_with}, indent=2) + "\n")
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
        raise damaged(run, error) from None
    net = _made_binary(build_model(config.model_config, shape, num_classes), config, found)
    load_state(net, model, run)
    return net.eval(), config, {**description, "input_shape": shape}


def check_new(run: Path) -> None:
    """Refuse an output folder that holds anything.

    Raises:
        UserError: saying what is there and what to do.
    """
    if (run / "config.toml").exists():
        raise UserError(f"{run} already holds a run: continue it with --resume, or choose another --output")
    if run.exists() and (not run.is_dir() or any(path.name != LOCK for path in run.iterdir())):
        raise UserError(f"{run} exists and is not an empty folder: choose another --output")


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


def _check_world(config: Config, world: World) -> None:
    """Refuse what several processes cannot do."""
    share, rest = divmod(config.batch_size, world.size)
    if rest or share < 2:
        least = 2 * world.size
        raise UserError(
            f"batch_size {config.batch_size} is divided among {world.size} processes, two examples or more for each: "
            f"take a multiple of {world.size} from {least} on"
        )
    if world.sharding == "full" and config.method == "disarm":
        raise UserError("method 'disarm' draws whole networks outside of their layers: leave --sharding full out")


def _made_binary(net: nn.Sequential, config: Config, device: torch.device) -> nn.Sequential:
    try:
        return make_binary_(net.to(device), config)
    except UserError:
        raise
    except ValueError as error:  # what the library refuses, the user asked for
        raise UserError(str(error)) from None

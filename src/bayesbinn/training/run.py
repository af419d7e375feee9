"""A run from end to end: start or resume it, train, evaluate; load it for use; and the same for data in memory."""

import json
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from .. import _native
from ..continual import from_tasks
from ..data import Data, absolute, load_data, to_device
from ..environment import environment
from ..errors import UserError
from ..evaluation.report import run_page, write_report
from ..evaluation.scores import evaluate_voters
from ..evaluation.voters import make_voters
from ..files import write_text
from ..locks import LOCK, one_writer
from ..nn import calibrate_
from ..optim import NetworkOptimizer
from ..posterior import has_posterior
from .checkpoint import damaged, has_checkpoint, load_checkpoint, save_checkpoint
from .config import Config, make, make_config, read_toml, settings_of, to_toml
from .distributed import World, connect
from .loop import Callbacks, Course, Trainer
from .methods import make_binary_, make_optimizer
from .models import OWN, Normalize, build_model, real_layers
from .restore import check_description, load_state

C = TypeVar("C", bound=Config)


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
        settings: of `Config` and of the method; what is left out has its default.
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
        return _train(settings, run, resume, callbacks, world).evaluation


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes:
        net: in evaluation mode, for inputs in the units of the data.
        evaluation: on the test set, as in RUN/evaluation.json.
        config: every setting.
    """

    net: nn.Module
    evaluation: dict[str, Any]
    config: Config


def fit(
    net: nn.Module | str, data: Any, *, output: Path | str | None = None, resume: bool = False, **settings: Any
) -> Fitted:
    """Train a network on data in memory: `bayesbinn train` as a function.

    Args:
        net: a network of your own, trained in place: real, and made binary here, or with the binary layers that you
            want; or the name of a model ("mlp", ...).
        data: a `Data`, or what `load_data` takes: the name of a data set, or arrays.
        output: the run's folder; none is kept by default.
        resume: go on with the run in `output`.
        settings: the options of `bayesbinn train`, with _ for -.

    Raises:
        UserError: for anything wrong with the settings, the data or the folder.

    >>> fitted = fit("mlp", "digits", width=16, depth=1, epochs=3, batch_size=64, samples=4)
    >>> fitted.evaluation["mode"]["accuracy"] > 0.5
    True
    """
    own = None if isinstance(net, str) else net
    loaded = data if isinstance(data, Data) else load_data(data, settings.get("validation", 0.0))
    settings = {**settings, "data": loaded.name, "model": net if isinstance(net, str) else OWN}
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run" if output is None else Path(output)
        with one_writer(run):
            notes = Callbacks(note=lambda note: warnings.warn(note, stacklevel=4))
            return _train(settings, run, resume, notes, World(), loaded, own)


def _train(
    settings: dict[str, Any],
    run: Path,
    resume: bool,
    callbacks: Callbacks | None,
    world: World,
    data: Data | None = None,
    net: nn.Module | None = None,
) -> Fitted:
    with world.together():
        config, resuming = started(Config, settings, run, resume, world, absolute)
        _check_world(config, world)
        device = find_device(config.device)
        data = to_device(data or load_data(config.data, config.validation), device)
        check_augment(config, data.input_shape)
        config = replace(config, data=absolute(config.data))
        torch.manual_seed(config.seed)
        if net is None:
            net = build_model(config, data.input_shape, data.num_classes, data.mean, data.std)
        else:
            net = nn.Sequential(Normalize(data.mean, data.std, len(data.input_shape)), net)
        binary_(net, config).to(device)
        for note in (*config.notes, *data.notes) if world.main else ():
            (callbacks or Callbacks()).note(note)
    world.shard_(net)
    trainer = _trainer(net, data, config, run, world)
    with world.together():
        begin(trainer, resuming)
    trainer.fit(callbacks)
    return Fitted(*(_finished(trainer, data) if world.main else (net, {})), config)


@contextmanager
def users() -> Iterator[None]:
    """Inside, what the library refuses is an error of the user, who asked for it."""
    try:
        yield
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from None


def started(
    kind: type[C], settings: dict[str, Any], run: Path, resume: bool, world: World, absolute: Callable[[str], str]
) -> tuple[C, bool]:
    """(configuration, whether a run of it goes on) for settings and a folder; `absolute` makes the name of data so.

    Raises:
        UserError: for settings that cannot be, or are not those of the run; for a folder that is in use.
    """
    resuming = world.any(resume and (run / "config.toml").exists())
    if resuming:
        config = make(kind, read_toml(run / "config.toml"))
        stored = settings_of(config)
        for key, value in settings.items():
            value = absolute(value) if key == "data" and isinstance(value, str) else value
            if key in stored and stored[key] != value:
                raise UserError(f"{run} was started with {key} = {stored[key]!r}, not {value!r}: resume it unchanged")
        make(kind, stored, settings)  # names that do not exist
    else:
        config = make(kind, settings)
        if world.main:
            check_new(run)
    _native.check_choice()
    if config.threads:
        torch.set_num_threads(config.threads)
    return config, resuming


def begin(trainer: Trainer, resuming: bool) -> None:
    """Load the checkpoint of a run that goes on, or write the configuration of one that starts."""
    run = trainer.run
    if resuming and has_checkpoint(run):
        trainer.load()
    elif trainer.world.main:
        write_text(run / "config.toml", to_toml(trainer.config))


def binary_(net: nn.Module, config: Config) -> nn.Module:
    """Make a network what the configuration's method trains, in place."""
    with users():
        exclude = real_layers(net, config)
        return make_binary_(net, config.method_row, config.method_options, config.estimator_options, exclude)


def optimizer_of(net: nn.Module, config: Config, num_train: int) -> NetworkOptimizer:
    """The optimizer of the configuration's method."""
    with users():
        return make_optimizer(
            net, config.method_row, config.method_options, num_train=num_train, batch_size=config.batch_size
        )


def _trainer(net: nn.Module, data: Data, config: Config, run: Path, world: World) -> Trainer:
    course = Course(
        from_tasks([(data.train, data.validation or data.test)], data.name),
        part="test" if data.validation is None else "validation",
        calibration=data.calibration(config.augment) if has_posterior(net) else None,
    )
    description = {
        "model": config.model,
        "method": config.method,
        "num_train": len(data.train),
        "input_shape": list(data.input_shape),
        "num_classes": data.num_classes,
        "classes": list(data.classes),
        "offset": list(data.offset),
        "features": list(data.features),
        "data": data.fingerprint,
        "limits": [list(pair) for pair in data.limits],
        "config": settings_of(config),
    }
    return Trainer(net, optimizer_of(net, config, len(data.train)), course, config, run, description, world)


def _finished(trainer: Trainer, data: Data) -> tuple[nn.Module, dict[str, Any]]:
    """Calibrate the trained network, evaluate it, and write what is left of a run."""
    net, config, run, world = trainer.net, trainer.config, trainer.run, trainer.world
    if world.sharding == "full":  # rank 0 has a part of the network, and a whole one in the last checkpoint
        net = load_run(run, config.device)[0]
    if has_posterior(net):
        calibrate_(net, data.calibration(config.augment))
        _, training, state = load_checkpoint(run)
        save_checkpoint(run, net.state_dict(), training, state)
    result = evaluate_voters(make_voters([net], config.samples), data.test)
    write_report(run / "report.html", run_page([run], net, settings_of(config), data.test.x, result, data.classes))
    del result["figures"]  # they are drawn
    result["train_seconds"] = trainer.progress.seconds
    made_with = environment() | ({"ranks": world.size} if world.size > 1 else {})
    write_text(run / "evaluation.json", json.dumps({**result, "environment": made_with}, indent=2) + "\n")
    return net.eval(), result


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
    config = make_config(read_toml(run / "config.toml"))
    model, _, state = load_checkpoint(run)
    try:
        description = state["description"]
        check_description(description, {"model": config.model, "method": config.method}, run)
        shape, num_classes = tuple(description["input_shape"]), description["num_classes"]
    except KeyError as error:
        raise damaged(run, error) from None
    net = build_model(config, shape, num_classes)
    binary_(net, config).to(found)
    load_state(net, model, run)
    return net.eval(), config, {"limits": [], **description, "input_shape": shape}  # older runs lack limits


def check_new(run: Path) -> None:
    """Refuse an output folder that holds anything.

    Raises:
        UserError: saying what is there and what to do.
    """
    if (run / "config.toml").exists():
        raise UserError(f"{run} already holds a run: continue it with --resume, or choose another --output")
    if run.exists() and (not run.is_dir() or any(path.name != LOCK for path in run.iterdir())):
        raise UserError(f"{run} exists and is not an empty folder: choose another --output")


def check_augment(config: Config, input_shape: tuple[int, ...]) -> None:
    """Refuse changes of images for what are none.

    Raises:
        UserError: saying so.
    """
    if config.augment == "crop-flip" and len(input_shape) != 3:
        raise UserError(f"augment 'crop-flip' needs images, {config.data} has inputs of shape {input_shape}")


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
    if world.sharding == "full" and getattr(config.method_options, "estimator", None) == "disarm":
        raise UserError("estimator 'disarm' draws whole networks outside of their layers: leave --sharding full out")

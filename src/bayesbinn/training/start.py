"""What a run starts with, of one task or of a stream: settings, folder, device, network and optimizer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .. import _native
from ..continual import normalize_
from ..errors import UserError
from ..files import write_text
from ..locks import LOCK
from ..nn import Likelihood
from ..optim import NetworkOptimizer
from .checkpoint import has_checkpoint
from .config import Config, make, read_toml, settings_of, to_toml
from .distributed import World
from .loop import Trainer
from .methods import make_binary_, make_optimizer
from .models import TEXT, build_model
from .strategies import ContinualConfig

C = TypeVar("C", bound=Config)
N = TypeVar("N", bound=nn.Module)


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
        content = read_toml(run / "config.toml")
        if kind_of(content) is not kind:
            command = "continual" if kind is Config else "train"
            raise UserError(f"{run} is a run of bayesbinn {command}: resume it with that command")
        config = make(kind, content)
        stored = settings_of(config)
        for key, value in settings.items():
            value = absolute(value) if key == "data" and isinstance(value, str) else value
            value = absolute_path(value) if key == "start" else value
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


def absolute_path(path: str) -> str:
    """A path that means the same in every working directory; "" stays."""
    return path and str(Path(path).expanduser().absolute())


def begin(trainer: Trainer, resuming: bool) -> None:
    """Load the checkpoint of a run that goes on, or write the configuration of one that starts."""
    run = trainer.run
    if resuming and has_checkpoint(run):
        trainer.load()
    elif trainer.world.main:
        write_text(run / "config.toml", to_toml(trainer.config))


def kind_of(settings: dict[str, Any]) -> type[Config]:
    """Of which kind a run with these settings is: of one task, or of a stream."""
    return ContinualConfig if "strategy" in settings else Config


def make_network(
    config: Config,
    input_shape: tuple[int, ...],
    num_outputs: int,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    end: Likelihood | None = None,
) -> nn.Sequential:
    """The configuration's network as its method trains it; the arguments are those of `build_model`."""
    net = build_model(config, input_shape, num_outputs, mean, std, end)
    if isinstance(config, ContinualConfig):
        statistics: Any = config.statistics
        normalize_(net, statistics, config.tasks, config.output_gain)
    return binary_(net, config)


def binary_(net: N, config: Config) -> N:
    """Make a network what the configuration's method trains, in place."""
    with users():
        method, options = config.method_row, config.method_options
        embedding = config.model == TEXT and config.embedding == "binary"
        return make_binary_(net, method, options, config.estimator_options, config.real_ends, embedding)


def optimizer_of(net: nn.Module, config: Config, num_train: int) -> NetworkOptimizer:
    """The optimizer of the configuration's method."""
    with users():
        return make_optimizer(
            net, config.method_row, config.method_options, num_train=num_train, batch_size=config.batch_size
        )


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


def check_world(config: Config, world: World) -> None:
    """Refuse what several processes cannot do."""
    share, rest = divmod(config.batch_size, world.size)
    if rest or share < 2:
        least = 2 * world.size
        raise UserError(
            f"batch_size {config.batch_size} is divided among {world.size} processes, two examples or more for each: "
            f"take a multiple of {world.size} from {least} on"
        )
    if world.sharding == "full" and config.modes > 1:
        raise UserError(f"modes {config.modes} keep whole networks: leave --sharding full out")
    if world.sharding == "full" and getattr(config.method_options, "estimator", None) == "disarm":
        raise UserError("estimator 'disarm' draws whole networks outside of their layers: leave --sharding full out")

"""Everything a run can be told: defaults, TOML recipe, command line, in that order; flat for people, checked here."""

import sys
from dataclasses import dataclass, field
from inspect import get_annotations
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from ..errors import UserError
from ..nn.layers import MAGNITUDE, SCALE
from ..optim.network import KL_WEIGHT
from .methods import DRAWN, ESTIMATORS, METHODS, BayesOptions, Method
from .models import OWN, TAKES, TEXT, ModelConfig
from .options import NoOptions, Tables, option, options_of, records

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import tomli_w

FOLDER_OF_IMAGES = "imagefolder:"
# docs/language.md: what learns a decoder of text, where nothing normalises what a layer gives
OF_TEXT: dict[str, dict[str, Any]] = {
    "bayesbinn": {"scale": SCALE, "form": "weight", "kl_weight": KL_WEIGHT},
    "ste": {"scale": SCALE, "lr": 0.01},
}
ONWARDS = DRAWN | {"scale": SCALE, "estimator": "draw", "form": "weight", "lr": 1.5}  # from one that has cooled


@dataclass(frozen=True)
class DataOptions:
    """Data: what is learned."""

    data: str = option("digits", "what to learn: digits, mnist, fashion-mnist, cifar10, cifar100, npz:FILE, ...")
    target: str = option("", "column of a table to predict (csv:FILE, parquet:FILE); empty: no table of mixed columns")
    task: str = option(
        "auto",
        "what is predicted; auto: as the target of a table shows",
        choices=("auto", "classification", "regression"),
    )
    validation: float = option(0.0, "share of the training set held out for choosing settings", maximum=0.9)
    image_size: int = option(
        0, "N: resize the short side of every image to N pixels, keep the centre N×N; 0: as they are", maximum=4096
    )
    skip_damaged: bool = option(False, "leave image files out that cannot be read (imagefolder:DIR)")
    augment: str = option("none", "random changes of training images", choices=("none", "crop-flip"))


@dataclass(frozen=True)
class TrainingOptions:
    """Training: how it is learned, whatever the method."""

    method: str = option("bayesbinn", "how to train", choices=tuple(METHODS))
    start: str = option("", "RUN: begin with its network, learned on other data; empty: begin anew")
    epochs: int = option(40, "passes over the training set", 1)
    modes: int = option(1, "posteriors learned one after the other in these epochs, and averaged", 1, maximum=100)
    epoch_size: int = option(0, "examples in one epoch, the next ones in the next; 0: the whole training set")
    batch_size: int = option(32, "examples in one step (batch norm needs two)", 2)
    micro_batch: int = option(0, "examples computed at a time, their gradients added up; 0: the whole batch")
    schedule: str = option("cosine", "learning rates over the run", choices=("cosine", "constant"))
    warmup: float = option(0.0, "epochs of linear warm-up")
    class_weight: str = option(
        "none", "balanced: every class counts the same in training, however rare", choices=("none", "balanced")
    )
    train_samples: int = option(1, "networks drawn per training step", 1)
    precision: str = option(
        "float32", "format of the layers' sums in training: bfloat16 is faster", choices=("float32", "bfloat16")
    )
    samples: int = option(32, "networks drawn for the mean prediction; 0: the mode only")


@dataclass(frozen=True)
class MachineOptions:
    """Output and machine: what changes no result but for the seed."""

    seed: int = option(0, "seed of everything random", maximum=2**32 - 1)
    device: str = option("cpu", "torch device")
    threads: int = option(0, "CPU threads; 0 leaves torch's choice", maximum=1024)
    checkpoint_steps: int = option(0, "steps between checkpoints within an epoch; 0: only at its end")


@dataclass(frozen=True)
class Config(MachineOptions, TrainingOptions, ModelConfig, DataOptions):
    """A run's settings, and the options that its choices bring; made by `make_config`.

    Attributes:
        method_options, estimator_options: of the method and, if it has one, of its estimator.
    """

    method_options: Any = field(default_factory=BayesOptions)
    estimator_options: Any = field(default_factory=NoOptions)

    tables: ClassVar[Tables] = {"method": METHODS, "estimator": ESTIMATORS}  # type: ignore[dict-item]

    @property
    def method_row(self) -> Method:
        """The row of the method."""
        row: Method = self.tables["method"][self.method]  # type: ignore[assignment]
        return row

    @classmethod
    def defaults(cls, given: dict[str, Any]) -> dict[str, Any]:
        """What takes the place of the options' own defaults beside the settings `given`."""
        model, method, bayes = given.get("model"), given.get("method", cls.method), {}
        if method == "bayesbinn":
            if model == TEXT and given.get("start"):
                return ONWARDS
            # weights are drawn where a posterior cannot start warm, or would forget by warming up again
            cold = given.get("form") == "plain" or given.get("natural_dtype") == "bfloat16" or bool(given.get("start"))
            estimator = given.get("estimator", "draw" if cold or given.get("modes", 1) != 1 else BayesOptions.estimator)
            if cold or estimator != "mean":
                # a network of one's own that draws starts as in a loop of one's own
                bayes = DRAWN | {"estimator": estimator} | ({"magnitude": MAGNITUDE} if model == OWN else {})
        if model == TEXT and method in OF_TEXT:
            return bayes | OF_TEXT[method]
        return bayes if model not in (OWN, TEXT) or method == "float" else bayes | {"scale": SCALE}

    def place(self, epoch: int) -> tuple[int, int, int]:
        """(cycle, epoch within it, its number of epochs) of an epoch: the schedules start anew with each cycle.

        A stream has one for each task, of `epochs`.  A run of K posteriors has K in its epochs: the first, which begins
        from nothing, takes what the others, a (K + 1)th each, leave (docs/design/modes.md).

        >>> [make_config({"epochs": 20, "modes": 5}).place(epoch) for epoch in (0, 8, 19)]
        [(0, 0, 8), (1, 0, 3), (4, 2, 3)]
        """
        if self.modes == 1:
            return (*divmod(epoch, self.epochs), self.epochs)
        later = max(1, self.epochs // (self.modes + 1))
        first = self.epochs - (self.modes - 1) * later
        if epoch < first:
            return 0, epoch, first
        cycle, within = divmod(epoch - first, later)
        return 1 + cycle, within, later

    @property
    def notes(self) -> list[str]:
        """A sentence for each setting that was changed and that changes nothing."""
        fields = options_of(self)
        return [
            f"{name} {getattr(self, name)} has no effect on {where}"
            for name, where in self.idle.items()
            if getattr(self, name) != fields[name].default
        ]

    @property
    def idle(self) -> dict[str, str]:
        """The settings that change nothing beside the others, each with what it does not change."""
        names = dict.fromkeys(name for takes in TAKES.values() for name in takes)
        return {name: f"model {self.model!r}" for name in names if name not in TAKES[self.model]} | (
            ({"width": "an mlp of depth 0"} if self.model == "mlp" and self.depth == 0 else {})
            | ({} if FOLDER_OF_IMAGES in self.data else {"skip_damaged": f"data {self.data!r}, which is no folder"})
        )

    def check(self) -> None:
        """Refuse settings that do not go together.

        Raises:
            UserError: saying which.
        """
        o = self.method_options
        if getattr(o, "natural_dtype", "float32") == "bfloat16" and o.cooling != 1:
            raise UserError(f"natural_dtype bfloat16 goes without cooling, got {o.cooling}: leave one of them out")
        if self.epochs < self.modes:
            need = f"give at least {self.modes}"
            raise UserError(f"modes {self.modes} take an epoch each, got epochs {self.epochs}: {need}")
        if self.modes > 1 and self.model == TEXT:
            raise UserError(f"modes {self.modes} are of networks for classes and numbers: leave modes out")
        if self.start and getattr(o, "cooling", 1.0) != 1:
            raise UserError(f"a run that --start begins with has cooled, got cooling {o.cooling}: leave it out")
        if self.method_row.binarizer and self.real_ends and self.model == "mlp" and self.depth < 2:
            raise UserError(
                f"real_ends leaves no binary layer in an mlp of depth {self.depth}: use a depth of 2 or more"
            )


C = TypeVar("C", bound=Config)


def make_config(*sources: dict[str, Any]) -> Config:
    """The configuration of the given settings, later ones before earlier ones, every value checked.

    Raises:
        UserError: for an unknown key, one that the method does not take, a wrong type, a value out of range, or
            settings that do not go together.

    >>> config = make_config({"epochs": 3}, {"epochs": 5, "lr": 0.5})
    >>> config.epochs, config.method_options.lr
    (5, 0.5)
    """
    return make(Config, *sources)


def make(kind: type[C], *sources: dict[str, Any]) -> C:
    """As `make_config`, for any kind of configuration."""
    given = {name: value for source in sources for name, value in source.items()}
    config = kind(**records(kind, kind.tables, {**kind.defaults(given), **given}))
    config.check()
    return config


def read_toml(path: Path) -> dict[str, Any]:
    """The settings in a TOML file.

    Raises:
        UserError: if it is missing or not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no recipe at {path}: give --config an existing TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"cannot read {path} as TOML: {error}") from None


def to_toml(config: Config) -> str:
    """The configuration as TOML: every setting in force, flat."""
    return tomli_w.dumps(settings_of(config))


def settings_of(config: Config) -> dict[str, Any]:
    """The settings of a configuration by name: its own, then those that its choices bring.

    >>> settings_of(make_config({"method": "ste"}))["clip"]
    1.0
    """
    parts = [config, *(getattr(config, f"{what}_options") for what in config.tables)]
    return {name: getattr(part, name) for part in parts for name in options_of(part)}


def section_of(kind: type[Config], name: str) -> str:
    """The topic of a general setting: the title of the class that introduces it."""
    home = next(base for base in reversed(kind.__mro__) if name in get_annotations(base))
    return str(home.__doc__).partition(":")[0]

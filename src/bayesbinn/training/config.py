"""Everything a run can be told, in one flat record: defaults, TOML recipe, command line, in that order."""

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from ..errors import UserError, unknown
from .models import ModelConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import tomli_w

LARGEST = 10**9  # bound on every number without one of its own: what float32 and torch's 64-bit integers can bear


def option(default: Any, help: str, minimum: float = 0, maximum: float = LARGEST, **more: Any) -> Any:
    """A dataclass field with what the command line shows of it, and what its value may be.

    Numbers lie between `minimum` and `maximum`, strictly above `above`; texts are among `choices`.
    """
    return field(default=default, metadata={"help": help, "minimum": minimum, "maximum": maximum, **more})


@dataclass(frozen=True)
class Config:
    """A run's settings.  Options of a method that are None take the method's default (see `methods.METHODS`)."""

    data: str = option("digits", "what to learn: digits, mnist, fashion-mnist, cifar10, cifar100, npz:FILE, ...")
    validation: float = option(0.0, "share of the training set held out for choosing settings", maximum=0.9)
    augment: str = option("none", "random changes of training images", choices=("none", "crop-flip"))
    model: str = option("mlp", "network", choices=("mlp", "vgg-small", "resnet18"))
    width: int = option(256, "units of each hidden layer (mlp)", 1, 10**6)
    depth: int = option(3, "number of hidden layers (mlp)", maximum=10**4)
    width_multiplier: float = option(1.0, "factor on the channels (vgg-small, resnet18)", maximum=1000, above=0)
    dropout: float = option(0.2, "dropout rate before linear layers", maximum=0.99)
    affine: bool = option(True, "learnable scale and shift in batch norm")
    output_scale: bool = option(True, "learnable scale of the logits")
    real_ends: bool = option(False, "keep the first and the last layer real")
    method: str = option("bayesbinn", "how to train: bayesbinn, bayesbinn-2020, ste, bop, ..., float")
    preset: str | None = option(
        None, "settings of bayesbinn, measured on MNIST, that others override", choices=("accuracy", "uncertainty")
    )
    epochs: int = option(40, "passes over the training set", 1)
    batch_size: int = option(32, "examples in one step (batch norm needs two)", 2)
    lr: float | None = option(None, "learning rate of the method (its peak, under a schedule)")
    real_lr: float = option(0.01, "learning rate of the real parameters (Adam)")
    schedule: str = option("cosine", "learning rates over the run", choices=("cosine", "constant"))
    warmup: float = option(0.0, "epochs of linear warm-up")
    train_samples: int = option(1, "networks drawn per training step", 1)
    kl_weight: float | None = option(None, "weight of the KL term; 1 is Bayes, less is colder")
    kl_weight_end: float | None = option(None, "its value at the end, reached geometrically", above=0)
    num_data: int | None = option(None, "N in the ELBO; default: the size of the training set", 1, 10**15)
    kl_share: str | None = option(
        None, "what counts alike in the KL term: every weight, or every layer", choices=("weights", "layers")
    )
    cooling: float | None = option(
        None, "how many times warmer than kl_weight the posterior is at the start; falls to 1", above=0
    )
    estimator: str | None = option(
        None, "what a training step computes with: drawn ±1 weights, or their mean", choices=("draw", "mean")
    )
    momentum: float | None = option(None, "momentum of the Bayesian rule", maximum=0.9999)
    temperature: float | None = option(None, "temperature of the concrete relaxation", above=0)
    temperature_end: float | None = option(None, "its value at the end, reached geometrically", above=0)
    beta: float | None = option(None, "hardness of the weights at the start (pmf, md-tanh, adaste)", above=0)
    beta_end: float | None = option(None, "its value at the end, reached geometrically", above=0)
    alpha: float | None = option(None, "how far the wells of adaste lie beyond ±1")
    gamma: float | None = option(None, "share of its gradient average that bop replaces per step", maximum=1)
    threshold: float | None = option(None, "gradient average at which bop flips a weight")
    clip: float | None = option(None, "bound on the latent weight (ste)", above=0)
    init: str | None = option(None, "where λ starts", choices=("signs", "zeros", "weights"))
    magnitude: float | None = option(None, "|λ| at the start", above=0)
    natural_dtype: str | None = option(
        None, "number format of λ: bfloat16 takes half the memory", choices=("float32", "bfloat16")
    )
    precision: str = option(
        "float32", "format of the layers' sums in training: bfloat16 is faster", choices=("float32", "bfloat16")
    )
    samples: int = option(32, "networks drawn for the mean prediction; 0: the mode only")
    seed: int = option(0, "seed of everything random", maximum=2**32 - 1)
    device: str = option("cpu", "torch device")
    threads: int = option(0, "CPU threads; 0 leaves torch's choice", maximum=1024)
    checkpoint_steps: int = option(0, "steps between checkpoints within an epoch; 0: only at its end")

    @property
    def model_config(self) -> ModelConfig:
        """The part that decides the network."""
        names = {f.name for f in dataclasses.fields(ModelConfig)}
        return ModelConfig(**{k: v for k, v in dataclasses.asdict(self).items() if k in names})


KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}
FIELDS = {f.name: f for f in dataclasses.fields(Config)}


C = TypeVar("C", bound=Config)


def make_config(*sources: dict[str, Any]) -> Config:
    """The configuration of the given settings, later ones before earlier ones, every value checked.

    Raises:
        UserError: for an unknown key, a wrong type or a value out of range.

    >>> make_config({"epochs": 3}, {"epochs": 5, "data": "mnist"}).epochs
    5
    """
    return make(Config, *sources)


def make(kind: type[C], *sources: dict[str, Any]) -> C:
    """As `make_config`, for any record of settings."""
    settings: dict[str, Any] = {}
    for source in sources:
        for key, value in source.items():
            settings[key] = _checked(key, value, kind)
    return kind(**settings)


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
    """The configuration as TOML; options that are None are left out."""
    return tomli_w.dumps(settings_of(config))


def settings_of(config: Config) -> dict[str, Any]:
    """The settings of a configuration by name, without those that are None."""
    return {k: v for k, v in dataclasses.asdict(config).items() if v is not None}


def _checked(key: str, value: Any, config: type[Config]) -> Any:
    fields = {f.name: f for f in dataclasses.fields(config)}
    if key not in fields:
        raise unknown("setting", key, fields)
    f = fields[key]
    kind: Any = field_type(key, config)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise UserError(f"{key} must be {KINDS[kind]}, got {value!r}")
    if kind is str and value not in f.metadata.get("choices", [value]):
        raise unknown(key, value, f.metadata["choices"])
    if kind in (int, float):
        minimum, maximum, above = (f.metadata.get(name) for name in ("minimum", "maximum", "above"))
        if above is not None and not value > above:  # also for NaN, as below
            raise UserError(f"{key} must be above {above}, got {value}")
        if not value >= minimum:
            raise UserError(f"{key} must be at least {minimum}, got {value}")
        if not value <= maximum:
            raise UserError(f"{key} must be at most {maximum}, got {value}")
    return kind(value)


def field_type(key: str, config: type[Config] = Config) -> type:
    """The plain type of a setting: bool, int, float or str."""
    (annotation,) = (f.type for f in dataclasses.fields(config) if f.name == key)
    kind: Any = next(iter(get_args(annotation)), annotation)  # the first of `float | None`
    return kind  # type: ignore[no-any-return]

"""Settings of a continual run, the strategies that it can use, and the methods that only streams need."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn
from torch.optim import Optimizer

from .. import continual
from ..continual import Stream
from ..errors import UserError
from ..optim import BiMU, NetworkOptimizer, Palimpsest
from .config import Config
from .methods import DRAWN, ESTIMATORS, METHODS, BinaryOptions, Method, estimated
from .models import TEXT
from .options import NoOptions, Tables, option

FOLDER = "tasks:"  # how the name of a stream of one's own begins


@dataclass(frozen=True)
class WindowOptions(BinaryOptions):
    """Options of the rules with a memory window."""

    init: str = option("zeros", "where λ starts", choices=("signs", "zeros", "weights"))
    estimator: str = option("draw", "how the gradient in μ is estimated", choices=tuple(ESTIMATORS))
    window: float = option(0.0, "memory in examples; 0: five times the first task's training set")


@dataclass(frozen=True)
class PalimpsestOptions(WindowOptions):
    """Options of `palimpsest`: see `optim.Palimpsest`."""

    kl_weight: float = option(1.0, "weight of the KL term; 1 is Bayes, less is colder", above=0)
    metaplasticity: float = option(0.0, "damping of gradients that contradict λ; 0: Bayes' rule")
    momentum: float = option(0.9, "of the average that is damped; 0: each gradient for itself", maximum=0.9999)


@dataclass(frozen=True)
class BiMUOptions(WindowOptions):
    """Options of `bimu`: see `optim.BiMU`."""

    lr: float = option(1.0, "scale of the gradient term")
    gain: float = option(1.0, "gain on the gradient", above=0)
    max_step: float = option(1.0, "bound on the step size η", above=0)


def _steps(o: Any, num_train: int, batch_size: int) -> float:
    """The window in steps."""
    window = o.window or 5.0 * num_train
    if batch_size > window:
        raise UserError(f"window {window:g} needs a batch_size of at most the window, got {batch_size}")
    return float(window / batch_size)


def _palimpsest(params: list[nn.Parameter], o: Any, num_train: int, batch_size: int) -> Optimizer:
    return Palimpsest(
        params,
        num_examples=batch_size / o.kl_weight,
        window=_steps(o, num_train, batch_size),
        metaplasticity=o.metaplasticity,
        momentum=o.momentum,
    )


def _bimu(params: list[nn.Parameter], o: Any, num_train: int, batch_size: int) -> Optimizer:
    steps = _steps(o, num_train, batch_size)
    return BiMU(params, o.lr, window=steps, gradient_gain=o.gain, max_step=o.max_step)


# the methods of streams: some of those of single tasks, and those that only make sense here
STREAM_METHODS: dict[str, Method] = {
    **{name: METHODS[name] for name in ("bayesbinn", "bayesbinn-2020", "ste", "float")},
    "palimpsest": Method("Bayes' rule with a memory window", PalimpsestOptions, estimated, _palimpsest),
    "bimu": Method("metaplastic rule that forgets towards λ = 0", BiMUOptions, estimated, _bimu),
}

# defaults on streams, where they differ from those on one task: what docs/continual.md measures
STREAM_DEFAULTS: dict[str, dict[str, Any]] = {
    # not colder: what a task leaves undecided is what the next one can learn with
    "bayesbinn": {
        **DRAWN,
        **{"estimator": "draw", "form": "plain", "lr": 0.01, "momentum": 0.0},
        **{"kl_weight": 0.4, "init": "zeros"},
    },
    "bayesbinn-2020": {"lr": 1e-3, "temperature": 1e-2},
    "palimpsest": {"schedule": "constant"},  # a stream that goes on for ever has no end to slow down to
    "bimu": {"schedule": "constant"},
}


@dataclass(frozen=True)
class PriorOptions:
    """Options of the strategy `prior`."""

    strength: float = option(1.0, "after a task λ₀ ← strength · λ (prior), or weight of its Fisher term (ewc)")


@dataclass(frozen=True)
class EWCOptions:
    """Options of the strategy `ewc`."""

    strength: float = option(1.0, "weight of the Fisher term", above=0)


@dataclass(frozen=True)
class ReplayOptions:
    """Options of the strategy `replay`."""

    buffer: int = option(500, "examples kept", 1)


Make = Callable[[nn.Module, NetworkOptimizer, Any, Stream, int], continual.Strategy]


def _replay(net: nn.Module, optimizer: NetworkOptimizer, o: Any, stream: Stream, seed: int) -> continual.Strategy:
    total = 0
    for task in stream:  # each is built anew: as few as it takes
        total += len(task.train)
        if o.buffer <= total:
            return continual.Replay(o.buffer, seed=seed)
    raise UserError(f"buffer {o.buffer} is larger than the data, {total} examples in all: lower it")


@dataclass(frozen=True)
class StrategyRow:
    """What is done against forgetting.

    Attributes:
        summary: one line for the help.
        methods: that it goes with, the first by default.
        options: class of its options.
        make: builds it from the network, the optimizer, the options, the stream and the seed.
        boundaries: whether it needs to know where a task ends.
        mixes: whether its batches hold several tasks.
    """

    summary: str
    methods: tuple[str, ...]
    options: type = NoOptions
    make: Make = lambda net, optimizer, o, stream, seed: continual.Naive()
    boundaries: bool = False
    mixes: bool = False


_ANY = ("bayesbinn", "bayesbinn-2020", "ste", "float")

STRATEGIES: dict[str, StrategyRow] = {
    "prior": StrategyRow(
        "posterior → prior after each task",
        ("bayesbinn", "bayesbinn-2020"),
        PriorOptions,
        lambda net, optimizer, o, stream, seed: continual.PosteriorToPrior(optimizer.rules[0], o.strength),
        boundaries=True,
    ),
    "palimpsest": StrategyRow("uniform prior; what is older than a window fades", ("palimpsest",)),
    "bimu": StrategyRow("metaplastic rule that forgets towards 0", ("bimu",)),
    "replay": StrategyRow(
        "a small buffer of earlier examples in every batch", _ANY, ReplayOptions, _replay, mixes=True
    ),
    "naive": StrategyRow("fine-tuning from task to task", _ANY),
    "joint": StrategyRow("all tasks at once: the ceiling", _ANY, mixes=True),
    "ewc": StrategyRow(
        "elastic weight consolidation of the real network",
        ("float",),
        EWCOptions,
        lambda net, optimizer, o, stream, seed: continual.EWC(net, o.strength, seed=seed),
        boundaries=True,
    ),
}


@dataclass(frozen=True)
class StreamOptions:
    """Stream: of tasks, and what is done against forgetting."""

    tasks: int = option(5, "number of tasks T", 1, 10**5)
    strategy: str = option("prior", "what to do against forgetting", choices=tuple(STRATEGIES))
    head: str = option("single", "all outputs compete, or only the task's own", choices=("single", "multi"))
    statistics: str = option(
        "none", "normalization, and what it remembers of each task", choices=("task", "shared", "layer", "none")
    )
    output_gain: float = option(1.0, "factor on the logits", above=0)
    blend: float = option(0.0, "share of a task over which it drifts into the next; above 0: no boundaries", maximum=1)
    max_angle: float = option(180.0, "rotations are drawn from 0 to this many degrees", maximum=360)
    ood: str = option("", "data set for the OOD AUROC after each task; empty: none")
    row_examples: int = option(2000, "test examples per task in the matrix (the final averages take all); 0: all")
    row_tasks: int = option(0, "tasks in a row of the matrix: the latest ones, and the next; 0: all", maximum=10**5)
    row_samples: int = option(0, "networks drawn in the matrix (the final mean draws `samples`); 0: the mode")
    stream_seed: int = option(0, "seed of the permutations, angles or classes", maximum=2**32 - 1)


@dataclass(frozen=True)
class ContinualConfig(StreamOptions, Config):
    """A continual run's settings: those of a run, with other defaults, and its own.

    `epochs` counts per task, and the schedule of the learning rates starts anew with each.
    """

    data: str = option("permuted-digits", "stream: permuted-DATA, rotated-DATA, split-DATA or tasks:FOLDER")
    method: str = option(
        "bayesbinn",
        "how to train; ewc takes float, palimpsest and bimu what is called so",
        choices=tuple(STREAM_METHODS),
    )
    width: int = option(100, "units of each hidden layer (mlp)", 1, 10**6)
    depth: int = option(2, "number of hidden layers (mlp)", maximum=10**4)
    dropout: float = option(0.0, "dropout rate before linear layers", maximum=0.99)
    affine: bool = option(False, "learnable scale and shift in the normalization")
    output_scale: bool = option(False, "learnable scale of the logits")
    epochs: int = option(5, "passes over each task", 1)
    batch_size: int = option(100, "examples in one step", 1)
    strategy_options: Any = field(default_factory=PriorOptions)

    tables: ClassVar[Tables] = {"method": STREAM_METHODS, "estimator": ESTIMATORS, "strategy": STRATEGIES}  # type: ignore[dict-item]

    @classmethod
    def defaults(cls, given: dict[str, Any]) -> dict[str, Any]:
        strategy = given.get("strategy", "prior")
        row = STRATEGIES.get(strategy) if isinstance(strategy, str) else None
        method = given.get("method", row.methods[0] if row else "bayesbinn")
        return {"method": method, **(STREAM_DEFAULTS.get(method, {}) if isinstance(method, str) else {})}

    @property
    def idle(self) -> dict[str, str]:
        found, stream = super().idle, f"stream {self.data!r}"
        if self.statistics == "none":
            found.setdefault("affine", "statistics 'none'")
        if not self.data.startswith("rotated-"):
            found["max_angle"] = stream
        if self.data.startswith(FOLDER):
            found["stream_seed"] = stream
        return found

    def check(self) -> None:
        if self.modes > 1:
            raise UserError("continual learns one posterior, task after task: leave modes out")
        super().check()
        row = STRATEGIES[self.strategy]
        if self.method not in row.methods:
            raise UserError(
                f"strategy {self.strategy!r} does not go with method {self.method!r}: use {', '.join(row.methods)}"
            )
        if self.validation:
            raise UserError("continual takes no validation: leave it out")
        if self.task == "regression" or self.class_weight != "none":
            raise UserError("continual learns classes, all of one weight: leave task regression and class_weight out")
        if self.start or getattr(self.method_options, "prior", "uniform") == "start":
            raise UserError("continual begins anew and has priors of its own (--strategy prior): leave start out")
        if self.model == TEXT:
            raise UserError("continual learns classes, model 'gpt' text: use train --start RUN --prior start")
        if getattr(self.method_options, "cooling", 1.0) != 1.0:
            raise UserError("continual takes no cooling: leave it out")
        if self.blend and row.boundaries:
            raise UserError(
                f"strategy {self.strategy!r} needs task boundaries, and blend {self.blend} leaves none: use blend 0"
            )
        if self.statistics == "task" and (self.blend or row.mixes):
            raise UserError("statistics 'task' need batches of one task: use 'shared', 'layer' or 'none' here")
        if getattr(self.method_options, "scale", None) == "none" and self.statistics in ("layer", "none"):
            raise UserError(
                f"scale 'none' with statistics {self.statistics!r} lets the outputs grow with every layer: use scale "
                "'fan_in' or 'learned', or statistics 'task' or 'shared'"
            )
        if self.batch_size == 1 and self.statistics in ("task", "shared"):
            raise UserError(
                f"statistics {self.statistics!r} need batches of at least 2: use 'layer' or 'none' with batch_size 1"
            )

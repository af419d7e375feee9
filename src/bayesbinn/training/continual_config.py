"""Settings of a continual run, and the strategies that it can use."""

import dataclasses
from dataclasses import dataclass

from ..errors import UserError, unknown
from .config import Config, option
from .methods import resolve

_ANY = ("bayesbinn", "bayesbinn-2020", "ste", "float")


@dataclass(frozen=True)
class ContinualConfig(Config):
    """A continual run's settings: those of a run, with other defaults, and its own.

    `epochs` counts per task, and the schedule of the learning rates starts anew with each.
    """

    data: str = option("permuted-digits", "stream: permuted-DATA, rotated-DATA, split-DATA or tasks:FOLDER")
    tasks: int = option(5, "number of tasks T", 1, 10**5)
    strategy: str = option("prior", "what to do against forgetting")
    strength: float = option(1.0, "λ₀ ← strength · λ after each task (prior); weight of the Fisher term (ewc)")
    limit: float = option(0.0, "bound on |λ₀| (prior) or on |λ| at every step (window); 0: none")
    window: float | None = option(None, "memory in examples (window, palimpsest, bimu)", 1.0)
    metaplasticity: float = option(0.0, "damping of gradients that contradict λ (window, palimpsest); 0: Bayes' rule")
    gain: float = option(1.0, "gain on the gradient (bimu)", above=0)
    max_step: float = option(1.0, "bound on the step size η (bimu)", above=0)
    buffer: int = option(500, "examples kept (replay)", 1)
    head: str = option("single", "all outputs compete, or only the task's own", choices=("single", "multi"))
    statistics: str = option(
        "none", "normalization, and what it remembers of each task", choices=("task", "shared", "layer", "none")
    )
    output_gain: float = option(1.0, "factor on the logits", above=0)
    blend: float = option(0.0, "share of a task over which it drifts into the next; above 0: no boundaries", maximum=1)
    max_angle: float = option(180.0, "rotations are drawn from 0 to this many degrees", maximum=360)
    ood: str = option("", "data set for the OOD AUROC after each task; default: none")
    row_examples: int = option(2000, "test examples per task in the matrix (the final averages take all); 0: all")
    row_samples: int = option(0, "networks drawn in the matrix (the final mean draws `samples`); 0: the mode")
    stream_seed: int = option(0, "seed of the permutations, angles or classes", maximum=2**32 - 1)
    method: str = option("auto", "how to train; auto: the strategy's", choices=("auto", *_ANY))
    width: int = option(100, "units of each hidden layer (mlp)", 1, 10**6)
    depth: int = option(2, "number of hidden layers (mlp)", maximum=10**4)
    dropout: float = option(0.0, "dropout rate before linear layers", maximum=0.99)
    affine: bool = option(False, "learnable scale and shift in the normalization")
    output_scale: bool = option(False, "learnable scale of the logits")
    epochs: int = option(5, "passes over each task", 1)
    batch_size: int = option(100, "examples in one step", 1)


@dataclass(frozen=True)
class StrategyRow:
    """A strategy's method, the other methods it can go with, and the settings that only it (and few others) take."""

    summary: str
    method: str
    others: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


_BAYES = ("bayesbinn", "bayesbinn-2020")

STRATEGIES: dict[str, StrategyRow] = {
    "prior": StrategyRow("posterior → prior after each task", "bayesbinn", _BAYES, ("strength", "limit")),
    "window": StrategyRow(
        "uniform prior, which fades what is older than the window",
        "bayesbinn",
        (),
        ("window", "metaplasticity", "limit"),
    ),
    "palimpsest": StrategyRow(
        "window whose damping sees averaged gradients", "bayesbinn", (), ("window", "metaplasticity")
    ),
    "bimu": StrategyRow("metaplastic rule that forgets towards 0", "bayesbinn", (), ("window", "gain", "max_step")),
    "replay": StrategyRow("a small buffer of earlier examples in every batch", "bayesbinn", _ANY, ("buffer",)),
    "naive": StrategyRow("fine-tuning from task to task", "bayesbinn", _ANY),
    "joint": StrategyRow("all tasks at once: the ceiling", "bayesbinn", _ANY),
    "ewc": StrategyRow("elastic weight consolidation of the real network", "float", (), ("strength",)),
    "ste": StrategyRow("fine-tuning, straight-through estimator", "ste"),
    "float": StrategyRow("fine-tuning of the real network", "float"),
    "bayesbinn-2020": StrategyRow(
        "posterior → prior, as the code of 2020", "bayesbinn-2020", (), ("strength", "limit")
    ),
}

OPTIONS = ("strength", "limit", "window", "metaplasticity", "gain", "max_step", "buffer")
# settings of ordinary runs that continual ones have no use for
NOT_USED = (
    *("validation", "augment", "warmup", "train_samples", "kl_weight_end", "temperature_end"),
    *("beta", "beta_end", "alpha", "gamma", "threshold", "precision", "preset"),
)


def resolve_continual(config: ContinualConfig, num_train: int) -> ContinualConfig:
    """`config` with the strategy's method and the defaults of both in place of what was left open.

    Args:
        config: checked by `make_config`.
        num_train: N, the size of the first task's training set.

    Raises:
        UserError: for an unknown strategy, or settings that do not go together.
    """
    c = config
    if c.strategy not in STRATEGIES:
        raise unknown("strategy", c.strategy, STRATEGIES)
    row = STRATEGIES[c.strategy]
    defaults = ContinualConfig()
    for name in OPTIONS:
        if name not in row.takes and getattr(c, name) != getattr(defaults, name):
            raise UserError(f"strategy {c.strategy!r} takes no {name}: leave it out")
    for name in NOT_USED:
        if getattr(c, name) != getattr(defaults, name):
            raise UserError(f"continual takes no {name}: leave it out")
    if c.method not in ("auto", row.method, *row.others):
        valid = ", ".join(dict.fromkeys((row.method, *row.others)))
        raise UserError(f"strategy {c.strategy!r} does not go with method {c.method!r}: use {valid}")
    if c.blend and c.strategy in ("prior", "ewc", "bayesbinn-2020"):
        raise UserError(f"strategy {c.strategy!r} needs task boundaries, and blend {c.blend} leaves none: use blend 0")
    if c.statistics == "task" and (c.blend or c.strategy in ("joint", "replay")):
        raise UserError("statistics 'task' need batches of one task: use 'shared', 'layer' or 'none' here")
    if c.batch_size == 1 and c.statistics in ("task", "shared"):
        raise UserError(
            f"statistics {c.statistics!r} need batches of at least 2: use 'layer' or 'none' with batch_size 1"
        )
    method = row.method if c.method == "auto" else c.method
    c = dataclasses.replace(c, method=method)
    if "window" in row.takes:
        window = c.window or 5.0 * num_train
        c = dataclasses.replace(c, window=window)
        if c.strategy == "window":
            kl_weight = 0.4 if c.kl_weight is None else c.kl_weight
            if kl_weight == 0 or c.batch_size > window:
                raise UserError(f"window {window:g} needs a kl_weight above 0 and a batch_size of at most the window")
            # lr · kl_weight = batch_size/window is the share of λ that a step replaces, and N is what the window holds
            c = dataclasses.replace(
                c,
                kl_weight=kl_weight,
                lr=c.batch_size / window / kl_weight if c.lr is None else c.lr,
                num_data=max(1, round(window)) if c.num_data is None else c.num_data,
                schedule="constant",
            )
        elif c.strategy == "palimpsest":
            if c.lr is not None or c.num_data is not None:
                raise UserError("strategy 'palimpsest' takes no lr or num_data: its window sets both, leave them out")
            if c.kl_weight == 0 or c.batch_size > window:
                raise UserError(f"window {window:g} needs a kl_weight above 0 and a batch_size of at most the window")
            kl_weight = 1.0 if c.kl_weight is None else c.kl_weight
            momentum = 0.9 if c.momentum is None else c.momentum
            c = dataclasses.replace(c, kl_weight=kl_weight, momentum=momentum, lr=1.0, schedule="constant")
        else:
            c = dataclasses.replace(c, lr=1.0 if c.lr is None else c.lr, schedule="constant")
    elif method == "bayesbinn":
        kl_weight = 0.4 if c.kl_weight is None else c.kl_weight
        # lr · kl_weight is the share of λ that a step replaces: after 100 steps λ is where N and the prior want it
        lr = 0.01 / (kl_weight or 1.0) if c.lr is None else c.lr
        c = dataclasses.replace(c, lr=lr, kl_weight=kl_weight)
    elif method == "bayesbinn-2020":
        lr, temperature = (1e-3 if c.lr is None else c.lr), (1e-2 if c.temperature is None else c.temperature)
        c = dataclasses.replace(c, lr=lr, temperature=temperature)
    if method == "bayesbinn":  # with the draws that docs/continual.md measures
        c = dataclasses.replace(c, estimator=c.estimator or "draw", init=c.init or "zeros")
    resolved = resolve(c, num_train)
    assert isinstance(resolved, ContinualConfig)
    return resolved

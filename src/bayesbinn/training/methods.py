"""Methods: named pairs of a binarizer and an optimizer, with their default settings."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..binarizers import (
    AdaSTE,
    Binarizer,
    Concrete,
    LocalReparam,
    MeanWeight,
    Reference2020,
    ReinMax,
    SignSTE,
    StraightThroughSample,
    TanhAnneal,
)
from ..disarm import disarm_loss
from ..errors import UserError, unknown
from ..nn import binarize_, binary_layers, split_parameters
from ..optim import BayesBiNN, Bop
from .config import Config
from .models import real_layers

Loss = Callable[[nn.Module, Callable[[], Tensor]], Tensor]

# settings with a value at the start and, optionally, another at the end of the run (NAME_end)
ANNEALED = ("kl_weight", "temperature", "beta")

# settings that only some methods take; each method lists its own, with their defaults
METHOD_OPTIONS = (
    *("lr", "num_data", "momentum", "clip", "alpha", "gamma", "threshold", "init", "magnitude", "natural_dtype"),
    *("kl_share", "cooling", "estimator"),
    *ANNEALED,
    *(f"{name}_end" for name in ANNEALED),
)


@dataclass(frozen=True)
class Method:
    """A way to train: steps 1 and 2 of the frame (`binarizer`) and step 3 (`optimizer`).

    Attributes:
        summary: one line for the help.
        defaults: the method options it takes, and their values when the user gives none: a value, None (stays unset),
            or a function of N, the number of training examples.
        binarizer: builds it from a resolved config; None for the float network.
        optimizer: builds it for the binary parameters (for all, if there is no binarizer).
        loss: from the network and a closure that evaluates the loss, what to call `backward` on.
        presets: named values that take the place of defaults.
    """

    name: str
    summary: str
    defaults: dict[str, Any]
    binarizer: Callable[[Config], Binarizer] | None
    optimizer: Callable[[list[nn.Parameter], Config], Optimizer]
    loss: Loss = lambda net, closure: closure()
    presets: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)


def _options(config: Config, *names: str) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


def _bayesian(params: list[nn.Parameter], c: Config) -> Optimizer:
    assert c.lr is not None
    assert c.kl_weight is not None
    options: dict[str, Any] = {"num_data": c.num_data, "momentum": c.momentum, "kl_weight": c.kl_weight}
    groups: list[dict[str, Any]] = [{"params": params}]
    if c.kl_share == "layers":
        # a layer's KL counts as that of one of average size
        average = sum(p.numel() for p in params) / len(params)
        groups = [{"params": [p], "kl_weight": c.kl_weight * average / p.numel()} for p in params]
    rule = BayesBiNN(groups, min(1.0, c.lr * c.kl_weight), **options)
    for group in rule.param_groups:  # λ itself starts where the user says
        group["kl_weight"] *= c.cooling or 1.0
    return rule


def _adam(params: list[nn.Parameter], c: Config) -> Optimizer:
    return torch.optim.Adam(params, **_options(c, "lr"))


def _bop(params: list[nn.Parameter], c: Config) -> Optimizer:
    return Bop(params, **_options(c, "lr", "gamma", "threshold"))


BAYES: dict[str, Any] = {
    # lr · num_data is what a unit of mean gradient moves λ by: good over data sets of very different size
    "lr": lambda n: 6000 / n,
    "kl_weight": 0.002,
    "kl_weight_end": None,
    "num_data": lambda n: n,
    "momentum": 0.0,
    "init": "signs",
    "magnitude": 1.0,
}
# chosen in docs/design/recipe-study.md: N / kl_weight decides how far a mean gradient takes λ, lr · kl_weight how soon,
# and both are the same for every N, so that the posterior of a small data set is as decided as that of a large one
CHOSEN: dict[str, Any] = {"lr": lambda n: 15_000 / n, "kl_weight": lambda n: n / 1.5e7}
PRESETS: dict[str, dict[str, Any]] = {
    # a mode that fits as much as it can: for networks that are small for their data
    "accuracy": {
        "lr": lambda n: 120_000 / n,
        "kl_weight": lambda n: n / 1e8,
        "magnitude": 0.3,
        "kl_share": "layers",
        "cooling": 300.0,
        "estimator": "mean",
    },
    # a posterior that knows most about itself
    "uncertainty": {"lr": lambda n: 6000 / n, "kl_weight": 0.01, "estimator": "draw"},
}
LATENT: dict[str, Any] = {"lr": 1e-3, "init": "signs", "magnitude": 0.1}

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "bayesbinn",
            "Bayesian learning rule, gradient at the posterior's mean weight (estimator draw: at hard Bernoulli draws)",
            {**BAYES, **CHOSEN, "natural_dtype": "float32", "kl_share": "weights", "cooling": 1.0, "estimator": "mean"},
            lambda c: MeanWeight() if c.estimator == "mean" else StraightThroughSample(),
            _bayesian,
            presets=PRESETS,
        ),
        Method(
            "concrete",
            "Bayesian learning rule, the paper's relaxation with its exact scale",
            {**BAYES, "temperature": 1.0, "temperature_end": None},
            lambda c: Concrete(**_options(c, "temperature")),
            _bayesian,
        ),
        Method(
            "bayesbinn-2020",
            "the rule as the code of 2020 ran it: concrete relaxation with its 1e-10 terms",
            {**BAYES, "lr": 1e-4, "kl_weight": 1.0, "temperature": 1e-10, "temperature_end": None, "magnitude": 10.0},
            lambda c: Reference2020(**_options(c, "temperature")),
            _bayesian,
        ),
        Method(
            "local-reparam",
            "Bayesian learning rule, sampled layer outputs instead of weights",
            BAYES,
            lambda c: LocalReparam(),
            _bayesian,
        ),
        Method(
            "reinmax",
            "Bayesian learning rule, hard draws, second-order straight-through gradient",
            BAYES,
            lambda c: ReinMax(),
            _bayesian,
        ),
        Method(
            "disarm",
            "Bayesian learning rule, exactly unbiased gradient from two opposite draws",
            BAYES,
            lambda c: StraightThroughSample(),
            _bayesian,
            disarm_loss,
        ),
        Method(
            "ste",
            "sign with the clipped straight-through gradient, Adam",
            {**LATENT, "clip": 1.0},
            lambda c: SignSTE(**_options(c, "clip")),
            _adam,
        ),
        Method(
            "bop",
            "no latent weight: flip when the gradient average says so",
            {"lr": 1.0, "gamma": 1e-3, "threshold": 1e-7, "init": "signs", "magnitude": 1.0},
            lambda c: SignSTE(clip=float("inf")),
            _bop,
        ),
        Method(
            "pmf",
            "proximal mean-field: tanh(βλ) that hardens, ordinary gradient, Adam",
            {**LATENT, "beta": 1.0, "beta_end": 1000.0},
            lambda c: TanhAnneal(**_options(c, "beta")),
            _adam,
        ),
        Method(
            "md-tanh",
            "mirror descent: tanh(βλ) that hardens, gradient in the weight, Adam",
            {**LATENT, "beta": 1.0, "beta_end": 1000.0},
            lambda c: TanhAnneal(**_options(c, "beta"), mirror=True),
            _adam,
        ),
        Method(
            "adaste",
            "adaptive straight-through: a double well that hardens, Adam",
            {**LATENT, "alpha": 0.01, "beta": 0.01, "beta_end": 100.0},
            lambda c: AdaSTE(**_options(c, "alpha", "beta"), small=1e-3),
            _adam,
        ),
        Method("float", "the real-valued network, Adam", {"lr": 1e-3}, None, _adam),
    )
}


def check_method(config: Config) -> None:
    """Refuse what no data are needed to refuse.

    Raises:
        UserError: for an unknown method, a setting that the method does not take, or nothing to make binary.
    """
    if config.method not in METHODS:
        raise unknown("method", config.method, METHODS)
    defaults = METHODS[config.method].defaults
    for name in METHOD_OPTIONS:
        if getattr(config, name) is not None and name not in defaults:
            takes = ", ".join(defaults)
            raise UserError(f"method {config.method!r} takes no {name}: leave it out (it takes {takes})")
    if config.preset is not None and config.preset not in METHODS[config.method].presets:
        raise UserError(f"method {config.method!r} has no preset {config.preset!r}: leave it out")
    if config.kl_weight == 0 and config.kl_weight_end is not None:
        raise UserError(f"kl_weight 0 cannot reach {config.kl_weight_end} geometrically: start above 0")
    if config.natural_dtype == "bfloat16" and config.cooling not in (None, 1):
        raise UserError(f"natural_dtype bfloat16 goes without cooling, got {config.cooling}: leave one of them out")
    if config.natural_dtype == "bfloat16" and config.momentum:
        raise UserError(f"natural_dtype bfloat16 goes without momentum, got {config.momentum}: leave one of them out")
    if METHODS[config.method].binarizer and config.real_ends and config.model == "mlp" and config.depth < 2:
        raise UserError(f"real_ends leaves no binary layer in an mlp of depth {config.depth}: use a depth of 2 or more")


def resolve(config: Config, num_train: int) -> Config:
    """`config` with the method's defaults in place of None.

    Raises:
        UserError: as `check_method`.
    """
    check_method(config)
    method = METHODS[config.method]
    defaults = {**method.defaults, **method.presets.get(config.preset or "", {})}
    missing = {k: v(num_train) if callable(v) else v for k, v in defaults.items() if getattr(config, k) is None}
    return dataclasses.replace(config, **missing)


def apply_method(net: nn.Sequential, config: Config) -> tuple[nn.Sequential, dict[str, Optimizer]]:
    """Make the float `net` what the method trains, in place, and build the optimizers: `make_binary_` and
    `make_optimizers` in one."""
    return make_binary_(net, config), make_optimizers(net, config)


def make_binary_(net: nn.Sequential, config: Config) -> nn.Sequential:
    """Make the float `net` (from `build_model`) what the method of the resolved `config` trains, in place."""
    method = METHODS[config.method]
    if method.binarizer is not None:
        start: dict[str, Any] = {"init": config.init, "magnitude": config.magnitude}
        binarize_(net, binarizer=method.binarizer(config), exclude=real_layers(net, config.model_config), **start)
    if config.natural_dtype == "bfloat16":
        for _, layer in binary_layers(net):
            layer.natural.data = layer.natural.data.to(torch.bfloat16)
    return net


def make_optimizers(net: nn.Module, config: Config) -> dict[str, Optimizer]:
    """{"binary": the method's optimizer, "real": Adam for the rest}, for a network from `make_binary_`.

    A network without parameters of a kind has no such optimizer.
    """
    method = METHODS[config.method]
    if method.binarizer is None:
        return {"real": method.optimizer(list(net.parameters()), config)}
    binary, real = split_parameters(net)
    optimizers = {"binary": method.optimizer(binary, config)}
    if real:
        optimizers["real"] = torch.optim.Adam(real, config.real_lr)
    return optimizers


def annealed(config: Config, progress: float) -> dict[str, float]:
    """The settings that change during a run, at `progress` in [0, 1]: start^(1 − progress) · end^progress.

    >>> annealed(Config(beta=1.0, beta_end=100.0), progress=0.5)
    {'beta': 10.0}
    """
    values = {}
    for name in ANNEALED:
        start, end = getattr(config, name), getattr(config, f"{name}_end")
        if start is not None and end is not None:
            values[name] = float(start ** (1 - progress) * end**progress)
    return values


def anneal_(net: nn.Module, optimizers: dict[str, Optimizer], values: dict[str, float]) -> None:
    """Set each value wherever it is a setting: in the binarizers and the optimizers' groups."""
    for name, value in values.items():
        for _, layer in binary_layers(net):
            if hasattr(layer.binarizer, name):
                setattr(layer.binarizer, name, value)
        for optimizer in optimizers.values():
            for group in optimizer.param_groups:
                if name in group:
                    group[name] = value

"""Methods: named pairs of a binarizer and an optimizer, with their default settings."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..binarizers import Binarizer, Reference2020, SignSTE, StraightThroughSample
from ..nn import binarize_, split_parameters
from ..optim import BayesBiNN
from .config import Config
from .errors import UserError, unknown
from .models import real_layers

# settings that only some methods take; each method lists its own, with their defaults
METHOD_OPTIONS = ("lr", "kl_weight", "num_data", "momentum", "temperature", "clip", "init", "magnitude")


@dataclass(frozen=True)
class Method:
    """A way to train: step 1 and 2 of the frame (`binarizer`) and step 3 (`optimizer`).

    Attributes:
        summary: one line for the help.
        defaults: the method options it takes, and their values when the user gives none: a value, or a function of N,
            the number of training examples.
        binarizer: builds it from a resolved config; None for the float network.
        optimizer: builds it for the binary parameters (for all, if there is no binarizer).
    """

    name: str
    summary: str
    defaults: dict[str, Any]
    binarizer: Callable[[Config], Binarizer] | None
    optimizer: Callable[[list[nn.Parameter], Config], Optimizer]


def _bayesian(params: list[nn.Parameter], c: Config) -> Optimizer:
    options = {name: getattr(c, name) for name in ("lr", "num_data", "kl_weight", "momentum")}
    return BayesBiNN(params, **options)


def _adam(params: list[nn.Parameter], c: Config) -> Optimizer:
    assert c.lr is not None
    return torch.optim.Adam(params, c.lr)


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method(
            "bayesbinn",
            "Bayesian learning rule, hard Bernoulli draws, straight-through gradient in μ",
            {
                # lr · num_data is what a unit of mean gradient moves λ by: good over data sets of very different size
                "lr": lambda n: 6000 / n,
                "kl_weight": 0.002,
                "num_data": lambda n: n,
                "momentum": 0.0,
                "init": "signs",
                "magnitude": 1.0,
            },
            lambda c: StraightThroughSample(),
            _bayesian,
        ),
        Method(
            "bayesbinn-2020",
            "the rule as the code of 2020 ran it: concrete relaxation with its 1e-10 terms",
            {
                "lr": 1e-4,
                "kl_weight": 1.0,
                "num_data": lambda n: n,
                "momentum": 0.0,
                "temperature": 1e-10,
                "init": "signs",
                "magnitude": 10.0,
            },
            lambda c: Reference2020(c.temperature or 0.0),
            _bayesian,
        ),
        Method(
            "ste",
            "sign with the clipped straight-through gradient, Adam",
            {"lr": 1e-3, "clip": 1.0, "init": "signs", "magnitude": 0.1},
            lambda c: SignSTE(c.clip or 0.0),
            _adam,
        ),
        Method("float", "the real-valued network, Adam", {"lr": 1e-3}, None, _adam),
    )
}


def resolve(config: Config, num_train: int) -> Config:
    """`config` with the method's defaults in place of None.

    Raises:
        UserError: for an unknown method, or a setting that the method does not take.
    """
    if config.method not in METHODS:
        raise unknown("method", config.method, METHODS)
    defaults = METHODS[config.method].defaults
    for name in METHOD_OPTIONS:
        if getattr(config, name) is not None and name not in defaults:
            takes = ", ".join(defaults)
            raise UserError(f"method {config.method!r} takes no {name}: leave it out (it takes {takes})")
    missing = {k: v(num_train) if callable(v) else v for k, v in defaults.items() if getattr(config, k) is None}
    return dataclasses.replace(config, **missing)


def apply_method(net: nn.Sequential, config: Config) -> tuple[nn.Sequential, dict[str, Optimizer]]:
    """Make the float `net` what the method trains, in place, and build the optimizers.

    Args:
        net: from `build_model`.
        config: resolved.

    Returns:
        The network, and {"binary": the method's optimizer, "real": Adam for the rest}; a network without parameters of
        a kind has no such optimizer.
    """
    method = METHODS[config.method]
    if method.binarizer is None:
        return net, {"real": method.optimizer(list(net.parameters()), config)}
    start: dict[str, Any] = {"init": config.init, "magnitude": config.magnitude}
    binarize_(net, binarizer=method.binarizer(config), exclude=real_layers(net, config.model_config), **start)
    binary, real = split_parameters(net)
    optimizers = {"binary": method.optimizer(binary, config)}
    if real:
        optimizers["real"] = torch.optim.Adam(real, config.real_lr)
    return net, optimizers

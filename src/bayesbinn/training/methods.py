"""Methods: named pairs of a binarizer and an optimizer, each with its options, and the estimators of `bayesbinn`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

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
from ..nn import binarize_, binary_layers, split_parameters
from ..nn.layers import Scale
from ..optim import FORMS, BayesBiNN, Bop, NetworkOptimizer
from ..optim.network import FORM, KL_WEIGHT, LR, MOMENTUM, REAL_LR
from .options import NoOptions, option

Loss = Callable[[nn.Module, Callable[[], Tensor]], Tensor]


def once(net: nn.Module, closure: Callable[[], Tensor]) -> Tensor:
    """The loss of one evaluation."""
    return closure()


@dataclass(frozen=True)
class ConcreteOptions:
    """Options of the estimator `concrete`."""

    temperature: float = option(1.0, "temperature of the concrete relaxation", above=0)


@dataclass(frozen=True)
class Estimator:
    """How the gradient in μ is estimated.

    Attributes:
        summary: one line for the help.
        binarizer: builds it from the estimator's options.
        loss: from the network and a closure that evaluates the loss, what to call `backward` on.
        options: class of its options.
    """

    summary: str
    binarizer: Callable[[Any], Binarizer]
    loss: Loss = once
    options: type = NoOptions


ESTIMATORS: dict[str, Estimator] = {
    "mean": Estimator("at the posterior's mean weight", lambda o: MeanWeight()),
    "draw": Estimator("at drawn ±1 weights, straight through", lambda o: StraightThroughSample()),
    "concrete": Estimator(
        "the paper's relaxation with its exact scale", lambda o: Concrete(o.temperature), options=ConcreteOptions
    ),
    "reinmax": Estimator("at drawn weights, second-order straight through", lambda o: ReinMax()),
    "local-reparam": Estimator("sampled layer outputs instead of weights", lambda o: LocalReparam()),
    "disarm": Estimator("exactly unbiased, from two opposite draws", lambda o: StraightThroughSample(), disarm_loss),
}


@dataclass(frozen=True)
class BinaryOptions:
    """Options of every method with binary weights."""

    init: str = option("signs", "where λ starts", choices=("signs", "zeros", "weights"))
    magnitude: float = option(1.0, "|λ| at the start", above=0)
    scale: str = option(
        "fan_in", "factor on what a layer's ±1 weights give: learned, 1/√fan-in, or none", choices=get_args(Scale)
    )
    real_lr: float = option(REAL_LR, "learning rate of the real parameters (Adam)")


@dataclass(frozen=True)
class RuleOptions(BinaryOptions):
    """Options of the Bayesian rule, whichever the estimator: see `optim.BayesBiNN`."""

    lr: float = option(LR, "step size: in units of λ, or the share ρ of λ that a step replaces (form plain)")
    kl_weight: float = option(KL_WEIGHT, "weight of the KL term; 1 is Bayes, less is colder", above=0)
    prior: str = option("uniform", "λ₀: uniform, or the posterior of the --start", choices=("uniform", "start"))
    num_data: int = option(0, "N in the ELBO; 0: the size of the training set (of each task)", maximum=10**15)
    form: str = option(
        FORM, "of the step: plain, or adaptive with one scale per tensor, row and column, or weight", choices=FORMS
    )
    momentum: float = option(MOMENTUM, "momentum of the rule", maximum=0.9999)
    cooling: float = option(1.0, "how many times warmer than kl_weight the posterior starts; falls to 1", above=0)
    natural_dtype: str = option(
        "float32", "number format of λ: bfloat16 takes half the memory", choices=("float32", "bfloat16")
    )


@dataclass(frozen=True)
class BayesOptions(RuleOptions):
    """Options of `bayesbinn`; what they are beside other estimators than `mean` is in `DRAWN`."""

    estimator: str = option("mean", "how the gradient in μ is estimated", choices=tuple(ESTIMATORS))
    magnitude: float = option(0.3, "|λ| at the start", above=0)
    lr: float = option(3.0, "step size: in units of λ, or the share ρ of λ that a step replaces")
    kl_weight: float = option(
        1e-3,
        "weight of the KL term: how sure the posterior may get; 1 is Bayes, less is colder",
        above=0,
    )
    cooling: float = option(100.0, "how many times warmer than kl_weight the posterior starts; falls to 1", above=0)


# of `bayesbinn` where weights are drawn in training, which a posterior that starts warm would drown in noise
DRAWN: dict[str, Any] = {"magnitude": 1.0, "lr": LR, "kl_weight": KL_WEIGHT, "cooling": 1.0}


@dataclass(frozen=True)
class Options2020(RuleOptions):
    """Options of `bayesbinn-2020`."""

    magnitude: float = option(10.0, "|λ| at the start", above=0)
    lr: float = option(1e-4, "share ρ of λ that a step replaces")
    kl_weight: float = option(1.0, "weight of the KL term; 1 is Bayes, less is colder", above=0)
    form: str = option("plain", "of the step", choices=FORMS)
    momentum: float = option(0.0, "momentum of the rule", maximum=0.9999)
    temperature: float = option(1e-10, "temperature of the concrete relaxation", above=0)


@dataclass(frozen=True)
class LatentOptions(BinaryOptions):
    """Options of the methods that train latent weights by Adam."""

    lr: float = option(1e-3, "learning rate of the latent weights (Adam)")
    magnitude: float = option(0.1, "|λ| at the start", above=0)


@dataclass(frozen=True)
class SteOptions(LatentOptions):
    """Options of `ste`."""

    clip: float = option(1.0, "bound on the latent weight", above=0)


@dataclass(frozen=True)
class HardeningOptions(LatentOptions):
    """Options of methods whose weights harden to ±1."""

    beta: float = option(1.0, "hardness of the weights at the start", above=0)
    beta_end: float = option(1000.0, "its value at the end, reached geometrically", above=0)


@dataclass(frozen=True)
class AdaSteOptions(HardeningOptions):
    """Options of `adaste`."""

    alpha: float = option(0.01, "how far the wells lie beyond ±1")
    beta: float = option(0.01, "hardness of the weights at the start", above=0)
    beta_end: float = option(100.0, "its value at the end, reached geometrically", above=0)


@dataclass(frozen=True)
class BopOptions(BinaryOptions):
    """Options of `bop`."""

    lr: float = option(1.0, "share of a flip that is taken")
    gamma: float = option(1e-3, "share of its gradient average that a step replaces", maximum=1)
    threshold: float = option(1e-7, "gradient average at which a weight flips")


@dataclass(frozen=True)
class FloatOptions:
    """Options of `float`."""

    lr: float = option(1e-3, "learning rate (Adam)")


@dataclass(frozen=True)
class Method:
    """A way to train: steps 1 and 2 of the frame (`binarizer`) and step 3 (`optimizer`).

    Attributes:
        summary: one line for the help.
        options: class of its options.
        binarizer: builds it from the method's and the estimator's options; None for the float network.
        optimizer: builds it for the λ tensors from the options, N and the batch size.
        hardens: whether the binarizer's `beta` goes from its value to `beta_end` over a run.
    """

    summary: str
    options: type
    binarizer: Callable[[Any, Any], Binarizer] | None
    optimizer: Callable[[list[nn.Parameter], Any, int, int], Optimizer]
    hardens: bool = False

    def loss(self, options: Any) -> Loss:
        """What evaluates the network in a training step."""
        return ESTIMATORS[options.estimator].loss if hasattr(options, "estimator") else once


def estimated(options: Any, own: Any) -> Binarizer:
    """The binarizer of the estimator that `options` name, with its `own` options."""
    return ESTIMATORS[options.estimator].binarizer(own)


def bayesian(params: list[nn.Parameter], o: Any, num_train: int, batch_size: int) -> Optimizer:
    """The Bayesian rule, at its start `cooling` times as warm as `kl_weight` says."""
    return BayesBiNN(
        params,
        o.lr,
        num_data=o.num_data or num_train,
        kl_weight=o.kl_weight * o.cooling,
        form=o.form,
        momentum=o.momentum,
    )


def _adam(params: list[nn.Parameter], o: Any, num_train: int, batch_size: int) -> Optimizer:
    return torch.optim.Adam(params, o.lr)


def _bop(params: list[nn.Parameter], o: Any, num_train: int, batch_size: int) -> Optimizer:
    return Bop(params, lr=o.lr, gamma=o.gamma, threshold=o.threshold)


METHODS: dict[str, Method] = {
    "bayesbinn": Method("the Bayesian learning rule", BayesOptions, estimated, bayesian),
    "bayesbinn-2020": Method(
        "the rule as the code of 2020 ran it: concrete relaxation with its 1e-10 terms",
        Options2020,
        lambda o, _: Reference2020(o.temperature),
        bayesian,
    ),
    "ste": Method(
        "sign with the clipped straight-through gradient, Adam", SteOptions, lambda o, _: SignSTE(o.clip), _adam
    ),
    "bop": Method(
        "no latent weight: flip when the gradient average says so",
        BopOptions,
        lambda o, _: SignSTE(clip=float("inf")),
        _bop,
    ),
    "pmf": Method(
        "proximal mean-field: tanh(βλ) that hardens, ordinary gradient, Adam",
        HardeningOptions,
        lambda o, _: TanhAnneal(o.beta),
        _adam,
        hardens=True,
    ),
    "md-tanh": Method(
        "mirror descent: tanh(βλ) that hardens, gradient in the weight, Adam",
        HardeningOptions,
        lambda o, _: TanhAnneal(o.beta, mirror=True),
        _adam,
        hardens=True,
    ),
    "adaste": Method(
        "adaptive straight-through: a double well that hardens, Adam",
        AdaSteOptions,
        lambda o, _: AdaSTE(o.beta, o.alpha, small=1e-3),
        _adam,
        hardens=True,
    ),
    "float": Method("the real-valued network, Adam", FloatOptions, None, _adam),
}


M = TypeVar("M", bound=nn.Module)


def make_binary_(
    net: M, method: Method, options: Any, estimator: Any, real_ends: bool = False, embedding: bool = False
) -> M:
    """Make `net` what the method trains, in place.

    A real network becomes binary, with `real_ends` but for its first and last layer; binary layers keep their λ and
    get the estimator; an embedding stays real, unless it is asked for.

    Raises:
        ValueError: for what `binarize_` refuses, or binary layers where the method has none.
    """
    layers = [layer for _, layer in binary_layers(net)]
    if method.binarizer is None:
        if layers:
            raise ValueError("method 'float' trains real weights, this network has binary layers: take another method")
        return net
    binarizer = method.binarizer(options, estimator)
    for layer in layers:
        layer.binarizer = binarizer
    if not layers:
        start: dict[str, Any] = {"init": options.init, "magnitude": options.magnitude, "scale": options.scale}
        include: Any = ["*", nn.Embedding] if embedding else "*"
        binarize_(net, binarizer=binarizer, include=include, real_ends=real_ends, quiet=True, **start)
    if getattr(options, "natural_dtype", "float32") == "bfloat16":
        for _, layer in binary_layers(net):
            layer.natural.data = layer.natural.data.to(torch.bfloat16)
    return net


def make_optimizer(
    net: nn.Module, method: Method, options: Any, *, num_train: int, batch_size: int
) -> NetworkOptimizer:
    """The method's optimizer of λ and Adam for the rest, as one; for a network from `make_binary_`."""
    binary, real = split_parameters(net)
    if method.binarizer is None:
        return NetworkOptimizer(method.optimizer(real, options, num_train, batch_size))
    rule = method.optimizer(binary, options, num_train, batch_size)
    return NetworkOptimizer(rule, torch.optim.Adam(real, options.real_lr)) if real else NetworkOptimizer(rule)


def count_data_(optimizer: NetworkOptimizer, options: Any, num_train: int) -> None:
    """Set N of the Bayesian rules to the size of a task's training set, unless the options fix it."""
    if not getattr(options, "num_data", 0):
        for group in (group for rule in optimizer.rules for group in rule.param_groups):
            group["num_data"] = num_train


def harden_(net: nn.Module, options: Any, progress: float) -> None:
    """Set the binarizers' β to beta^(1 − progress) · beta_end^progress, progress in [0, 1]."""
    for _, layer in binary_layers(net):
        layer.binarizer.beta = options.beta ** (1 - progress) * options.beta_end**progress  # type: ignore[attr-defined]

"""Train networks whose weights are ±1 by the Bayesian learning rule, and know how sure they are."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what type checkers and editors see; at run time `__getattr__` imports a name when it is first used
    from . import bernoulli as bernoulli
    from . import binarizers as binarizers
    from . import continual as continual
    from . import data as data
    from . import deploy as deploy
    from . import disarm as disarm
    from . import evaluation as evaluation
    from . import hub as hub
    from . import metrics as metrics
    from . import nn as nn
    from . import optim as optim
    from . import posterior as posterior
    from . import prediction as prediction
    from . import recipes as recipes
    from . import runtime as runtime
    from . import sklearn as sklearn
    from . import training as training
    from .disarm import disarm_loss as disarm_loss
    from .nn import BinaryConv1d as BinaryConv1d
    from .nn import BinaryConv2d as BinaryConv2d
    from .nn import BinaryLinear as BinaryLinear
    from .nn import binarize_ as binarize_
    from .nn import calibrate_ as calibrate_
    from .nn import draw as draw
    from .nn import split_parameters as split_parameters
    from .nn import summary as summary
    from .optim import BayesBiNN as BayesBiNN
    from .optim import optimizer_for as optimizer_for
    from .posterior import posterior_summary as posterior_summary
    from .posterior import sampled_weights as sampled_weights
    from .prediction import Prediction as Prediction
    from .prediction import RegressionPrediction as RegressionPrediction
    from .prediction import predict as predict
    from .prediction import predict_regression as predict_regression
    from .training import fit as fit

__version__ = "0.1.0"

# so that `import bayesbinn.runtime` does not import torch; tests/test_lazy.py keeps this equal to the block above
_MODULES = (
    *(
        "bernoulli",
        "binarizers",
        "continual",
        "data",
        "deploy",
        "disarm",
        "evaluation",
        "hub",
        "metrics",
        "nn",
        "optim",
    ),
    *("posterior", "prediction", "recipes", "runtime", "sklearn", "training"),
)
_NAMES = {
    "disarm": ("disarm_loss",),
    "nn": (
        "BinaryConv1d",
        "BinaryConv2d",
        "BinaryLinear",
        "binarize_",
        "calibrate_",
        "draw",
        "split_parameters",
        "summary",
    ),
    "optim": ("BayesBiNN", "optimizer_for"),
    "posterior": ("posterior_summary", "sampled_weights"),
    "prediction": ("Prediction", "RegressionPrediction", "predict", "predict_regression"),
    "training": ("fit",),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    elif name in _MODULES:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_HOME})

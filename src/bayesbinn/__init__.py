"""Train networks whose weights are ±1 by the Bayesian learning rule, and know how sure they are."""

from . import bernoulli as bernoulli
from . import binarizers as binarizers
from . import continual as continual
from . import metrics as metrics
from . import nn as nn
from . import optim as optim
from .disarm import disarm_loss as disarm_loss
from .nn import BinaryConv1d as BinaryConv1d
from .nn import BinaryConv2d as BinaryConv2d
from .nn import BinaryLinear as BinaryLinear
from .nn import binarize_ as binarize_
from .nn import split_parameters as split_parameters
from .optim import BayesBiNN as BayesBiNN
from .posterior import draw as draw
from .posterior import posterior_summary as posterior_summary
from .posterior import sampled_weights as sampled_weights
from .predict import Prediction as Prediction
from .predict import RegressionPrediction as RegressionPrediction
from .predict import predict as predict
from .predict import predict_regression as predict_regression

__version__ = "0.1.0"

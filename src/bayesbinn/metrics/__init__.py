"""Metrics of predictions, thin over torchmetrics where it has them.

One convention throughout: a *score* says how uncertain a prediction is, higher is less certain, and out-of-distribution
inputs should have the higher ones.
"""

from .classification import accuracy as accuracy
from .classification import brier as brier
from .classification import classwise_ece as classwise_ece
from .classification import ece as ece
from .classification import nll as nll
from .classification import reliability as reliability
from .detection import auroc as auroc
from .detection import fpr95 as fpr95
from .regression import gaussian_nll as gaussian_nll
from .regression import interval_coverage as interval_coverage
from .regression import r2 as r2
from .selective import aurc as aurc
from .selective import risk_coverage as risk_coverage
from .temperature import fit_temperature as fit_temperature
from .temperature import scale_probs as scale_probs

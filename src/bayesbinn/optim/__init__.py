"""Optimizers of λ: the Bayesian learning rule, its rivals, and one for a whole network."""

from .bayesbinn import FORMS as FORMS
from .bayesbinn import BayesBiNN as BayesBiNN
from .bimu import BiMU as BiMU
from .bop import Bop as Bop
from .network import NetworkOptimizer as NetworkOptimizer
from .network import optimizer_for as optimizer_for
from .palimpsest import Palimpsest as Palimpsest

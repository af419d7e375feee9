"""Optimizers for the latent parameters of binary weights."""

from .bayesbinn import BayesBiNN as BayesBiNN
from .bimu import BiMU as BiMU
from .bop import Bop as Bop
from .palimpsest import Palimpsest as Palimpsest

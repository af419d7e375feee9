"""Binarizers: how a latent parameter λ becomes a ±1 weight, and how the gradient comes back."""

from .adaste import AdaSTE as AdaSTE
from .base import Binarizer as Binarizer
from .concrete import Concrete as Concrete
from .concrete import Reference2020 as Reference2020
from .local_reparam import LocalReparam as LocalReparam
from .mean_weight import MeanWeight as MeanWeight
from .reinmax import ReinMax as ReinMax
from .sign import SignSTE as SignSTE
from .straight_through import StraightThroughSample as StraightThroughSample
from .tanh_anneal import TanhAnneal as TanhAnneal

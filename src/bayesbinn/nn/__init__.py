"""Binary layers, the conversion of a float network, drawing its weights, and the statistics of its batch norm."""

from .batch_norm import calibrate_ as calibrate_
from .convert import binarize_ as binarize_
from .convert import binary_layers as binary_layers
from .convert import split_parameters as split_parameters
from .draws import draw as draw
from .draws import has_posterior as has_posterior
from .layers import BinaryConv1d as BinaryConv1d
from .layers import BinaryConv2d as BinaryConv2d
from .layers import BinaryLayer as BinaryLayer
from .layers import BinaryLinear as BinaryLinear
from .likelihood import LIKELIHOODS as LIKELIHOODS
from .likelihood import Categorical as Categorical
from .likelihood import Gaussian as Gaussian
from .likelihood import Likelihood as Likelihood
from .likelihood import likelihood_of as likelihood_of

"""Binary layers, and the conversion of a float network."""

from .convert import binarize_ as binarize_
from .convert import binary_layers as binary_layers
from .convert import split_parameters as split_parameters
from .layers import BinaryConv1d as BinaryConv1d
from .layers import BinaryConv2d as BinaryConv2d
from .layers import BinaryLayer as BinaryLayer
from .layers import BinaryLinear as BinaryLinear

"""Which torch module has which binary twin: a new one is a row here."""

from torch import nn

from .composite import (
    BinaryGRU,
    BinaryGRUCell,
    BinaryLSTM,
    BinaryLSTMCell,
    BinaryMultiheadAttention,
    BinaryRNN,
    BinaryRNNCell,
)
from .layers import Twin
from .twins import (
    BinaryBilinear,
    BinaryConv1d,
    BinaryConv2d,
    BinaryConv3d,
    BinaryConvTranspose1d,
    BinaryConvTranspose2d,
    BinaryConvTranspose3d,
    BinaryEmbedding,
    BinaryLinear,
)

TWINS: dict[type[nn.Module], type[Twin]] = {
    twin.float_type: twin
    for twin in (
        *(BinaryLinear, BinaryConv1d, BinaryConv2d, BinaryConv3d, BinaryBilinear, BinaryEmbedding),
        *(BinaryConvTranspose1d, BinaryConvTranspose2d, BinaryConvTranspose3d, BinaryMultiheadAttention),
        *(BinaryRNN, BinaryLSTM, BinaryGRU, BinaryRNNCell, BinaryLSTMCell, BinaryGRUCell),
    )
}
ON_REQUEST = (nn.Embedding,)  # real unless it is included by its own name or type

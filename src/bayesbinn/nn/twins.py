"""Linear, convolution, bilinear and embedding layers with ±1 weights: the twins of torch's."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import BinaryLayer, Start, _for


class BinaryLinear(BinaryLayer):
    """y = s · (x Wᵀ) + b with W in {−1, +1}: `torch.nn.Linear` with λ of shape (O, I) in place of the weight.

    Args:
        in_features, out_features, bias, device, dtype: as `torch.nn.Linear`.
        binarizer: how λ becomes a weight in training; `StraightThroughSample()` if None.
        init, magnitude: where λ starts, see `initial_natural`.
        scale: s, "learned" per output channel from 1/√I on, constant 1/√I ("fan_in"), or 1 ("none").

    Shapes: x (..., I) → (..., O).

    >>> layer = BinaryLinear(8, 3).eval()
    >>> layer(torch.zeros(2, 8)).shape, layer.weight.unique().tolist()
    (torch.Size([2, 3]), [-1.0, 1.0])
    """

    float_type = nn.Linear

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, _for(x, weight))


class _BinaryConv(BinaryLayer):
    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        # torch's own code for padding modes, run on the settings taken over in _take
        out: Tensor = self.float_type._conv_forward(self, x, _for(x, weight), None)  # type: ignore[attr-defined]
        return out


class BinaryConv1d(_BinaryConv):
    """`torch.nn.Conv1d` with ±1 weights; λ has shape (O, I/groups, kernel).  Arguments as Conv1d and `BinaryLinear`.

    Shapes: x (B, I, L) → (B, O, L′).

    >>> BinaryConv1d(4, 6, kernel_size=3, padding=1)(torch.zeros(2, 4, 9)).shape
    torch.Size([2, 6, 9])
    """

    float_type = nn.Conv1d
    spatial = 1


class BinaryConv2d(_BinaryConv):
    """`torch.nn.Conv2d` with ±1 weights; λ has shape (O, I/groups, kH, kW).  Arguments as Conv2d and `BinaryLinear`.

    Shapes: x (B, I, H, W) → (B, O, H′, W′).

    >>> BinaryConv2d(4, 6, kernel_size=3, padding="same", padding_mode="circular")(torch.zeros(2, 4, 9, 9)).shape
    torch.Size([2, 6, 9, 9])
    """

    float_type = nn.Conv2d
    spatial = 2


class BinaryConv3d(_BinaryConv):
    """`torch.nn.Conv3d` with ±1 weights; λ has shape (O, I/groups, kD, kH, kW).  Arguments as Conv3d.

    Shapes: x (B, I, D, H, W) → (B, O, D′, H′, W′).
    """

    float_type = nn.Conv3d
    spatial = 3


class _BinaryConvTranspose(BinaryLayer):
    transposed_conv: Callable[..., Tensor]

    groups: int
    stride: tuple[int, ...]

    def _rows(self, weight: Tensor) -> Tensor:
        inputs, outputs = weight.shape[:2]  # I, O/groups
        each = weight.reshape(self.groups, inputs // self.groups, outputs, -1).transpose(1, 2)
        return each.reshape(self.groups * outputs, -1)

    def _fan_in(self, row: int) -> float:
        return row / math.prod(self.stride)  # an output meets every stride-th weight of its channel

    def _spread(self, scale: Tensor) -> Tensor:
        inputs, outputs = self.natural.shape[:2]
        of_groups = scale.reshape(self.groups, 1, outputs).expand(-1, inputs // self.groups, -1)
        return of_groups.reshape(inputs, outputs, *[1] * self.spatial)

    def forward(self, x: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return self._scaled(self._mapped(partial(self.apply_weight, output_size=output_size), x))

    def apply_weight(self, x: Tensor, weight: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        s: Any = self  # torch's own code, run on the settings taken over in _take
        size = None if output_size is None else list(output_size)
        extra = s.float_type._output_padding(s, x, size, s.stride, s.padding, s.kernel_size, s.spatial, s.dilation)
        out: Tensor = s.transposed_conv(x, _for(x, weight), None, s.stride, s.padding, extra, s.groups, s.dilation)
        return out


class BinaryConvTranspose1d(_BinaryConvTranspose):
    """`torch.nn.ConvTranspose1d` with ±1 weights; λ has shape (I, O/groups, kernel)."""

    float_type = nn.ConvTranspose1d
    spatial = 1
    transposed_conv = staticmethod(F.conv_transpose1d)


class BinaryConvTranspose2d(_BinaryConvTranspose):
    """`torch.nn.ConvTranspose2d` with ±1 weights; λ has shape (I, O/groups, kH, kW).

    Shapes: x (B, I, H, W) → (B, O, H′, W′).

    >>> BinaryConvTranspose2d(4, 6, kernel_size=2, stride=2)(torch.zeros(2, 4, 9, 9)).shape
    torch.Size([2, 6, 18, 18])
    """

    float_type = nn.ConvTranspose2d
    spatial = 2
    transposed_conv = staticmethod(F.conv_transpose2d)


class BinaryConvTranspose3d(_BinaryConvTranspose):
    """`torch.nn.ConvTranspose3d` with ±1 weights; λ has shape (I, O/groups, kD, kH, kW)."""

    float_type = nn.ConvTranspose3d
    spatial = 3
    transposed_conv = staticmethod(F.conv_transpose3d)


class BinaryBilinear(BinaryLayer):
    """y = s · (x₁ᵀ W x₂) + b: `torch.nn.Bilinear` with ±1 weights; λ has shape (O, I₁, I₂).

    Linear in the products of the inputs, which are held in memory: (..., I₁ I₂).

    Shapes: x₁ (..., I₁), x₂ (..., I₂) → (..., O).

    >>> BinaryBilinear(3, 4, 2)(torch.zeros(5, 3), torch.zeros(5, 4)).shape
    torch.Size([5, 2])
    """

    float_type = nn.Bilinear

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:  # type: ignore[override]
        products = x1.unsqueeze(-1) * x2.unsqueeze(-2)
        return self._scaled(self._mapped(self.apply_weight, products.flatten(-2)))

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.linear(x, _for(x, weight).flatten(1))


class BinaryWeight(BinaryLayer):
    """s · W, a ±1 weight with its scale and no layer around it: for code that uses a weight in its own way.

    Args:
        shape: of λ; the first size is that of the output channels.

    >>> weight = BinaryWeight(3, 4).eval()
    >>> weight().abs().unique().tolist()
    [0.5]
    """

    class Matrix(nn.Module):
        """A float weight and nothing else."""

        def __init__(self, *shape: int, device: Any = None, dtype: Any = None) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

        def extra_repr(self) -> str:
            return "×".join(map(str, self.shape))  # type: ignore[arg-type]  # of the twin, which borrows this

    float_type = Matrix

    def _take(self, layer: Any, start: Start) -> None:
        super()._take(layer, start)
        self.shape = tuple(layer.weight.shape)

    @classmethod
    def of(cls, weight: nn.Parameter, start: Start) -> "BinaryWeight":
        """The twin of a float weight."""
        matrix = BinaryWeight.Matrix(1, 1, device="meta")
        matrix.weight = weight
        return cls.from_float(matrix, start.binarizer, start.init, start.magnitude, start.scale)

    def forward(self, like: Tensor | None = None) -> Tensor:
        return self.scaled_weight(self.natural if like is None else like)


class BinaryEmbedding(BinaryLayer):
    """`torch.nn.Embedding` with ±1 weights; λ has shape (V, D), the scale is per dimension of the embedding.

    The vector of `padding_idx` is 0, as torch's is at first.

    Shapes: x (...) integers below V → (..., D).

    >>> BinaryEmbedding(9, 4, padding_idx=0).eval()(torch.tensor([0, 5])).abs().tolist()
    [[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]]
    """

    float_type = nn.Embedding

    padding_idx: int | None
    embedding_dim: int

    def _take(self, layer: Any, start: Start) -> None:
        for name in ("max_norm", "sparse", "scale_grad_by_freq"):
            if getattr(layer, name):
                raise ValueError(f"a binary embedding has no {name}: leave it out, or keep the embedding real")
        super()._take(layer, start)

    def _rows(self, weight: Tensor) -> Tensor:
        return weight.T

    def _fan_in(self, row: int) -> float:
        return 1.0  # an output is one weight

    def _spread(self, scale: Tensor) -> Tensor:
        return scale

    def forward(self, x: Tensor) -> Tensor:
        found = F.embedding(x, self.scaled_weight(self.natural), self.padding_idx)
        return found if self.padding_idx is None else found.masked_fill((x == self.padding_idx).unsqueeze(-1), 0.0)

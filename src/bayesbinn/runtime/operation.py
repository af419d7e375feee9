"""One operation of a plan, checked, with its shapes: what the engines run."""

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, int, int]
Pair = tuple[int, int]
# the largest |q| of each activation type, and the largest fan-in for which sums of w(q - zero) stay in 32 bits
LEVELS = {"int6": 31, "int8": 127, "int16": 32512}
MAX_FAN_IN = {"int6": 1 << 20, "int8": 1 << 20, "int16": 1 << 15, "sign": 1 << 20}
MIN_STEP, MAX_STEP = 1e-30, 1e30
# functions of one number, in the order of csrc/functions.h, and those that have a parameter
FUNCTIONS = (
    *("sigmoid", "tanh", "silu", "gelu", "gelu_tanh", "mish"),
    *("elu", "leaky_relu", "hardsigmoid", "hardswish"),
)
WITH_PARAMETER = ("elu", "leaky_relu")
CELLS = {"gru": 3, "lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}  # of recurrent layers, with their gates; order of program.h


class View(NamedTuple):
    """Output i, counted over `sizes` with the last fastest, is input offset + Σ iₖ stridesₖ; both channels last."""

    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


@dataclass(frozen=True)
class Activation:
    """How a binary layer reads its input.

    Attributes:
        kind: "int6", "int8", "int16" or "sign" (±1, one bit).
        step: the size s of one level in x ≈ s (q − zero); None: worked out for each input (row) from its range.
        zero: the level that stands for 0.
    """

    kind: str
    step: float | None = None
    zero: int = 0

    @property
    def levels(self) -> int:
        """Q, the largest |q|; 1 for signs."""
        return LEVELS.get(self.kind, 1)


@dataclass(frozen=True)
class Op:
    """One operation with its shapes; fields that its kind does not use keep their defaults.

    Attributes:
        kind: "binary", "real", or the name that docs/format.md gives it.
        name: of the module it came from.
        inputs: indices of the values it reads.
        source, shape: (C, H, W) of the first input and of the output.
        rank: number of sizes of the output as the user sees it, without the batch.
        kernel, stride, padding, dilation, groups: of convolutions and pools; linear layers are 1 × 1 convolutions.
        low, high: the output is clamped to this range (ReLU is 0 to infinity).
        activation: of a binary layer.
        bits: (1 + S, bytes) uint8: the mode and the samples.  weight: (O, I/groups, kH, kW) float32.
        scale, shift: (C,) float32 per output channel.
        function: of "function", its name; of "recurrent", its cell, whose weight or bits are those of the product with
            the state, (gates · C, C, 1, 1).  reverse: whether it goes from the last step back.
        parameter: the slope or α of some functions, or the ε of "normalize".
        axis: of "concat": 0, 1, 2 for C, H, W.  transposed: of "matmul", whether y is (K, H, N).
        center, whole: of "normalize", whether the mean is subtracted, and whether all pixels count together.
        view: (sizes, strides, offset) of "view".  value: (C, H, W) float32 of "constant".
        own: whether scale, shift, weight and value have a first size of 1 + S more, a row for each network.
    """

    kind: str
    name: str
    inputs: tuple[int, ...]
    source: Shape
    shape: Shape
    rank: int
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1
    low: float = -math.inf
    high: float = math.inf
    activation: Activation | None = None
    bits: NDArray[np.uint8] | None = None
    weight: NDArray[np.float32] | None = None
    scale: NDArray[np.float32] | None = None
    shift: NDArray[np.float32] | None = None
    function: str = ""
    reverse: bool = False
    parameter: float = 0.0
    axis: int = 0
    transposed: bool = False
    center: bool = True
    whole: bool = False
    view: View | None = None
    value: NDArray[np.float32] | None = None
    own: bool = False

    def of(self, network: int) -> "Op":
        """The operation with the real numbers of one network; its bits stay those of all."""
        if not self.own:
            return self
        rows: dict[str, Any] = {name: getattr(self, name) for name in ("scale", "shift", "weight", "value")}
        return replace(self, own=False, **{n: row[network] for n, row in rows.items() if row is not None})

    @property
    def weight_shape(self) -> tuple[int, int, int, int]:
        """(O, I/groups, kH, kW) of a layer with weights."""
        if self.kind == "recurrent":
            return (self.source[0], self.shape[0], 1, 1)
        return (self.shape[0], self.source[0] // self.groups, *self.kernel)

    @property
    def num_weights(self) -> int:
        return math.prod(self.weight_shape) if self.kind in ("binary", "real", "recurrent") else 0

    @property
    def product(self) -> "Op":
        """Of a recurrent layer: the product with its state, as a layer of its own."""
        kind, source, shape = "real" if self.bits is None else "binary", (self.shape[0], 1, 1), (self.source[0], 1, 1)
        return replace(self, kind=kind, source=source, shape=shape, rank=1)

    @property
    def num_macs(self) -> int:
        """Multiply-accumulates for one input."""
        if self.kind == "matmul":
            return self.source[0] * math.prod(self.shape)
        return self.num_weights * self.shape[1] * self.shape[2]

    @property
    def num_operations(self) -> int:
        """What one input costs: multiply-accumulates (or values pooled, or written), and 16 for each tap of a window.

        To find what a tap meets in the image takes about as long as that, however few its channels are; so does a
        function of a number.
        """
        if self.kind in ("function", "softmax", "normalize"):
            return 16 * math.prod(self.shape)
        taps = self.shape[1] * self.shape[2] * math.prod(self.kernel)
        return (self.num_macs or self.shape[0] * taps) + (16 * taps if taps > 1 else 0)

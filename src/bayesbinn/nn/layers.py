"""Linear and convolution layers with ±1 weights: the twins of torch's, with λ in place of the weight."""

import math
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import bernoulli
from ..binarizers import Binarizer, StraightThroughSample

Init = Literal["signs", "zeros", "weights"]
Scale = Literal["learned", "fan_in", "none"]
SCALE: Scale = "fan_in"  # docs/design/scale.md
L = TypeVar("L", bound="BinaryLayer")

# of a Module; a handle from `register_*_hook` points at these very dictionaries
HOOKS = (
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_backward_pre_hooks", "_backward_hooks", "_is_full_backward_hook"),
)


def initial_natural(weight: Tensor, init: Init = "signs", magnitude: float = 1.0) -> Tensor:
    """λ for the float weights W, of the same shape: where the posterior starts.

    * `"signs"`: ±`magnitude` with random signs, as in the paper (which uses 10 or 15).
    * `"zeros"`: 0, the uniform distribution.
    * `"weights"`: `magnitude` · W / mean|W|, so that the mode keeps the signs of W and its small weights stay
      undecided: converts a trained network.

    Raises:
        ValueError: for another `init`, or a `magnitude` that is not above 0.
    """
    if not 0.0 < magnitude < float("inf"):
        raise ValueError(f"magnitude must be a finite number above 0, got {magnitude}")
    weight = weight.detach()
    match init:
        case "signs":
            return torch.empty_like(weight).bernoulli_(0.5).mul_(2).sub_(1).mul_(magnitude)
        case "zeros":
            return torch.zeros_like(weight)
        case "weights":
            return weight / weight.abs().mean().clamp(min=torch.finfo(weight.dtype).tiny) * magnitude
    raise ValueError(f"init must be 'signs', 'zeros' or 'weights', got {init!r}")


class Drawn(NamedTuple):
    """What `batch_norm.calibrate_` keeps beside λ: statistics of drawn networks, and what these belong to.

    Attributes:
        mean, var: of the batch norms behind the layer, joined.
        fingerprint: (2,) int64.
    """

    mean: Tensor
    var: Tensor
    fingerprint: Tensor


class BinaryLayer(nn.Module):
    """A layer whose weights are ±1 and whose parameter is λ (`natural`), of the shape of its float twin's weight.

        y = s · (W x) + b,  W in {−1, +1}

    In training mode every forward pass asks the binarizer for W (a fresh draw, for most); in evaluation mode it is the
    mode, sign λ.  The scale s, one number per output channel, and the bias b, if any, are real.

    Attributes:
        natural: λ, the Parameter that the optimizer moves.
        scale: s in units of `unit`, a Parameter (O,) that starts at 1, if the scale is learned; else None.
        unit: 1/√fan-in, so that an output has the size of an input whatever the number of inputs; 1 without a scale.
        binarizer: how λ becomes a weight in training.
        float_type: the torch layer that this one is the twin of.
        drawn: batch-norm statistics of drawn networks, if `calibrate_` has made some; they go into the state_dict.
    """

    float_type: type[nn.Module]
    spatial = 0  # dimensions of an output behind its channels

    natural: nn.Parameter
    bias: nn.Parameter | None
    scale: nn.Parameter | None

    def __init__(
        self,
        *args: Any,
        binarizer: Binarizer | None = None,
        init: Init = "signs",
        magnitude: float = 1.0,
        scale: Scale = SCALE,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self._take(self.float_type(*args, **kwargs), binarizer, init, magnitude, scale)

    def _take(self, layer: Any, binarizer: Binarizer | None, init: Init, magnitude: float, scale: Scale) -> None:
        if scale not in get_args(Scale):
            raise ValueError(f"scale must be 'learned', 'fan_in' or 'none', got {scale!r}")
        # what the float twin has beyond a bare Module are its settings (stride, ...), so that its code can run on self
        self.__dict__.update({k: v for k, v in vars(layer).items() if k not in vars(self)})
        self.training = layer.training
        self.register_parameter("bias", layer.bias)
        self.natural = nn.Parameter(initial_natural(layer.weight, init, magnitude), layer.weight.requires_grad)
        self._start: tuple[Init, float] = (init, magnitude)
        rows = self._rows(layer.weight.detach())
        self.unit = 1.0 if scale == "none" else 1 / math.sqrt(max(self._fan_in(rows.shape[1]), 1))
        own = nn.Parameter(self._initial_scale(rows, init)) if scale == "learned" else None
        self.register_parameter("scale", own)
        self.binarizer = StraightThroughSample() if binarizer is None else binarizer
        self._draw: Tensor | None = None  # set by draws.fixed_weights
        self.drawn: Drawn | None = None

    def _rows(self, weight: Tensor) -> Tensor:
        """The weight as (O, fan-in): a row for each output channel."""
        return weight.reshape(len(weight), -1)

    def _fan_in(self, row: int) -> float:
        """How many weights an output sums, where there are `row` of its channel."""
        return row

    def _initial_scale(self, rows: Tensor, init: Init) -> Tensor:
        # the mean size of a float weight is the scale for which s · sign W is nearest to W (Rastegari et al., 2016)
        return rows.abs().mean(1) / self.unit if init == "weights" else rows.new_ones(len(rows))

    @classmethod
    def from_float(
        cls: type[L],
        layer: nn.Module,
        binarizer: Binarizer | None = None,
        init: Init = "signs",
        magnitude: float = 1.0,
        scale: Scale = SCALE,
    ) -> L:
        """The binary twin of `layer`, with its settings, mode, bias and hooks (shared, not copied).

        Raises:
            ValueError: if a hook computes the layer's weight (weight norm, pruning), or as `initial_natural`.
        """
        if "weight" not in layer._parameters:
            raise ValueError(f"the weight of {layer} is computed by a hook: make it a parameter, e.g. by prune.remove")
        binary = cls.__new__(cls)
        nn.Module.__init__(binary)
        binary._take(layer, binarizer, init, magnitude, scale)
        for name in HOOKS:
            setattr(binary, name, getattr(layer, name))
        return binary

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start anew, as the layer was made: λ and scale by its `init` and `magnitude`, the bias as torch draws it.

        >>> layer = BinaryLinear(3, 2, init="zeros")
        >>> _ = layer.natural.data.fill_(9.0)
        >>> layer.reset_parameters()
        >>> layer.natural.abs().max().item()
        0.0
        """
        weight = torch.empty_like(self.natural)
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))  # as torch's own layers have it
        self.natural.copy_(initial_natural(weight, *self._start))
        if self.scale is not None:
            self.scale.copy_(self._initial_scale(self._rows(weight), self._start[0]))
        if self.bias is not None:
            bound = 1 / math.sqrt(max(weight[0].numel(), 1))
            nn.init.uniform_(self.bias, -bound, bound)
        self.drawn = None

    @property
    def weight(self) -> Tensor:
        """The ±1 weight in force, detached: the mode sign λ, or the draw that `sampled_weights` has fixed."""
        return bernoulli.sign(self.natural.detach()) if self._draw is None else self._draw

    @property
    def scales(self) -> Tensor:
        """s (O,), what each output channel is multiplied by, detached."""
        if self.scale is not None:
            return self.scale.detach() * self.unit
        return self.natural.new_full((len(self._rows(self.natural)),), self.unit, requires_grad=False)

    def apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """W x: the layer's linear map with the given weight, of the shape of `natural`; neither scaled nor shifted."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self._draw is None:
            return self._scaled(self.binarizer(self.apply_weight, x, self.natural))
        return self._scaled(self.apply_weight(x, self.weight))

    def _scaled(self, y: Tensor) -> Tensor:
        """s · y + b."""
        shape = (-1, *[1] * self.spatial)
        bias = None if self.bias is None else self.bias.to(y.dtype).reshape(shape)
        if self.scale is not None:
            scale = (self.scale * self.unit).to(y.dtype).reshape(shape)
            return y * scale if bias is None else torch.addcmul(bias, y, scale)
        if self.unit == 1:
            return y if bias is None else y + bias
        return y * self.unit if bias is None else torch.add(bias, y, alpha=self.unit)

    # `drawn` is not made of buffers: tools that pair the buffers of two networks (`AveragedModel`) rely on their number
    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.drawn is not None:
            destination.update({f"{prefix}drawn_{name}": value for name, value in self.drawn._asdict().items()})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        drawn = {name: state_dict.pop(f"{prefix}drawn_{name}", None) for name in Drawn._fields}
        super()._load_from_state_dict(state_dict, prefix, *args)
        if all(value is not None for value in drawn.values()):
            self.drawn = Drawn(**{name: value.clone() for name, value in drawn.items()})

    def extra_repr(self) -> str:
        scale = "learned" if self.scale is not None else "none" if self.unit == 1 else "fan_in"
        return f"{self.float_type.extra_repr(self)}, scale={scale}, binarizer={self.binarizer!r}"


def _for(x: Tensor, weight: Tensor) -> Tensor:
    # λ may be kept in bfloat16 in a float32 network; weights of ±1 lose nothing in any type
    return weight.to(x.dtype) if weight.dtype == torch.bfloat16 else weight


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

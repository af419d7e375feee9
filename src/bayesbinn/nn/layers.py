"""Linear and convolution layers with ±1 weights: the twins of torch's, with λ in place of the weight."""

import math
from typing import Any, Literal, NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .. import bernoulli
from ..binarizers import Binarizer, StraightThroughSample

Init = Literal["signs", "zeros", "weights"]
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

    In training mode every forward pass asks the binarizer for a weight (a fresh draw, for most); in evaluation mode
    the weight is the mode, sign λ.  The bias, if any, stays real.

    Attributes:
        natural: λ, the Parameter that the optimizer moves.
        binarizer: how λ becomes a weight in training.
        float_type: the torch layer that this one is the twin of.
        drawn: batch-norm statistics of drawn networks, if `calibrate_` has made some; they go into the state_dict.
    """

    float_type: type[nn.Module]

    natural: nn.Parameter
    bias: nn.Parameter | None

    def __init__(
        self,
        *args: Any,
        binarizer: Binarizer | None = None,
        init: Init = "signs",
        magnitude: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self._take(self.float_type(*args, **kwargs), binarizer, init, magnitude)

    def _take(self, layer: Any, binarizer: Binarizer | None, init: Init, magnitude: float) -> None:
        # what the float twin has beyond a bare Module are its settings (stride, ...), so that its code can run on self
        self.__dict__.update({k: v for k, v in vars(layer).items() if k not in vars(self)})
        self.training = layer.training
        self.register_parameter("bias", layer.bias)
        self.natural = nn.Parameter(initial_natural(layer.weight, init, magnitude), layer.weight.requires_grad)
        self._start: tuple[Init, float] = (init, magnitude)
        self.binarizer = StraightThroughSample() if binarizer is None else binarizer
        self._draw: Tensor | None = None  # set by draws.fixed_weights
        self.drawn: Drawn | None = None

    @classmethod
    def from_float(
        cls: type[L], layer: nn.Module, binarizer: Binarizer | None = None, init: Init = "signs", magnitude: float = 1.0
    ) -> L:
        """The binary twin of `layer`, with its settings, mode, bias and hooks (shared, not copied).

        Raises:
            ValueError: if a hook computes the layer's weight (weight norm, pruning), or as `initial_natural`.
        """
        if "weight" not in layer._parameters:
            raise ValueError(f"the weight of {layer} is computed by a hook: make it a parameter, e.g. by prune.remove")
        binary = cls.__new__(cls)
        nn.Module.__init__(binary)
        binary._take(layer, binarizer, init, magnitude)
        for name in HOOKS:
            setattr(binary, name, getattr(layer, name))
        return binary

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start anew, as the layer was made: λ by its `init` and `magnitude`, the bias as torch draws it.

        >>> layer = BinaryLinear(3, 2, init="zeros")
        >>> _ = layer.natural.data.fill_(9.0)
        >>> layer.reset_parameters()
        >>> layer.natural.abs().max().item()
        0.0
        """
        weight = torch.empty_like(self.natural)
        nn.init.kaiming_uniform_(weight, a=math.sqrt(5))  # as torch's own layers have it
        self.natural.copy_(initial_natural(weight, *self._start))
        if self.bias is not None:
            bound = 1 / math.sqrt(max(weight[0].numel(), 1))
            nn.init.uniform_(self.bias, -bound, bound)
        self.drawn = None

    @property
    def weight(self) -> Tensor:
        """The ±1 weight in force, detached: the mode sign λ, or the draw that `sampled_weights` has fixed."""
        return bernoulli.sign(self.natural.detach()) if self._draw is None else self._draw

    def apply_weight(self, x: Tensor, weight: Tensor, *, bias: bool = True) -> Tensor:
        """The layer's linear map with the given weight, of the shape of `natural`; `bias=False` leaves the bias out."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self._draw is None:
            return self.binarizer(self.apply_weight, x, self.natural)
        return self.apply_weight(x, self.weight)

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
        return f"{self.float_type.extra_repr(self)}, binarizer={self.binarizer!r}"


def _for(x: Tensor, weight: Tensor) -> Tensor:
    # λ may be kept in bfloat16 in a float32 network; weights of ±1 lose nothing in any type
    return weight.to(x.dtype) if weight.dtype == torch.bfloat16 else weight


class BinaryLinear(BinaryLayer):
    """y = x Wᵀ + b with W in {−1, +1}: `torch.nn.Linear` with λ of shape (O, I) in place of the weight.

    Args:
        in_features, out_features, bias, device, dtype: as `torch.nn.Linear`.
        binarizer: how λ becomes a weight in training; `StraightThroughSample()` if None.
        init, magnitude: where λ starts, see `initial_natural`.

    Shapes: x (..., I) → (..., O).

    >>> layer = BinaryLinear(8, 3).eval()
    >>> layer(torch.zeros(2, 8)).shape, layer.weight.unique().tolist()
    (torch.Size([2, 3]), [-1.0, 1.0])
    """

    float_type = nn.Linear

    def apply_weight(self, x: Tensor, weight: Tensor, *, bias: bool = True) -> Tensor:
        return F.linear(x, _for(x, weight), self.bias if bias else None)


class _BinaryConv(BinaryLayer):
    def apply_weight(self, x: Tensor, weight: Tensor, *, bias: bool = True) -> Tensor:
        # torch's own code for padding modes, run on the settings taken over in _take
        used = self.bias if bias else None
        out: Tensor = self.float_type._conv_forward(self, x, _for(x, weight), used)  # type: ignore[attr-defined]
        return out


class BinaryConv1d(_BinaryConv):
    """`torch.nn.Conv1d` with ±1 weights; λ has shape (O, I/groups, kernel).  Arguments as Conv1d and `BinaryLinear`.

    Shapes: x (B, I, L) → (B, O, L′).

    >>> BinaryConv1d(4, 6, kernel_size=3, padding=1)(torch.zeros(2, 4, 9)).shape
    torch.Size([2, 6, 9])
    """

    float_type = nn.Conv1d


class BinaryConv2d(_BinaryConv):
    """`torch.nn.Conv2d` with ±1 weights; λ has shape (O, I/groups, kH, kW).  Arguments as Conv2d and `BinaryLinear`.

    Shapes: x (B, I, H, W) → (B, O, H′, W′).

    >>> BinaryConv2d(4, 6, kernel_size=3, padding="same", padding_mode="circular")(torch.zeros(2, 4, 9, 9)).shape
    torch.Size([2, 6, 9, 9])
    """

    float_type = nn.Conv2d

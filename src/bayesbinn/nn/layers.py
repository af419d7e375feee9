"""What a layer with ±1 weights is: the twin of a torch layer, with λ in place of its weight."""

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor, nn

from .. import bernoulli
from ..binarizers import Binarizer, StraightThroughSample
from ..binarizers.base import Op

Init = Literal["signs", "zeros", "weights"]
Scale = Literal["learned", "fan_in", "none"]
# docs/design/scale.md: what suits networks that nobody made for binary weights
SCALE: Scale = "learned"
MAGNITUDE = 5.0
T = TypeVar("T", bound="Twin")

# of a Module; a handle from `register_*_hook` points at these very dictionaries
HOOKS = (
    *("_forward_pre_hooks", "_forward_pre_hooks_with_kwargs"),
    *("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called"),
    *("_backward_pre_hooks", "_backward_hooks", "_is_full_backward_hook"),
)


def initial_natural(weight: Tensor, init: Init = "signs", magnitude: float = MAGNITUDE) -> Tensor:
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
        mean, var: (S, F), of the batch norms behind the layer, joined; a row for each draw.
        fingerprint: (2,) int64.
        seed: (1,) int64, of the draws.
    """

    mean: Tensor
    var: Tensor
    fingerprint: Tensor
    seed: Tensor


class Twin(nn.Module):
    """What takes the place of a torch module: its arguments, settings, mode and hooks, with ±1 weights.

    Attributes:
        float_type: the torch module that this one is the twin of.
    """

    float_type: type[nn.Module]

    def __init__(
        self,
        *args: Any,
        binarizer: Binarizer | None = None,
        init: Init = "signs",
        magnitude: float = MAGNITUDE,
        scale: Scale = SCALE,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self._take(self.float_type(*args, **kwargs), Start(binarizer, init, magnitude, scale))

    @classmethod
    def from_float(
        cls: type[T],
        layer: nn.Module,
        binarizer: Binarizer | None = None,
        init: Init = "signs",
        magnitude: float = MAGNITUDE,
        scale: Scale = SCALE,
    ) -> T:
        """The binary twin of `layer`, with its settings, mode, bias and hooks (shared, not copied).

        Raises:
            ValueError: if a hook computes the layer's weight (weight norm, pruning), or as `initial_natural`.
        """
        binary = cls.__new__(cls)
        nn.Module.__init__(binary)
        binary._take(layer, Start(binarizer, init, magnitude, scale))
        for name in HOOKS:
            setattr(binary, name, getattr(layer, name))
        return binary

    def _take(self, layer: Any, start: "Start") -> None:
        """Become the twin of `layer`: its settings (all that it has beyond a bare Module), so that its code can run."""
        missing = [name for name in self._weight_names(layer) if name not in layer._parameters]
        if missing:
            raise ValueError(
                f"the {missing[0]} of {layer} is computed by a hook: make it a parameter, e.g. by prune.remove"
            )
        self.__dict__.update({k: v for k, v in vars(layer).items() if k not in vars(self)})
        self.training = layer.training

    def _weight_names(self, layer: Any) -> list[str]:
        """Which parameters of `layer` become ±1."""
        return ["weight"]

    def sources(self, layer: Any) -> "list[tuple[Any, BinaryLayer]]":
        """What each of its binary layers was made of: a key that tied weights share, and the layer."""
        raise NotImplementedError


@dataclass(frozen=True)
class Start:
    """How a binary layer starts: the arguments of `binarize_` of these names.

    Raises:
        ValueError: for a scale that there is not.
    """

    binarizer: Binarizer | None = None
    init: Init = "signs"
    magnitude: float = MAGNITUDE
    scale: Scale = SCALE

    def __post_init__(self) -> None:
        if self.scale not in get_args(Scale):
            raise ValueError(f"scale must be 'learned', 'fan_in' or 'none', got {self.scale!r}")


class BinaryLayer(Twin):
    """A layer whose weights are ±1 and whose parameter is λ (`natural`), of the shape of its float twin's weight.

        y = s · (W x) + b,  W in {−1, +1}

    In training mode every forward pass asks the binarizer for W (a fresh draw, for most); in evaluation mode it is the
    mode, sign λ.  The scale s, one number per output channel, and the bias b, if any, are real.

    Attributes:
        natural: λ, the Parameter that the optimizer moves.
        scale: s in units of `unit`, a Parameter (O,) that starts at 1, if the scale is learned; else None.
        unit: 1/√fan-in, so that an output has the size of an input whatever the number of inputs; 1 without a scale.
        binarizer: how λ becomes a weight in training.
        drawn: batch-norm statistics of drawn networks, if `calibrate_` has made some; they go into the state_dict.
    """

    spatial = 0  # dimensions of an output behind its channels

    natural: nn.Parameter
    bias: nn.Parameter | None
    scale: nn.Parameter | None

    def _take(self, layer: Any, start: Start) -> None:
        super()._take(layer, start)
        self.register_parameter("bias", getattr(layer, "bias", None))
        first = initial_natural(layer.weight, start.init, start.magnitude)
        self.natural = nn.Parameter(first, layer.weight.requires_grad)
        self._start: tuple[Init, float] = (start.init, start.magnitude)
        rows = self._rows(layer.weight.detach())
        self.unit = 1.0 if start.scale == "none" else 1 / math.sqrt(max(self._fan_in(rows.shape[1]), 1))
        learned = start.scale == "learned"
        self.register_parameter("scale", nn.Parameter(self._initial_scale(rows, start.init)) if learned else None)
        self.binarizer = StraightThroughSample() if start.binarizer is None else start.binarizer
        self._draw: Tensor | None = None  # set by draws.fixed_weights
        self.drawn: Drawn | None = None

    def sources(self, layer: Any) -> "list[tuple[Any, BinaryLayer]]":
        return [(id(layer.weight), self)]

    def _rows(self, weight: Tensor) -> Tensor:
        """The weight as (O, fan-in): a row for each output channel."""
        return weight.reshape(len(weight), -1)

    def _fan_in(self, row: int) -> float:
        """How many weights an output sums, where there are `row` of its channel."""
        return row

    def _initial_scale(self, rows: Tensor, init: Init) -> Tensor:
        # the mean size of a float weight is the scale for which s · sign W is nearest to W (Rastegari et al., 2016)
        return rows.abs().mean(1) / self.unit if init == "weights" else rows.new_ones(len(rows))

    def _spread(self, scale: Tensor) -> Tensor:
        """A number per output channel, (O,), in a shape that multiplies the weight."""
        return scale.reshape(-1, *[1] * (self.natural.ndim - 1))

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start anew, as the layer was made: λ and scale by its `init` and `magnitude`, the bias as torch draws it.

        >>> from bayesbinn.nn import BinaryLinear
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
        return self._scaled(self._mapped(self.apply_weight, x))

    def _mapped(self, op: Op, x: Tensor) -> Tensor:
        """op(x, W) with the weight in force, or as the binarizer makes it."""
        if self.training and self._draw is None:
            return self.binarizer(op, x, self.natural)
        return op(x, self.weight)

    def scaled_weight(self, like: Tensor) -> Tensor:
        """s · W, of the shape of `natural`, in the type in which code with inputs `like` computes; with its gradient.

        For code that uses the weight itself.  `LocalReparam` draws a normal weight of W's mean and variance then.
        """
        weight = _for(like, self._mapped(lambda _, weight: weight, self.natural.detach()))
        if self.scale is None:
            return weight if self.unit == 1 else weight * self.unit
        return weight * self._spread(self.scale * self.unit).to(weight.dtype)

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
        if drawn["seed"] is None and drawn["mean"] is not None:  # once there was only an average over draws
            drawn |= {name: drawn[name][None] for name in ("mean", "var")} | {"seed": torch.tensor([-1])}
        if all(value is not None for value in drawn.values()):
            self.drawn = Drawn(**{name: value.clone() for name, value in drawn.items()})

    def extra_repr(self) -> str:
        scale = "learned" if self.scale is not None else "none" if self.unit == 1 else "fan_in"
        own = self.float_type.extra_repr(self)
        return f"{own}{', ' if own else ''}scale={scale}, binarizer={self.binarizer!r}"


def _for(x: Tensor, weight: Tensor) -> Tensor:
    # λ may be kept in bfloat16 in a float32 network; weights of ±1 lose nothing in any type
    return weight.to(x.dtype) if weight.dtype == torch.bfloat16 else weight

"""What may be given to a network as its inputs, and running it over them in evaluation mode."""

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

Head = int | str | Callable[[Any], Tensor] | None  # which of a network's outputs: its index, its key, or how to get it
D = TypeVar("D", bound=Any)


STANDARDISED = "_standardised_by_fit"  # of a network that `fit` trained behind a layer that standardises


def mark_standardised(net: nn.Module, standardised: bool) -> None:
    """Let `warn_without_standardising` know whether `net` is trained behind a layer that changes its inputs."""
    object.__setattr__(net, STANDARDISED, standardised)


def warn_without_standardising(net: nn.Module) -> None:
    """Warn where `net` is used without the layer that standardised its inputs in training."""
    if getattr(net, STANDARDISED, False):
        warnings.warn(
            "bb.fit trained this network on standardised inputs: use the .net that fit returns, which standardises "
            "them, or give it inputs that are standardised as there",
            stacklevel=3,
        )


@dataclass(frozen=True)
class Inputs:
    """The inputs of B examples, as the network takes them: `net(*args, **kwargs)`.

    Attributes:
        args, kwargs: tensors of shape (B, ...).
    """

    args: tuple[Tensor, ...] = ()
    kwargs: dict[str, Tensor] = field(default_factory=dict)

    @property
    def tensors(self) -> list[Tensor]:
        return [*self.args, *self.kwargs.values()]

    def __len__(self) -> int:
        return len(self.tensors[0])

    def part(self, start: int, stop: int) -> "Inputs":
        """Examples `start` to `stop`, as views."""
        cut = {name: x[start:stop] for name, x in self.kwargs.items()}
        return Inputs(tuple(x[start:stop] for x in self.args), cut)

    def batches(self, batch_size: int, least: int = 1) -> Iterator["Inputs"]:
        """Even parts of at most `batch_size` examples, but none of fewer than `least` (where there are as many).

        Raises:
            ValueError: for a `batch_size` below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        count = max(1, min(math.ceil(len(self) / batch_size), len(self) // least))
        bounds = [i * len(self) // count for i in range(count + 1)]
        return (self.part(*ends) for ends in pairwise(bounds))

    def through(self, net: nn.Module) -> Any:
        """What the network returns for them, on its device."""
        device = next((p.device for p in net.parameters()), self.tensors[0].device)
        kwargs = {name: x.to(device) for name, x in self.kwargs.items()}
        return net(*(x.to(device) for x in self.args), **kwargs)

    def outputs(self, net: nn.Module, batch_size: int, output: Head = None) -> Tensor:
        """The network's outputs (B, ...), batch by batch; `output` chooses one where it returns several.

        Raises:
            TypeError: for a network that returns no tensor and no `output`.
        """
        return torch.cat([_head(batch.through(net), output) for batch in self.batches(batch_size)])


def as_inputs(data: Any, net: nn.Module) -> Inputs:
    """Inputs for `net` from what a user has.

    Args:
        data: a tensor or numpy array (B, ...); a tuple of these (several inputs, by position) or a dict (by name); or
            an iterable of batches as for `batches_of`, which is read to its end and kept in memory.
        net: floating-point numpy arrays get the type of its parameters.

    Raises:
        TypeError: for anything else.
        ValueError: for no inputs at all, or several of different lengths.

    >>> inputs = as_inputs({"x": np.ones((5, 2)), "y": torch.ones(5, 3)}, nn.Linear(2, 3))
    >>> len(inputs), [len(batch) for batch in inputs.batches(2)]
    (5, [1, 2, 2])
    """
    if isinstance(data, Inputs):
        return data
    return joined(batches_of(data, net)) if is_stream(data) else _in_memory(data, net)


def is_stream(data: Any) -> bool:
    """Whether `data` is an iterable of batches, such as a DataLoader or a list, and not inputs in memory."""
    return isinstance(data, Iterable) and not isinstance(data, Tensor | np.ndarray | tuple | Mapping)


def batches_of(stream: Iterable[Any], net: nn.Module) -> Iterator[Inputs]:
    """The inputs of each batch, which is inputs as for `as_inputs`, or (inputs, labels).

    Raises:
        ValueError: for a batch of more than two parts, whose meaning is not known.
    """
    for batch in stream:
        parts = batch if isinstance(batch, tuple | list) else (batch,)
        if not 1 <= len(parts) <= 2:
            raise ValueError(
                f"a batch must be inputs or (inputs, labels), got {len(parts)} parts: give several inputs as a tuple "
                "or dict in the place of the first"
            )
        yield _in_memory(parts[0], net)


def _in_memory(data: Any, net: nn.Module) -> Inputs:
    match data:
        case Tensor() | np.ndarray():
            inputs = Inputs((_tensor(data, net),))
        case tuple() | list():
            inputs = Inputs(tuple(_tensor(x, net) for x in data))
        case Mapping():
            inputs = Inputs(kwargs={str(name): _tensor(x, net) for name, x in data.items()})
        case _:
            raise TypeError(_expected(data))
    shapes = [tuple(x.shape) for x in inputs.tensors]
    if not shapes or not all(shape and shape[0] for shape in shapes):
        raise ValueError(f"there must be at least one input, got {', '.join(map(str, shapes)) or 'nothing'}")
    if len({shape[0] for shape in shapes}) > 1:
        raise ValueError(f"several inputs must be of the same number of examples, got shapes {shapes}")
    return inputs


@contextmanager
def evaluating(net: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode inside; on exit every module gets its own mode back."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield net
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def seeded(net: nn.Module, seed: int) -> Iterator[None]:
    """Torch's global generators seeded inside, and as they were afterwards."""
    devices = list({p.device for p in net.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def active_dropouts(net: nn.Module) -> list[nn.Module]:
    """The dropout layers that drop something in training."""
    return [m for m in net.modules() if isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0]


def portions(net: nn.Module, x: Any, calibration: Any) -> Iterable[Inputs]:
    """The inputs batch by batch, so that a large set need not fit in memory; at once if each has to calibrate first."""
    return batches_of(x, net) if is_stream(x) and calibration is None else [as_inputs(x, net)]


def _tensor(x: Any, net: nn.Module) -> Tensor:
    if isinstance(x, Tensor):
        return x
    if not isinstance(x, np.ndarray):
        raise TypeError(_expected(x))
    tensor = torch.from_numpy(np.require(x, requirements=["C", "W"]))
    own = next((p.dtype for p in net.parameters() if p.is_floating_point()), tensor.dtype)
    return tensor.to(own) if tensor.is_floating_point() else tensor


def joined(parts: Iterable[D]) -> D:
    """Dataclasses of tensors (B, ...), or of tuples and dicts of these, one after the other; the rest as in the first.

    Raises:
        ValueError: for no part at all.
    """
    found = list(parts)
    if not found:
        raise ValueError("there must be at least one batch of inputs, got none: is the iterator used up?")
    return replace(found[0], **{f.name: _cat([getattr(part, f.name) for part in found]) for f in fields(found[0])})


def _cat(values: list[Any]) -> Any:
    match values[0]:
        case Tensor():
            return torch.cat(values)
        case tuple():
            return tuple(_cat(list(same)) for same in zip(*values, strict=True))
        case dict():
            return {name: _cat([value[name] for value in values]) for name in values[0]}
    return values[0]


def _expected(data: Any) -> str:
    return (
        "inputs must be a tensor, a numpy array, a tuple or dict of these, or an iterable of batches such as a "
        f"DataLoader, got {type(data).__name__}"
    )


def _head(returned: Any, output: Head) -> Tensor:
    if output is not None:
        returned = output(returned) if callable(output) else returned[output]
    if not isinstance(returned, Tensor):
        raise TypeError(
            f"the network returns {type(returned).__name__}, not a tensor: choose a part by output= (an index, a key, "
            "or a function)"
        )
    return returned

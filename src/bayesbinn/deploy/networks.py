"""The networks that a file holds, the mode and the draws, and what each of them does with given inputs.

This is all that packing asks of the posterior.
"""

import math
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..nn import BinaryConvTranspose1d, BinaryConvTranspose2d, BinaryLayer, binary_layers, split_parameters
from ..nn.batch_norm import in_force, statistics_of
from ..nn.draws import draw, fixed_weights, generator_for, has_posterior, some_binary_layers
from ..nn.inputs import evaluating
from ..nn.mixture import members_of
from .bits import pack_signs
from .capture import Capture, capture, together
from .handlers.transposed import as_convolution
from .steps import Point, UnsupportedError, joint_shape


@dataclass
class Record:
    """What one network did with some inputs: values at points of the network, and its output."""

    seen: dict[Point, Tensor] = field(default_factory=dict)
    output: Tensor | None = None


@dataclass(frozen=True)
class Networks:
    """The mode of `net`, and S networks drawn as `predict` draws them.

    Of a mixture the mode is that of the last member, and draw s is that of member s mod K.

    Raises:
        ValueError: if there is no binary layer, or no posterior to draw from.
    """

    net: nn.Module
    num_samples: int
    seed: int
    input_shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        some_binary_layers(self.net)
        if self.num_samples and not has_posterior(self.net) and len(members_of(self.net)) == 1:
            raise ValueError(
                f"num_samples is {self.num_samples}, but this network has no posterior to draw from: use 0"
            )

    @cached_property
    def members(self) -> list[nn.Module]:
        """The member that each network is of: of the mode, then of each draw."""
        members = members_of(self.net)
        return [members[-1], *(members[i % len(members)] for i in range(self.num_samples))]

    @cached_property
    def statistics(self) -> list[dict[Any, Any]]:
        """Of the batch norm of each network: the mode's are the running ones, where a dict is empty."""
        members = members_of(self.net)
        of_mode = statistics_of(members[-1], "mode")
        known = [statistics_of(m, "draws", self.seed) if self.num_samples else of_mode for m in members]
        return [of_mode(0), *(known[i % len(members)](i) for i in range(self.num_samples))]

    @contextmanager
    def ready(self) -> Iterator[None]:
        """Inside, the network is as it is packed: in evaluation mode, eager, in full float32."""
        compiles = "torch._dynamo" in sys.modules  # importing it to say so would take seconds
        eager = torch.compiler.set_stance("force_eager") if compiles else nullcontext()
        with torch.no_grad(), eager, _full_precision(), evaluating(self.net):
            yield

    def each(self) -> Iterator[nn.Module]:
        """The network as the mode, then as each draw."""
        generator = generator_for(self.net, self.seed)
        for i, (member, statistics) in enumerate(zip(self.members, self.statistics, strict=True)):
            weights = fixed_weights(member, draw(member, generator)) if i else nullcontext()
            with weights, in_force(statistics):
                yield member

    def captured(self) -> Capture:
        """The operations of all networks; those that have the same real numbers are looked at once."""
        keys = [(member, *map(id, own.values())) for member, own in zip(self.members, self.statistics, strict=True)]
        found: dict[Any, Capture] = {}
        for key, net in zip(keys, self.each(), strict=True):
            if key not in found:
                found[key] = capture(net, self.input_shapes)
        return together(found, keys)

    def bits(self) -> dict[str, NDArray[np.uint8]]:
        """By name of the layer: its bits (1 + S, bytes) in all networks."""
        found = defaultdict[str, list[NDArray[np.uint8]]](list)
        for net in self.each():
            for name, layer in binary_layers(net):
                found[name].append(pack_signs(_stored_weight(layer)))
        return {name: np.stack(each) for name, each in found.items()}

    def records(self, x: Tensor, points: Iterable[Point]) -> Iterator[Record]:
        """What each network does with x (B, ...), as its modules and the user's hooks really run."""
        points = set(points)
        for net in self.each():
            record, modules = Record(), {name: net.get_submodule(name) for name in {point.module for point in points}}
            with ExitStack() as hooks:
                for name, module in modules.items():
                    _watch(name, module, points, record, hooks)
                record.output = self._run(net, x).clone()
            yield record

    def _run(self, net: nn.Module, x: Tensor) -> Tensor:
        """The output for a copy of x: some networks write into their input.  Several outputs are put side by side."""
        device = next(net.parameters()).device
        parts = [x] if len(self.input_shapes) == 1 else torch.split(x, [math.prod(s) for s in self.input_shapes], 1)
        shaped = [part.reshape(len(x), *shape) for part, shape in zip(parts, self.input_shapes, strict=True)]
        output = _called(net, [part.to(device, copy=True) for part in shaped])
        several = list(output.values()) if isinstance(output, dict) else output
        if isinstance(several, (tuple, list)) and several and all(isinstance(t, Tensor) for t in several):
            return torch.cat([t.flatten(1) for t in several], 1)
        if not isinstance(output, Tensor):
            raise UnsupportedError(f"{type(net).__name__} gives {type(output).__name__}, not a tensor or several")
        return output

    def mode_output(self, x: Tensor, batch_size: int = 256) -> Tensor:
        """The mode's output for x (B, ...)."""
        return torch.cat([self._run(self.members[0], part) for part in torch.split(x, batch_size)])

    def made_inputs(self, count: int) -> Tensor:
        """`count` normally distributed inputs, in the network's own type: where no others are given."""
        binary, real = split_parameters(self.net)
        shape = joint_shape(self.input_shapes)
        return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)).to((real + binary)[0].dtype)


@contextmanager
def _full_precision() -> Iterator[None]:
    """Inside, float32 is float32, and not TF32 or bfloat16 where the settings prefer speed."""
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _watch(name: str, module: nn.Module, points: set[Point], record: Record, hooks: ExitStack) -> None:
    """Hooks that copy what the module reads and gives; they come after those of the user, and see what those made."""
    calls = 0

    def before(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        point = Point(name, calls, "reads")
        if point in points and inputs and isinstance(inputs[0], Tensor):
            record.seen[point] = inputs[0].clone()

    def after(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal calls
        point = Point(name, calls, "gives")
        output = output[0] if isinstance(output, tuple) and output else output  # of recurrent layers, the states
        if point in points and isinstance(output, Tensor):
            record.seen[point] = output.clone()
        calls += 1

    hooks.callback(module.register_forward_pre_hook(before).remove)
    hooks.callback(module.register_forward_hook(after).remove)


def _stored_weight(layer: BinaryLayer) -> Tensor:
    """The weight as a file has it; a transposed convolution is a convolution there."""
    if isinstance(layer, (BinaryConvTranspose1d, BinaryConvTranspose2d)):
        return as_convolution(layer.weight, int(layer.groups))
    return layer.weight


def _called(net: nn.Module, inputs: list[Tensor]) -> Any:
    try:
        return net(*inputs)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:  # the user's own forward can raise anything
        shape = "; ".join(", ".join(map(str, ("B", *x.shape[1:]))) for x in inputs)
        raise UnsupportedError(
            f"{type(net).__name__} fails on inputs of shape ({shape}) of type {inputs[0].dtype}: {_first_line(error)}: "
            "give calibration=x, a few typical inputs, or the right input_shape"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0].rstrip(".")

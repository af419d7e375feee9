"""What all optimizers of λ share: checked options, the walk over parameters, and state that fits them."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import _ops, _philox, bernoulli

Ranges = dict[str, tuple[bool, str]]


class Rule(Optimizer):
    """An optimizer that moves each λ by its gradient and its state alone: a subclass has `_ranges` and `_update`."""

    alike: ClassVar[tuple[str, ...]] = ("prior", "momentum", "second", "average")  # state of the shape of its parameter

    def _ranges(self, group: dict[str, Any]) -> Ranges:
        """{option: (whether its value is valid, what it must be)}."""
        raise NotImplementedError

    def _update(self, group: dict[str, Any], natural: Tensor, grad: Tensor) -> None:
        """One step of one parameter, in place."""
        raise NotImplementedError

    def _check(self, group: dict[str, Any]) -> None:
        for name, (valid, need) in self._ranges(group).items():
            if not valid:
                raise ValueError(f"{name} must be {need}, got {group[name]}")

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch.optim; every option is checked, whichever way the group came in."""
        self._check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; parameters without a gradient are left alone.

        Args:
            closure: re-evaluates the model and returns the loss (optional).

        Returns:
            What the closure returned, or None.

        Raises:
            RuntimeError: for a sparse gradient.
            TypeError: for a float16 λ.
            ValueError: for an option that a schedule took out of its range.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._check(group)
            for natural in group["params"]:
                if natural.grad is None:
                    continue
                if natural.grad.is_sparse:
                    raise RuntimeError(f"{type(self).__name__} does not support sparse gradients")
                if natural.dtype == torch.float16:
                    raise TypeError("λ in float16 would not move by small steps: keep it in float32 or bfloat16")
                self._update(group, natural, natural.grad)
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch.optim; state keeps its own type, which is float32 where λ is bfloat16.

        Raises:
            ValueError: for state of another shape than its parameter: the parameters came in another order.
        """
        params = [p for group in self.param_groups for p in group["params"]]
        entries = [(i, name, v) for i, e in state_dict["state"].items() for name, v in e.items()]
        tensors = [(i, name, v) for i, name, v in entries if isinstance(v, Tensor) and i < len(params)]
        for i, name, value in tensors:
            if name in self.alike and value.shape != params[i].shape:
                raise ValueError(
                    f"the state of parameter {i} holds {name} of shape {tuple(value.shape)}, the parameter has shape "
                    f"{tuple(params[i].shape)}: give the optimizer its parameters in the order of the checkpoint"
                )
        super().load_state_dict(state_dict)
        for i, name, value in tensors:
            own = self.state[params[i]]
            if own[name].dtype != value.dtype:
                own[name] = value.to(own[name].device, copy=True)


def moment(state: dict[str, Any], name: str, natural: Tensor) -> Tensor:
    """The running average of that name: zeros at first, of the shape of λ, in at least float32."""
    if name not in state:
        state[name] = torch.zeros_like(bernoulli.wide(natural), memory_format=torch.preserve_format)
    found: Tensor = state[name]
    return found


def replace_(natural: Tensor, value: Tensor) -> None:
    """λ ← value; where λ is bfloat16, rounded at random to either neighbour, so that small steps count on average."""
    if natural.dtype == torch.bfloat16:
        _philox.round_(natural, value, _ops.new_seed(None, natural.device))
    else:
        natural.copy_(value)

"""One optimizer for a whole network: λ by the Bayesian rule, everything else by Adam."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .bayesbinn import BayesBiNN

# what `optimizer_for`, `bayesbinn train` and continual runs start from (docs/design/one-rule.md)
LR, KL_WEIGHT, FORM, MOMENTUM, REAL_LR = 0.3, 0.0003, "tensor", 0.9, 0.01


class NetworkOptimizer(Optimizer):
    """Several optimizers as one: their groups are its groups, and they step together.

    Schedulers, clipping, `GradScaler`, Lightning, accelerate and checkpoints see one torch optimizer.  `prior_of`,
    `set_prior_to_posterior`, `temper_` and `kl_divergence` are those of its `BayesBiNN` parts; without any they do
    nothing, and the KL is 0.

    Args:
        parts: torch optimizers of different parameters, at least one.

    Raises:
        ValueError: for no part at all.

    >>> a, b = (torch.zeros(2, requires_grad=True) for _ in range(2))
    >>> optimizer = NetworkOptimizer(BayesBiNN([a], 0.1, num_data=10), torch.optim.Adam([b], 0.01))
    >>> [group["lr"] for group in optimizer.param_groups]
    [0.1, 0.01]
    """

    def __init__(self, *parts: Optimizer) -> None:
        if not parts:
            raise ValueError("NetworkOptimizer needs at least one optimizer: there are no parameters to learn")
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        self._join()

    def _join(self) -> None:
        """Make the parts work on this object's groups and state."""
        first = 0
        for part in self.parts:
            groups = self.param_groups[first : first + len(part.param_groups)]
            part.__setstate__({"state": self.state, "param_groups": groups})
            first += len(groups)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Only while it is built: later nobody could say which part a group is for.

        Raises:
            ValueError: saying what to do.
        """
        if hasattr(self, "parts"):
            raise ValueError("add the group to a part, and build NetworkOptimizer(*parts) from them anew")
        super().add_param_group(param_group)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "parts": self.parts}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._join()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """As in torch.optim: each part takes what is its own.

        Raises:
            ValueError: as the parts do, or for other groups than its own.
        """
        sizes = [[len(g["params"]) for g in groups] for groups in (state_dict["param_groups"], self.param_groups)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"the checkpoint's groups hold {sizes[0]} parameters, the optimizer's {sizes[1]}")
        groups, state = iter(state_dict["param_groups"]), defaultdict[Tensor, Any](dict)
        for part in self.parts:
            own = [next(groups) for _ in part.param_groups]
            indices = {i for group in own for i in group["params"]}
            entries = {i: entry for i, entry in state_dict["state"].items() if i in indices}
            order = {i: new for new, i in enumerate(i for group in own for i in group["params"])}
            part.load_state_dict(
                {
                    "state": {order[i]: entry for i, entry in entries.items()},
                    "param_groups": [{**group, "params": [order[i] for i in group["params"]]} for group in own],
                }
            )
            state.update(part.state)
        self.__setstate__({"state": state, "param_groups": [g for part in self.parts for g in part.param_groups]})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step of every part.

        Args:
            closure: re-evaluates the model and returns the loss (optional); called once.

        Returns:
            What the closure returned, or None.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    @property
    def rules(self) -> list[BayesBiNN]:
        """The parts that keep a posterior."""
        return [part for part in self.parts if isinstance(part, BayesBiNN)]

    def prior_of(self, natural: Tensor) -> Tensor | float:
        """λ₀ of one parameter.

        Raises:
            KeyError: if no `BayesBiNN` part holds this parameter.
        """
        for rule in self.rules:
            if any(p is natural for group in rule.param_groups for p in group["params"]):
                return rule.prior_of(natural)
        raise KeyError(f"no Bayesian rule of this optimizer holds the parameter of shape {tuple(natural.shape)}")

    def set_prior_to_posterior(self, strength: float = 1.0) -> None:
        """λ₀ ← strength · λ: see `BayesBiNN.set_prior_to_posterior`."""
        for rule in self.rules:
            rule.set_prior_to_posterior(strength)

    def temper_(self, factor: float) -> None:
        """Make the posterior warmer by `factor`: see `BayesBiNN.temper_`."""
        for rule in self.rules:
            rule.temper_(factor)

    def kl_divergence(self) -> Tensor:
        """KL(q‖q₀) over all λ, in nats (0-d, float64)."""
        return sum((rule.kl_divergence() for rule in self.rules), torch.zeros((), dtype=torch.float64))


def optimizer_for(
    net: nn.Module,
    *,
    num_data: float,
    lr: float = LR,
    kl_weight: float = KL_WEIGHT,
    prior: float = 0.0,
    form: str = FORM,
    momentum: float = MOMENTUM,
    real_lr: float = REAL_LR,
) -> NetworkOptimizer:
    """The optimizer of a whole network: `BayesBiNN` for the λ of its binary layers, Adam for every other parameter.

    A network without parameters of one kind has no such part.

    Args:
        net: after `binarize_`, on its device.
        num_data: N, the number of training examples.
        lr, kl_weight, prior, form, momentum: of `BayesBiNN`; `kl_weight` says how sure the posterior may get.
        real_lr: learning rate of Adam.

    Raises:
        ValueError: as `BayesBiNN`; for a network without parameters, or a binarizer without a posterior (`SignSTE`).

    >>> from bayesbinn.nn import binarize_
    >>> net = binarize_(nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)), exclude="3")
    >>> [type(part).__name__ for part in optimizer_for(net, num_data=100).parts]
    ['BayesBiNN', 'Adam']
    """
    layers: list[Any] = [m for m in net.modules() if isinstance(getattr(m, "natural", None), nn.Parameter)]
    for layer in layers:
        if not layer.binarizer.has_posterior:
            raise ValueError(
                f"a layer has the binarizer {layer.binarizer!r}, which keeps no posterior for the Bayesian rule to "
                "learn: give its λ to another optimizer, e.g. torch.optim.Adam(net.parameters())"
            )
    binary = {id(layer.natural): layer.natural for layer in layers}
    real = [p for p in net.parameters() if id(p) not in binary]
    parts: list[Optimizer] = []
    if binary:
        options: dict[str, Any] = {"kl_weight": kl_weight, "prior": prior, "form": form, "momentum": momentum}
        parts.append(BayesBiNN(binary.values(), lr, num_data=num_data, **options))
    if real:
        parts.append(torch.optim.Adam(real, real_lr))
    return NetworkOptimizer(*parts)

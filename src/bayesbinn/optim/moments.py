"""What the adaptive rule remembers: running averages that stay right when their coefficients are scheduled."""

from typing import Any

import torch
from torch import Tensor

from .. import shards


def forget(state: dict[str, Any], name: str, beta: float) -> float:
    """1 − ∏ β over all steps so far, this one among them: what an average from zero is to be divided by.

    The product is kept, as βᵗ would be wrong once a schedule changes β.

    >>> state = {}
    >>> [forget(state, "momentum", beta) for beta in (0.5, 0.5, 0.0)]
    [0.5, 0.75, 1.0]
    """
    state[f"{name}_forgotten"] = state.get(f"{name}_forgotten", 1.0) * beta
    return float(1 - state[f"{name}_forgotten"])


def matrix(g: Tensor) -> Tensor:
    """g as (O, all the rest); a vector is one row."""
    return g.reshape(len(g), -1) if g.ndim > 1 else g.reshape(1, -1)


def factored_rate(state: dict[str, Any], g: Tensor, lr: float, eps: float) -> Tensor:
    """ρ = min(1, lr / (√(row · column / mean) + eps)) of the shape of g, from the steps before this one.

    Before the first step nothing is known, and g itself is looked at.  Roots are taken before the product, which would
    overflow float32 where g is beyond 1e9.

    Args:
        state: rows (O,) and columns (I,), averages of g², if there are some.
        g: (O, ...), in units of λ, as are lr and eps.

    Source: Shazeer & Stern (2018), Algorithm 1.
    """
    rows, columns = (state["rows"], state["columns"]) if "rows" in state else factors(g)
    correction = 1 - state.get("rows_forgotten", 0.0)
    mean = rows.mean().clamp(min=torch.finfo(rows.dtype).tiny)
    root = torch.outer((rows / mean).sqrt_(), (columns / correction).sqrt_())
    rate = (lr / (root + eps)).clamp_(max=1)
    return shards.split(rate.reshape(g.shape), like=g)


def update_factors(state: dict[str, Any], g: Tensor, beta2: float) -> None:
    """rows ← β₂ rows + (1 − β₂) mean over columns of g², and columns likewise."""
    found = factors(g)
    for name, now in zip(("rows", "columns"), found, strict=True):
        state.setdefault(name, torch.zeros_like(now)).mul_(beta2).add_(now * (1 - beta2))
    forget(state, "rows", beta2)


def factors(g: Tensor) -> tuple[Tensor, Tensor]:
    """The means of g² over the columns and over the rows of its matrix: (O,) and (I,)."""
    square = matrix(shards.whole(g)).square()
    return square.mean(1), square.mean(0)

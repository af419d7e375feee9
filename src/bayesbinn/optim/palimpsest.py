"""Bayesian learning with a memory window and protection from contradiction, without task boundaries: ours."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .. import bernoulli
from .base import Ranges, Rule, moment, replace_
from .moments import forget


class Palimpsest(Rule):
    """λ ← (1 − 1/window) λ − num_examples · m̂ · (1 − tanh²(cλ) where λ m̂ > 0, else 1): old evidence fades.

    Bayes' rule with a uniform prior adds −num_examples · ∂ℓ/∂μ to λ at each step; the factor 1 − 1/window lets what it
    added fade, so that a stream can go on for ever.  Evidence that contradicts λ is damped (metaplasticity c), which is
    what keeps earlier tasks.

    m̂ is the average of the gradient in μ over about 1/(1 − β) steps, corrected for its start.  It is what the damping
    must see: damping raw gradients turns their noise into a drift away from 0, of the size of the mean |gradient|, by
    which all weights become certain and nothing new is learned.  Averaging delays that, at the price of a state tensor;
    a long window with a large c still ends there.

    Args:
        params: the λ tensors, or parameter groups; every option can differ between groups and be scheduled.
        num_examples: of evidence in a step, > 0: the batch size, or more for a colder posterior.
        window: memory in steps, at least 1; `float("inf")` never forgets.
        metaplasticity: c ≥ 0; 0 is Bayes' rule with exponential forgetting.
        momentum: β in [0, 1); 0 damps the raw gradients, and keeps no state: with c = 0 it is `BayesBiNN` with lr =
            1/window and a uniform prior.

    Raises:
        ValueError: for a value out of range.

    Source: ours; exponential forgetting: Kulhavý & Zarrop (1993); metaplasticity: Laborieux et al. (2021).

    >>> natural = torch.tensor([0.0, 2.0, -2.0], requires_grad=True)
    >>> optimizer = Palimpsest([natural], num_examples=10, window=100, metaplasticity=1.0, momentum=0.9)
    >>> natural.grad = torch.full((3,), 0.1)
    >>> optimizer.step()
    >>> [round(v, 3) for v in natural.tolist()]  # fresh, contradicted, supported
    [-1.0, 1.909, -2.98]
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        num_examples: float,
        window: float,
        metaplasticity: float = 0.0,
        momentum: float = 0.9,
    ) -> None:
        defaults = {
            "num_examples": num_examples,
            "window": window,
            "metaplasticity": metaplasticity,
            "momentum": momentum,
            "lr": 1.0,  # a schedule's handle: the share of each step that is taken
        }
        super().__init__(params, defaults)

    def _ranges(self, group: dict[str, Any]) -> Ranges:
        inf = float("inf")
        return {
            "num_examples": (0.0 < group["num_examples"] < inf, "a finite number above 0"),
            "window": (group["window"] >= 1.0, "at least 1 step"),
            "metaplasticity": (0.0 <= group["metaplasticity"] < inf, "a finite number of at least 0"),
            "momentum": (0.0 <= group["momentum"] < 1.0, "in [0, 1)"),
            "lr": (0.0 <= group["lr"] <= 1.0, "in [0, 1]"),
        }

    def _update(self, group: dict[str, Any], natural: Tensor, grad: Tensor) -> None:
        beta, c = group["momentum"], group["metaplasticity"]
        wide, evidence = bernoulli.wide(natural), grad
        if beta:
            state = self.state[natural]
            average = moment(state, "average", natural).lerp_(grad.to(wide.dtype), 1 - beta)
            evidence = average / forget(state, "average", beta)
        if c:
            damped = evidence * bernoulli.variance(c * wide)
            evidence = torch.where(wide * evidence > 0, damped, evidence)
        fresh = wide * (1 - group["lr"] / group["window"]) - evidence * (group["lr"] * group["num_examples"])
        replace_(natural, fresh)

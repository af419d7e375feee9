"""The exact answers for a handful of ±1 weights, by summing over all 2ⁿ networks: slow, obvious, float64."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor


def all_weights(natural: Tensor) -> list[tuple[Tensor, float]]:
    """Every ±1 weight tensor of the shape of `natural`, with its probability under q."""
    pairs = []
    for signs in itertools.product((-1.0, 1.0), repeat=natural.numel()):
        weight = torch.tensor(signs, dtype=natural.dtype).view_as(natural)
        probability = math.prod(1 / (1 + math.exp(-2 * n * w)) for n, w in zip(natural.flatten(), signs, strict=True))
        pairs.append((weight, probability))
    return pairs


def exact_gradient(loss: Callable[[Tensor], Tensor], natural: Tensor) -> Tensor:
    """∂E[loss(w)]/∂μ: half of what the expected loss changes by when one weight goes from −1 to +1."""
    gradient = torch.zeros_like(natural)
    for weight, probability in all_weights(natural):
        # given w_i the others keep their probability, so P(w) / P(w_i) weighs them
        gradient += loss(weight) * weight * probability / (2 * torch.sigmoid(2 * natural * weight))
    return gradient


def noise_for(natural: Tensor, weight: Tensor) -> Tensor:
    """A δ for which sign(λ + δ) is `weight`."""
    return weight * (natural.abs() + 1)

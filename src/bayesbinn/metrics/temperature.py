"""Temperature scaling: one number, fitted on held-out data after training, that makes confidence honest."""

import math

import torch
from torch import Tensor


def scale_probs(probs: Tensor, temperature: float) -> Tensor:
    """softmax(log p / T), (B, C) float64: above 1 softens, below 1 sharpens; the predicted class stays.

    For one network this is softmax(logits / T).  For a mean over networks it scales the mean, not each member.

    Args:
        probs: (B, C); those below 1e-12 count as 1e-12.
        temperature: T > 0.

    Raises:
        ValueError: for a temperature that is not a finite number above 0.

    Source: Guo et al. (2017).

    >>> scale_probs(torch.tensor([[0.8, 0.2]]), 0.5).round(decimals=3).tolist()
    [[0.941, 0.059]]
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a finite number above 0, got {temperature}")
    return torch.softmax(probs.double().clamp(min=1e-12).log() / temperature, -1)


def fit_temperature(probs: Tensor, labels: Tensor, low: float = 0.05, high: float = 20.0) -> float:
    """The T in [low, high] with the lowest NLL of `scale_probs(probs, T)` on labels that training has not seen.

    Of S networks it is the T that divides the logits of each before their probabilities are averaged, as
    `nn.at_temperature` does.

    Args:
        probs: (B, C), of one network or a mean over networks; or (S, B, C), of each of S networks.
        labels: (B,).
        low, high: of T, in any unit.

    Raises:
        ValueError: for no input.

    >>> probs = torch.tensor([[0.99, 0.01]] * 4)  # too sure: right three times out of four
    >>> scaled = scale_probs(probs, fit_temperature(probs, torch.tensor([0, 0, 0, 1])))
    >>> round(float(scaled[0, 0]), 3)
    0.75
    """
    if len(labels) == 0:
        raise ValueError("fit_temperature needs at least one labelled input")
    if probs.ndim == 3 and len(probs) > 1:
        return _of_several(probs, labels, low, high)
    logs = probs.reshape(probs.shape[-2:]).double().clamp(min=1e-12).log()
    chosen = logs.gather(-1, labels[:, None].long())[:, 0]
    coldest, hottest = 1 / high, 1 / low
    for _ in range(60):  # the NLL is convex in 1/T: its slope Σ_i (E_p[log p_i] − log p_i(y_i)) is bisected
        inverse = 0.5 * (coldest + hottest)
        expected = (torch.softmax(logs * inverse, -1) * logs).sum(-1)
        if float((expected - chosen).mean()) > 0:  # the NLL rises with 1/T here
            hottest = inverse
        else:
            coldest = inverse
    return 2 / (coldest + hottest)


def _of_several(probs: Tensor, labels: Tensor, low: float, high: float) -> float:
    """As `fit_temperature`, for a mean over networks: the best of a grid in log T, made finer around it three times."""

    def nll(temperature: float) -> float:
        mean = torch.stack([scale_probs(p, temperature) for p in probs]).mean(0)
        return float(-mean.gather(-1, labels[:, None].long()).clamp(min=1e-12).log().mean())

    first, last, points = math.log(low), math.log(high), 25
    for _ in range(3):
        grid = torch.linspace(first, last, points, dtype=torch.float64)
        best = min(range(points), key=lambda i: nll(float(grid[i].exp())))
        first, last = float(grid[max(best - 1, 0)]), float(grid[min(best + 1, points - 1)])
    return math.exp(0.5 * (first + last))

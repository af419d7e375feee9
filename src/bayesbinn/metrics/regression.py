"""Metrics of a predicted mean and standard deviation, taken as a normal distribution."""

import math

import torch
from torch import Tensor


def gaussian_nll(mean: Tensor, std: Tensor, target: Tensor) -> float:
    """Negative log likelihood of a normal, ½ log 2πσ² + (y − m)²/2σ², in nats per number predicted.

    Args:
        mean, std, target: of one shape; `std` is the whole predictive deviation (of the networks *and* of the data's
            noise, √(std² + noise²)), above 0.

    Raises:
        ValueError: for other shapes or a deviation that is not above 0.

    >>> round(gaussian_nll(torch.zeros(2), torch.ones(2), torch.zeros(2)), 4)
    0.9189
    """
    mean, std, target = _checked(mean, std, target)
    return float((std.log() + 0.5 * ((target - mean) / std).square()).mean()) + 0.5 * math.log(2 * math.pi)


def r2(mean: Tensor, target: Tensor) -> float:
    """Share of the targets' variance that the mean explains, 1 − Σ (y − m)² / Σ (y − ȳ)²: at most 1; 0 is a constant.

    Raises:
        ValueError: for other shapes, or targets that do not vary.

    >>> r2(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0]))
    0.5
    """
    if mean.shape != target.shape:
        raise ValueError(f"mean and target must have one shape, got {tuple(mean.shape)} and {tuple(target.shape)}")
    mean, target = mean.double(), target.double()
    spread = float((target - target.mean()).square().sum())
    if spread == 0:
        raise ValueError(f"R² needs targets that vary, all {target.numel()} are {float(target.reshape(-1)[0]):g}")
    return 1 - float((target - mean).square().sum()) / spread


def interval_coverage(mean: Tensor, std: Tensor, target: Tensor, level: float = 0.95) -> float:
    """Share of targets inside the central interval m ± z·σ that should hold `level` of them.

    Below `level` the network is too sure of itself, above it not sure enough.

    Args:
        mean, std, target: as `gaussian_nll`.
        level: in (0, 1); z = √2 · erf⁻¹(level).

    Raises:
        ValueError: as `gaussian_nll`, or for a level outside (0, 1).

    >>> interval_coverage(torch.zeros(4), torch.ones(4), torch.tensor([-3.0, -1.0, 0.0, 1.0]))
    0.75
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    mean, std, target = _checked(mean, std, target)
    z = math.sqrt(2) * float(torch.erfinv(torch.tensor(level, dtype=torch.float64)))
    return float(((target - mean).abs() <= z * std).double().mean())


def _checked(mean: Tensor, std: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if not mean.shape == std.shape == target.shape:
        shapes = ", ".join(str(tuple(t.shape)) for t in (mean, std, target))
        raise ValueError(f"mean, std and target must have one shape, got {shapes}")
    if not bool((std > 0).all()):
        raise ValueError(f"std must be above 0 everywhere (add the noise of the data), got {float(std.min())}")
    return mean.double(), std.double(), target.double()

"""Metrics of predicted class probabilities, thin over torchmetrics where it has them."""

from torch import Tensor


def accuracy(probs: Tensor, labels: Tensor) -> float:
    """Share of inputs whose most probable class is the label, in [0, 1].

    Args:
        probs: (B, C) class probabilities.
        labels: (B,) integer classes.

    >>> import torch
    >>> accuracy(torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([0, 1]))
    0.5
    """
    return float((probs.argmax(-1) == labels).double().mean())


def nll(probs: Tensor, labels: Tensor) -> float:
    """Negative log likelihood −1/B Σ log p(label), in nats per input; probabilities below 1e-12 count as 1e-12.

    >>> import torch
    >>> round(nll(torch.tensor([[0.5, 0.5]]), torch.tensor([0])), 4)
    0.6931
    """
    chosen = probs.double().gather(-1, labels[:, None].long())
    return float(-chosen.clamp(min=1e-12).log().mean())


def ece(probs: Tensor, labels: Tensor, num_bins: int = 15) -> float:
    """Expected calibration error Σ_b |B_b|/B · |accuracy(B_b) − confidence(B_b)|, in [0, 1].

    Source: Guo et al. (2017); computed by torchmetrics (equal bins of confidence, L1).

    >>> import torch
    >>> round(ece(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1])), 4)
    0.0
    """
    from torchmetrics.functional.classification import multiclass_calibration_error  # slow to import

    return float(multiclass_calibration_error(probs, labels, num_classes=probs.shape[-1], n_bins=num_bins))

"""Monte-Carlo prediction: the mode, or the mean over networks drawn from the posterior, and how sure it is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .outputs import posterior_outputs


@dataclass(frozen=True)
class Prediction:
    """Class probabilities for B inputs, averaged over S networks.  Entropies are in nats; higher is less certain.

    Attributes:
        probs: (B, C), the average of the probabilities (not of the logits).
        entropy: (B,), of `probs`: total uncertainty.
        expected_entropy: (B,), mean over networks of each one's entropy: what noise in the data leaves (aleatoric).
        mutual_information: (B,), entropy − expected_entropy ≥ 0: what the networks disagree on (epistemic).
        variation_ratio: (B,), share of networks whose class differs from the most voted one.
        num_samples: S; 0 is the mode.
    """

    probs: Tensor
    entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor
    variation_ratio: Tensor
    num_samples: int

    @property
    def labels(self) -> Tensor:
        """(B,), the most probable class."""
        return self.probs.argmax(-1)


@dataclass(frozen=True)
class RegressionPrediction:
    """Mean and standard deviation over S networks, of the shape of the network's output (B, ...); S = 0 is the mode."""

    mean: Tensor
    std: Tensor
    num_samples: int


def average(outputs: Iterable[Tensor]) -> Iterator[Prediction]:
    """The predictions of the first 1, 2, ..., S networks, given the logits (B, C) of each: one pass, one running sum.

    Args:
        outputs: from `bayesbinn.outputs`: draws of a posterior, members of an ensemble, dropout masks.

    Raises:
        ValueError: for an output that is not (B, C).

    >>> logits = torch.tensor([[0.0, 9.0]]), torch.tensor([[9.0, 0.0]])
    >>> [round(float(p.mutual_information), 2) for p in average(logits)]  # the second disagrees
    [0.0, 0.69]
    """
    total = expected_entropy = votes = torch.zeros(())
    for networks, logits in enumerate(outputs, start=1):
        if logits.ndim != 2:
            raise ValueError(f"predict needs a network output of shape (B, C), got {tuple(logits.shape)}")
        log_probs = torch.log_softmax(logits.float() if logits.dtype != torch.float64 else logits, -1)
        probs = log_probs.exp()
        total = probs + total
        expected_entropy = _entropy(probs) + expected_entropy
        votes = F.one_hot(probs.argmax(-1), probs.shape[-1]) + votes
        entropy = _entropy(total / networks)
        yield Prediction(
            probs=total / networks,
            entropy=entropy,
            expected_entropy=expected_entropy / networks,
            mutual_information=(entropy - expected_entropy / networks).clamp(min=0),
            variation_ratio=1 - votes.amax(-1) / networks,
            num_samples=networks,
        )


def predict(
    net: nn.Module,
    x: Tensor,
    num_samples: int = 32,
    *,
    seed: int = 0,
    batch_size: int = 1024,
    calibration: Tensor | None = None,
) -> Prediction:
    """Class probabilities  p(y|x) = 1/S Σ_s softmax f_{w_s}(x),  w_s ~ q,  and their uncertainty.

    The network's output is taken as logits.  The S networks are the same for every input and depend only on `seed`;
    the first of them are those of a smaller S.  Memory grows with B · C and `batch_size`, not with S.

    Args:
        net: a classifier; used in evaluation mode, each module's own mode is restored.
        x: (B, ...) inputs; moved to the network's device batch by batch.
        num_samples: S ≥ 0; 0 predicts with the mode, w = sign λ.
        seed: of the posterior draws.
        batch_size: inputs in one forward pass.
        calibration: training inputs on which each network re-estimates its batch-norm statistics; None: the running
            ones (docs/uncertainty.md says when which is better).

    Returns:
        A `Prediction`, on the network's device.

    Raises:
        ValueError: for a negative `num_samples`, a `batch_size` below 1, an empty `x`, an output that is not (B, C), or
            `num_samples` > 0 for a network without a posterior.

    Source: Meng, Bachmann & Khan (2020), Sec. 3.3; uncertainties after Houlsby et al. (2011), Gal (2016).

    >>> net = nn.Sequential(nn.Flatten(), torch.nn.Linear(4, 3))
    >>> predict(net, torch.zeros(2, 4), num_samples=0).probs.shape
    torch.Size([2, 3])
    """
    outputs = posterior_outputs(net, x, num_samples, seed=seed, batch_size=batch_size, calibration=calibration)
    for prediction in average(outputs):  # noqa: B007  (the last one counts)
        pass
    return replace(prediction, num_samples=num_samples)


def predict_regression(
    net: nn.Module,
    x: Tensor,
    num_samples: int = 32,
    *,
    seed: int = 0,
    batch_size: int = 1024,
    calibration: Tensor | None = None,
) -> RegressionPrediction:
    """Mean and standard deviation of the output over S networks from the posterior; arguments as in `predict`.

    The deviation is of the networks' outputs (divided by S, so it is 0 for S ≤ 1); add the noise of the data, if you
    model it, for a predictive interval.

    >>> predict_regression(torch.nn.Linear(4, 1), torch.zeros(2, 4), num_samples=0).mean.shape
    torch.Size([2, 1])
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    outputs = posterior_outputs(net, x, num_samples, seed=seed, batch_size=batch_size, calibration=calibration)
    for output in outputs:
        count += 1  # Welford's update: no cancellation when the deviation is small beside the mean
        delta = output - mean
        mean = mean + delta / count
        squares = delta * (output - mean) + squares
    return RegressionPrediction(mean=mean, std=(squares / count).sqrt(), num_samples=num_samples)


def _entropy(probs: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probs).sum(-1)
    return entropy

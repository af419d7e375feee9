"""Monte-Carlo prediction: the mode, or the mean over networks drawn from the posterior, and how sure it is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .posterior import generator_for, has_posterior, sampled_weights


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


def predict(net: nn.Module, x: Tensor, num_samples: int = 32, *, seed: int = 0, batch_size: int = 1024) -> Prediction:
    """Class probabilities  p(y|x) = 1/S Σ_s softmax f_{w_s}(x),  w_s ~ q,  and their uncertainty.

    The network's output is taken as logits.  The S networks are the same for every input and depend only on `seed`;
    the first of them are those of a smaller S.  Memory grows with B · C and `batch_size`, not with S.

    Args:
        net: a classifier; used in evaluation mode, each module's own mode is restored.
        x: (B, ...) inputs; moved to the network's device batch by batch.
        num_samples: S ≥ 0; 0 predicts with the mode, w = sign λ.
        seed: of the posterior draws.
        batch_size: inputs in one forward pass.

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
    total = expected_entropy = votes = torch.zeros(())
    for logits in _outputs(net, x, num_samples, seed, batch_size, _check_logits):
        log_probs = torch.log_softmax(logits.float() if logits.dtype != torch.float64 else logits, -1)
        probs = log_probs.exp()
        total = probs + total
        expected_entropy = _entropy(probs) + expected_entropy
        votes = F.one_hot(probs.argmax(-1), probs.shape[-1]) + votes
    networks = max(num_samples, 1)
    probs, expected_entropy = total / networks, expected_entropy / networks
    entropy = _entropy(probs)
    return Prediction(
        probs=probs,
        entropy=entropy,
        expected_entropy=expected_entropy,
        mutual_information=(entropy - expected_entropy).clamp(min=0) if num_samples else torch.zeros_like(entropy),
        variation_ratio=1 - votes.amax(-1) / networks,
        num_samples=num_samples,
    )


def predict_regression(
    net: nn.Module, x: Tensor, num_samples: int = 32, *, seed: int = 0, batch_size: int = 1024
) -> RegressionPrediction:
    """Mean and standard deviation of the output over S networks from the posterior; arguments as in `predict`.

    The deviation is of the networks' outputs (divided by S, so it is 0 for S ≤ 1); add the noise of the data, if you
    model it, for a predictive interval.

    >>> predict_regression(torch.nn.Linear(4, 1), torch.zeros(2, 4), num_samples=0).mean.shape
    torch.Size([2, 1])
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for output in _outputs(net, x, num_samples, seed, batch_size, lambda _: None):
        count += 1  # Welford's update: no cancellation when the deviation is small beside the mean
        delta = output - mean
        mean = mean + delta / count
        squares = delta * (output - mean) + squares
    return RegressionPrediction(mean=mean, std=(squares / count).sqrt(), num_samples=num_samples)


@torch.no_grad()
def _outputs(
    net: nn.Module, x: Tensor, num_samples: int, seed: int, batch_size: int, check: Callable[[Tensor], None]
) -> Iterator[Tensor]:
    """The network's output for all of x, once per drawn network (or once, for the mode)."""
    if num_samples < 0:
        raise ValueError(f"num_samples must be at least 0 (0 is the mode), got {num_samples}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if len(x) == 0:
        raise ValueError(f"x must hold at least one input, got shape {tuple(x.shape)}")
    if num_samples and not has_posterior(net):
        raise ValueError(f"num_samples is {num_samples}, but this network has no posterior to draw from: use 0")
    generator = generator_for(net, seed) if num_samples else None
    parameter = next(net.parameters(), None)
    device = x.device if parameter is None else parameter.device
    with evaluating(net):
        for _ in range(max(num_samples, 1)):
            with sampled_weights(net, generator) if num_samples else nullcontext():
                outputs = []
                for start in range(0, len(x), batch_size):
                    outputs.append(net(x[start : start + batch_size].to(device)))
                    check(outputs[-1])
            yield torch.cat(outputs)


@contextmanager
def evaluating(net: nn.Module) -> Iterator[nn.Module]:
    """Evaluation mode inside; on exit every module gets its own mode back."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        yield net
    finally:
        for module, training in modes:
            module.training = training


def _check_logits(logits: Tensor) -> None:
    if logits.ndim != 2:
        raise ValueError(f"predict needs a network output of shape (B, C), got {tuple(logits.shape)}")


def _entropy(probs: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probs).sum(-1)
    return entropy

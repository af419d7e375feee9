"""What networks say about inputs, and how sure they are: the mode, draws from the posterior, ensembles, dropout masks.

The generators give the outputs of one network after the other, for all inputs; `average` turns logits into predictions.
Memory does not grow with the number of networks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nn.batch_norm import in_force, own_statistics, statistics_of
from .nn.draws import draw, fixed_weights, generator_for, has_posterior
from .nn.inputs import (
    Head,
    Inputs,
    active_dropouts,
    as_inputs,
    evaluating,
    joined,
    portions,
    seeded,
    warn_without_standardising,
)
from .nn.likelihood import likelihood_of
from .nn.mixture import members_of
from .propagation import moment_weights, points

Samples = int | Literal["moments"]  # S, or mean and variance in one pass


@dataclass(frozen=True)
class Prediction:
    """Class probabilities for B inputs, averaged over S networks.  Entropies are in nats; higher is less certain.

    Attributes:
        probs: (B, C), the average of the probabilities (not of the logits).
        entropy: (B,), of `probs`: total uncertainty.
        expected_entropy: (B,), mean over networks of each one's entropy: what noise in the data leaves (aleatoric).
        mutual_information: (B,), entropy − expected_entropy ≥ 0: what the networks disagree on (epistemic).
        variation_ratio: (B,), share of networks whose class differs from the most voted one.
        num_samples: S; 0 is the mode; "moments" if none was drawn.
    """

    probs: Tensor
    entropy: Tensor
    expected_entropy: Tensor
    mutual_information: Tensor
    variation_ratio: Tensor
    num_samples: Samples

    @property
    def labels(self) -> Tensor:
        """(B,), the most probable class."""
        return self.probs.argmax(-1)


@dataclass(frozen=True)
class RegressionPrediction:
    """Mean and standard deviations for B inputs, of the shape of the network's output (B, ...), in the target's units.

    Attributes:
        mean: over S networks.
        std: over S networks: what they disagree on (epistemic); 0 for S ≤ 1.
        noise: standard deviation of the data around a network's output (aleatoric), where it is learned; else 0.
        num_samples: S; 0 is the mode; "moments" if none was drawn.
    """

    mean: Tensor
    std: Tensor
    num_samples: Samples
    noise: float = 0.0

    @property
    def total(self) -> Tensor:
        """The standard deviation of the target, √(std² + noise²)."""
        return (self.std.square() + self.noise**2).sqrt()


def average(outputs: Iterable[Tensor]) -> Iterator[Prediction]:
    """The predictions of the first 1, 2, ..., S networks, given the logits (B, C) of each: one pass, one running sum.

    Args:
        outputs: of draws from a posterior, members of an ensemble, dropout masks.

    Raises:
        ValueError: for an output that is not (B, C), or of one class (C = 1).

    >>> logits = torch.tensor([[0.0, 9.0]]), torch.tensor([[9.0, 0.0]])
    >>> [round(float(p.mutual_information), 2) for p in average(logits)]  # the second disagrees
    [0.0, 0.69]
    """
    total = expected_entropy = votes = torch.zeros(())
    for networks, logits in enumerate(outputs, start=1):
        if logits.ndim != 2:
            raise ValueError(f"predict needs a network output of shape (B, C), got {tuple(logits.shape)}")
        if logits.shape[1] == 1:
            raise ValueError(
                f"predict takes a softmax over the classes, which is 1 for one logit (shape {tuple(logits.shape)}): "
                "use two; from one for a sigmoid, output=lambda z: torch.cat([torch.zeros_like(z), z], 1) makes them"
            )
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


def moments(outputs: Iterable[Tensor], noise: float = 0.0) -> Iterator[RegressionPrediction]:
    """The predictions of the first 1, 2, ..., S networks, given the output (B, ...) of each, as `average` for numbers.

    >>> [float(p.std) for p in moments([torch.tensor(1.0), torch.tensor(3.0)])]
    [0.0, 1.0]
    """
    mean, squares = torch.zeros(()), torch.zeros(())
    for count, out in enumerate(outputs, start=1):
        delta = out - mean  # Welford's update: no cancellation when the deviation is small beside the mean
        mean = mean + delta / count
        squares = delta * (out - mean) + squares
        yield RegressionPrediction(mean, (squares / count).sqrt(), count, noise)


def predictions(net: nn.Module, outputs: Iterable[Tensor]) -> Iterator[Any]:
    """`average` or `moments`, as the task of the network asks, of the outputs of networks like it.

    >>> [type(p).__name__ for p in predictions(nn.Linear(2, 3), [torch.zeros(1, 3)])]
    ['Prediction']
    """
    likelihood = likelihood_of(net)
    return PREDICTIONS[likelihood.task](outputs, likelihood.noise_std())


# of each task: what the outputs of networks are averaged into, given the noise of the data
PREDICTIONS: dict[str, Callable[[Iterable[Tensor], float], Iterator[Any]]] = {
    "classification": lambda outputs, noise: average(outputs),
    "regression": moments,
}


def predict(
    net: nn.Module,
    x: Any,
    num_samples: Samples = 32,
    *,
    seed: int = 0,
    batch_size: int = 1024,
    calibration: Any = None,
    output: Head = None,
) -> Prediction:
    """Class probabilities  p(y|x) = 1/S Σ_s softmax f_{w_s}(x),  w_s ~ q,  and their uncertainty.

    The network's output is taken as logits.  The S networks are the same for every input and depend only on `seed`;
    the first of them are those of a smaller S; of an `nn.Mixture` they are from its members in turn.  Memory grows with
    B · C and `batch_size`, not with S.

    Args:
        net: a classifier; used in evaluation mode, each module's own mode is restored.
        x: (B, ...) inputs, moved to the network's device batch by batch: a tensor, a numpy array, a tuple or dict of
            them (several inputs), or an iterable such as a DataLoader of batches (inputs, or inputs and labels).
        num_samples: S ≥ 0; 0 predicts with the mode, w = sign λ; "moments" draws none, and carries mean and variance
            of every value through the network in one pass (docs/uncertainty.md says how near that is).
        seed: of the posterior draws.
        batch_size: inputs in one forward pass.
        calibration: training inputs, of the same kinds as `x`, on which each network re-estimates its batch-norm
            statistics; None: those that it has, see `calibrate_` (docs/uncertainty.md says when which is better).
        output: index or key of the logits in what the network returns, or a function that gets them from it.

    Returns:
        A `Prediction`, on the network's device.

    Raises:
        TypeError: for an `x` that is no input, or a network that returns no tensor and no `output`.
        ValueError: for a negative `num_samples`, a `batch_size` below 1, an empty `x`, an output that is not (B, C) or
            has one class, or `num_samples` > 0 for a network without a posterior; for "moments", if the network
            computes something that they have no rule for.

    Source: Meng, Bachmann & Khan (2020), Sec. 3.3; uncertainties after Houlsby et al. (2011), Gal (2016).

    >>> net = nn.Sequential(nn.Flatten(), torch.nn.Linear(4, 3))
    >>> predict(net, torch.zeros(2, 4), num_samples=0).probs.shape
    torch.Size([2, 3])
    """

    def of(part: Inputs) -> Prediction:
        for prediction in average(posterior_outputs(net, part, num_samples, **settings)):  # noqa: B007  (the last counts)
            pass
        return replace(prediction, num_samples=num_samples)

    settings: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "calibration": calibration, "output": output}
    return joined(map(of, portions(net, x, calibration)))


def predict_regression(
    net: nn.Module,
    x: Any,
    num_samples: Samples = 32,
    *,
    seed: int = 0,
    batch_size: int = 1024,
    calibration: Any = None,
    output: Head = None,
) -> RegressionPrediction:
    """Mean and standard deviation of the output over S networks from the posterior; arguments as in `predict`.

    The deviation is of the networks' outputs (divided by S, so it is 0 for S ≤ 1).  Where the network ends with
    `nn.Gaussian`, `noise` is what that has learned; else it is 0: add the noise of the data for a predictive interval.

    >>> predict_regression(torch.nn.Linear(4, 1), torch.zeros(2, 4), num_samples=0).mean.shape
    torch.Size([2, 1])
    """

    def of(part: Inputs) -> RegressionPrediction:
        outputs = posterior_outputs(net, part, num_samples, **settings)
        for prediction in moments(outputs, likelihood_of(net).noise_std()):  # noqa: B007  (the last counts)
            pass
        return replace(prediction, num_samples=num_samples)

    settings: dict[str, Any] = {"seed": seed, "batch_size": batch_size, "calibration": calibration, "output": output}
    return joined(map(of, portions(net, x, calibration)))


@torch.no_grad()
def posterior_outputs(
    net: nn.Module,
    x: Any,
    num_samples: Samples,
    *,
    seed: int = 0,
    batch_size: int = 1024,
    calibration: Any = None,
    output: Head = None,
) -> Iterator[Tensor]:
    """The outputs (B, ...) of each of S networks drawn from the posterior; S = 0 gives those of the mode, once.

    "moments" gives points that have the mean and variance of the outputs.  Arguments and errors as in `predict`; an
    iterable of batches is read to its end first.

    >>> [out.shape for out in posterior_outputs(nn.Linear(4, 3), torch.zeros(2, 4), num_samples=0)]
    [torch.Size([2, 3])]
    """
    warn_without_standardising(net)
    propagate = num_samples == "moments"
    if not propagate and (isinstance(num_samples, str) or num_samples < 0):
        raise ValueError(f"num_samples must be 'moments' or at least 0 (0 is the mode), got {num_samples!r}")
    if num_samples and not has_posterior(net):
        raise ValueError(f"num_samples is {num_samples}, but this network has no posterior to draw from: use 0")
    inputs, seen = as_inputs(x, net), None if calibration is None else as_inputs(calibration, net)
    members = members_of(net) if num_samples else members_of(net)[-1:]  # the mode is that of the last
    whose: Literal["mode", "draws"] = "draws" if num_samples else "mode"
    own = None if propagate else seed
    known = [] if seen is not None else list(map(partial(statistics_of, whose=whose, seed=own), members))
    if propagate and seen is not None:
        raise ValueError("moments take the statistics of calibrate_, and no calibration of each network: leave it out")
    if propagate:
        for member, of in zip(members, known, strict=True):
            with evaluating(member), in_force(of(0)), moment_weights(member):
                out = inputs.outputs(member, batch_size, output)
            yield from points(out)
        return
    generator = generator_for(net, seed) if num_samples else None
    with evaluating(net):
        for i in range(max(int(num_samples), 1)):
            k = i % len(members)
            member = members[k]
            weights = fixed_weights(member, draw(member, generator)) if num_samples else nullcontext()
            # opened second, so that a network's own statistics are of the weights in force
            with weights, in_force(known[k](i)) if seen is None else own_statistics(member, seen, batch_size):
                out = inputs.outputs(member, batch_size, output)
            yield out


def ensemble_outputs(
    nets: Sequence[nn.Module], x: Any, *, batch_size: int = 1024, calibration: Any = None, output: Head = None
) -> Iterator[Tensor]:
    """The outputs of each network of an ensemble (Lakshminarayanan et al., 2017), binary ones at their mode.

    >>> len(list(ensemble_outputs([nn.Linear(4, 3), nn.Linear(4, 3)], torch.zeros(2, 4))))
    2
    """
    for net in nets:
        yield from posterior_outputs(net, x, 0, batch_size=batch_size, calibration=calibration, output=output)


@torch.no_grad()
def dropout_outputs(
    net: nn.Module, x: Any, num_samples: int, *, seed: int = 0, batch_size: int = 1024, output: Head = None
) -> Iterator[Tensor]:
    """The outputs under S ≥ 1 draws of the dropout masks, weights at the mode: Monte-Carlo dropout.

    Every input has masks of its own, so other than drawn networks these depend on `batch_size`.  Torch's global
    generator is left as it was.

    Raises:
        ValueError: for S < 1, a `batch_size` below 1, an empty `x`, or a network without active dropout.

    Source: Gal & Ghahramani (2016).

    >>> net = nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3))
    >>> len(list(dropout_outputs(net, torch.zeros(2, 4), num_samples=5)))
    5
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1 for Monte-Carlo dropout, got {num_samples}")
    warn_without_standardising(net)
    inputs, masks = as_inputs(x, net), active_dropouts(net)
    if not masks:
        raise ValueError("this network has no active dropout layer: Monte-Carlo dropout would repeat one prediction")
    for i in range(num_samples):
        with evaluating(net), seeded(net, (seed << 20) + i):
            for mask in masks:
                mask.train()
            out = inputs.outputs(net, batch_size, output)
        yield out


def _entropy(probs: Tensor) -> Tensor:
    entropy: Tensor = torch.special.entr(probs).sum(-1)
    return entropy

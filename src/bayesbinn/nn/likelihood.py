"""What the output of a network says of a target: one row for each task, with its loss and the figure people read."""

import math
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .mixture import members_of


class Likelihood(nn.Module):
    """p(y | output).  As the last module of a network it puts the output into the target's units.

    Attributes:
        task: its name in `LIKELIHOODS`.
        figure: what `figure_of` gives: "accuracy" or "rmse".
    """

    task: ClassVar[str]
    figure: ClassVar[str]

    def forward(self, output: Tensor) -> Tensor:
        return output

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        """What training minimises: a number (0-d), in nats per example."""
        return self.nll(output, y)

    def nll(self, output: Tensor, y: Tensor) -> Tensor:
        """−1/B Σ log p(y), in nats (0-d)."""
        raise NotImplementedError

    def score(self, output: Tensor, y: Tensor) -> Tensor:
        """A sum over the batch (0-d), of which `figure_of` makes a figure."""
        raise NotImplementedError

    def figure_of(self, score: float, count: int) -> float:
        """The figure of `count` examples, of their summed `score`."""
        raise NotImplementedError

    def noise_std(self) -> float:
        """Standard deviation of the data around the output, in the target's units; 0 where the output says it all."""
        return 0.0


class Categorical(Likelihood):
    """A class for each output: p(y) = softmax(output)_y.

    Args:
        weights: (C,) how much an example of each class counts in training; None: all alike.

    Shapes: output (B, C), y (B,) int64.

    >>> round(float(Categorical().nll(torch.zeros(1, 2), torch.tensor([0]))), 4)
    0.6931
    """

    task, figure = "classification", "accuracy"

    def __init__(self, weights: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("weights", weights, persistent=False)

    def loss(self, output: Tensor, y: Tensor) -> Tensor:
        weights = self._buffers["weights"]
        if weights is None:
            return self.nll(output, y)
        # divided by B and not by the sum of the weights: else a batch of one class would have no weight at all
        return F.cross_entropy(output, y, weights.to(output), reduction="sum") / len(y)

    def nll(self, output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output, y)

    def score(self, output: Tensor, y: Tensor) -> Tensor:
        return (output.argmax(-1) == y).sum()

    def figure_of(self, score: float, count: int) -> float:
        return score / count


class Gaussian(Likelihood):
    """A number: p(y) = N(y | mean + std · output, noise²), with a learned noise that is the same for all inputs.

    As a module it is mean + std · output: the layers before it learn the standardised target.

    Args:
        mean, std: of the training targets.

    Shapes: output (B, 1) in the target's units (what `forward` gives), y (B,).

    >>> head = Gaussian(10.0, 2.0)
    >>> head(torch.ones(1, 1)).tolist(), head.noise_std()
    ([[12.0]], 2.0)
    """

    task, figure = "regression", "rmse"
    mean: Tensor
    std: Tensor

    def __init__(self, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std)))
        self.log_noise = nn.Parameter(torch.zeros(()))  # in units of std

    def forward(self, output: Tensor) -> Tensor:
        return output * self.std + self.mean

    def nll(self, output: Tensor, y: Tensor) -> Tensor:
        z = (y - output[:, 0]) / self.std * (-self.log_noise).exp()
        return 0.5 * z.square().mean() + self.log_noise + self.std.log() + 0.5 * math.log(2 * math.pi)

    def score(self, output: Tensor, y: Tensor) -> Tensor:
        return (y - output[:, 0]).double().square().sum()

    def figure_of(self, score: float, count: int) -> float:
        return math.sqrt(score / count)

    def noise_std(self) -> float:
        return float(self.std * self.log_noise.detach().exp())


class NextToken(Likelihood):
    """The token that follows each one: p(y) = Π_t softmax(output_t)_{y_t}.

    Args:
        bytes_per_token: how long a token of the training text is on average.

    Shapes: output (B, T, V), y (B, T) int64; `nll` is in nats per token.

    >>> out, y = torch.zeros(1, 3, 256), torch.zeros(1, 3, dtype=torch.int64)
    >>> round(NextToken().figure_of(float(NextToken().score(out, y)), 1), 4)  # bits per byte
    8.0
    """

    task, figure = "text", "bits_per_byte"
    bytes_per_token: Tensor

    def __init__(self, bytes_per_token: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("bytes_per_token", torch.tensor(float(bytes_per_token), dtype=torch.float64))

    def nll(self, output: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(output.flatten(0, 1), y.flatten())

    def score(self, output: Tensor, y: Tensor) -> Tensor:
        return self.nll(output, y) * len(y)

    def figure_of(self, score: float, count: int) -> float:
        return score / count / math.log(2) / float(self.bytes_per_token)


LIKELIHOODS: dict[str, type[Likelihood]] = {kind.task: kind for kind in (Categorical, Gaussian, NextToken)}


def likelihood_of(net: nn.Module) -> Likelihood:
    """The likelihood that a network ends with; a network without one is a classifier.

    >>> likelihood_of(nn.Sequential(nn.Linear(2, 1), Gaussian())).task
    'regression'
    """
    net = members_of(net)[-1]
    last = list(net.children())[-1:] if isinstance(net, nn.Sequential) else []
    return last[0] if last and isinstance(last[0], Likelihood) else Categorical()

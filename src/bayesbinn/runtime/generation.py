"""Text token by token, by one network or by several together, with how unsure they are of each token."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

Array = np.ndarray[Any, Any]


class Stepper(Protocol):
    """A network of text that is asked one token at a time, such as `Decoder`."""

    @property
    def context(self) -> int:
        """T, the most tokens that it sees."""
        ...

    def prompt(self, tokens: Sequence[int]) -> Array:
        """The logits (V,) of what follows, after these tokens and those before them."""
        ...

    def reset(self) -> None:
        """Forget all tokens."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: of the probabilities; 0 takes the likeliest token.
        top_k: the likeliest so many alone; 0: all.
        top_p: the likeliest that have this probability together (Holtzman et al., 2020); 1: all.
        seed: of the choice.

    Raises:
        ValueError: for a value out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fits, what in (
            ("temperature", 0 <= self.temperature < np.inf, "a number from 0"),
            ("top_k", self.top_k >= 0, "at least 0 (0: all tokens)"),
            ("top_p", 0 < self.top_p <= 1, "a probability above 0"),
        ):
            if not fits:
                raise ValueError(f"{name} must be {what}, got {getattr(self, name)}")

    def probabilities(self, probs: Array) -> Array:
        """(V,) that a token is drawn with, for the network's own probabilities (V,).

        >>> Sampling(top_k=1).probabilities(np.array([0.2, 0.5, 0.3])).tolist()
        [0.0, 1.0, 0.0]
        """
        order = np.argsort(-probs, kind="stable")
        if self.temperature == 0:
            return np.asarray(np.eye(len(probs))[order[0]])
        scaled = np.log(np.maximum(probs, np.finfo(np.float64).tiny)) / self.temperature
        kept = np.exp(scaled - scaled.max())
        if self.top_k:
            kept[order[self.top_k :]] = 0
        kept /= kept.sum()
        # the token that reaches the mark is still in
        before = np.cumsum(kept[order]) - kept[order]
        kept[order[before >= self.top_p]] = 0
        return np.asarray(kept / kept.sum())


@dataclass(frozen=True)
class Step:
    """A token that was chosen, and what the networks said of it.

    Attributes:
        probability: of the token, the mean over the networks, before temperature and cuts.
        entropy: of that mean, in nats.
        mutual_information: how much the networks differ, in nats; 0 for one network.
    """

    token: int
    probability: float
    entropy: float
    mutual_information: float


def generate(
    networks: Sequence[Stepper], prompt: Sequence[int], length: int, sampling: Sampling | None = None
) -> Iterator[Step]:
    """Tokens that follow `prompt`, one after the other.

    When a context is full, its older half is forgotten.

    Args:
        networks: whose mean is followed: one, or several draws of a posterior; each is reset first.
        prompt: at least one token.
        length: how many tokens to give.
        sampling: default: drawn as the mean says.

    Raises:
        ValueError: for no network, or no token to begin with.
    """
    if not networks or not len(prompt):
        raise ValueError("generate needs at least one network and one token to begin with: give a prompt")
    sampling = sampling or Sampling()
    random = np.random.default_rng(sampling.seed)
    context = min(network.context for network in networks)
    seen = [int(token) for token in prompt][-context:]
    for network in networks:
        network.reset()
    fresh = seen
    for _ in range(length):
        if len(seen) > context:
            seen = fresh = seen[-(context // 2) :]
            for network in networks:
                network.reset()
        probs = np.stack([softmax(network.prompt(fresh)) for network in networks])
        mean = probs.mean(0)
        chances = sampling.probabilities(mean)
        token = int(np.searchsorted(np.cumsum(chances), random.random() * chances.sum(), side="right"))
        whole = entropy(mean)
        information = max(0.0, whole - float(np.mean([entropy(own) for own in probs])))
        yield Step(token, float(mean[token]), whole, information)
        seen, fresh = [*seen, token], [token]


def softmax(logits: Array) -> Array:
    """(V,) float64 probabilities of (V,) logits.

    >>> softmax(np.zeros(2)).tolist()
    [0.5, 0.5]
    """
    powers = np.exp(np.asarray(logits, np.float64) - np.max(logits))
    return np.asarray(powers / powers.sum())


def entropy(probs: Array) -> float:
    """Of (V,) probabilities, in nats."""
    known = probs[probs > 0]
    return float(-(known * np.log(known)).sum())

"""Choosing tokens: temperature, cuts, several networks, and a context that is full."""

import numpy as np
import pytest

from bayesbinn.runtime.generation import Sampling, entropy, generate

P = np.array([0.1, 0.4, 0.3, 0.2])


class Counter:
    """Says that the token after t is (t + 1) mod 5, as surely as `gain` makes it."""

    def __init__(self, context: int = 100, gain: float = 50.0, ahead: int = 1) -> None:
        self.context, self.gain, self.ahead = context, gain, ahead
        self.seen: list[int] = []

    def reset(self) -> None:
        self.seen = []

    def prompt(self, tokens: object) -> object:
        self.seen += tokens  # type: ignore[operator]
        assert len(self.seen) <= self.context
        return self.gain * np.eye(5)[(self.seen[-1] + self.ahead) % 5]


def tokens(*networks: object, **how: object) -> list[int]:
    return [step.token for step in generate(networks, [0], 12, Sampling(**how))]  # type: ignore[arg-type]


def test_cuts() -> None:
    assert Sampling().probabilities(P) == pytest.approx(P)
    assert Sampling(top_k=2).probabilities(P) == pytest.approx([0, 4 / 7, 3 / 7, 0])
    assert Sampling(top_p=0.5).probabilities(P) == pytest.approx([0, 4 / 7, 3 / 7, 0])
    assert Sampling(top_p=0.4).probabilities(P) == pytest.approx([0, 1, 0, 0])
    assert Sampling(temperature=0).probabilities(P).tolist() == [0, 1, 0, 0]
    assert Sampling(temperature=0.5).probabilities(P) == pytest.approx(P**2 / (P**2).sum())
    assert Sampling(temperature=2.0, top_k=3).probabilities(np.array([1.0, 0, 0, 0]))[0] == pytest.approx(1)


def test_it_goes_on_from_the_prompt_and_repeats() -> None:
    assert tokens(Counter()) == [1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]
    unsure = [tokens(Counter(gain=1.0), seed=seed) for seed in (1, 1, 2)]
    assert unsure[0] == unsure[1] != unsure[2]


def test_a_full_context_forgets_its_older_half() -> None:
    network = Counter(context=4)
    assert tokens(network) == [1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1, 2]
    assert len(network.seen) <= 4


def test_networks_that_differ_have_mutual_information() -> None:
    (alone,) = generate([Counter()], [0], 1)
    (two,) = generate([Counter(), Counter(ahead=2)], [0], 1)
    assert alone.mutual_information == 0
    assert alone.entropy == pytest.approx(0, abs=1e-9)
    assert two.mutual_information == pytest.approx(np.log(2), abs=1e-6)
    assert two.entropy == pytest.approx(np.log(2), abs=1e-6)
    assert two.probability == pytest.approx(0.5)
    assert entropy(np.full(4, 0.25)) == pytest.approx(np.log(4))


def test_draws_follow_the_probabilities() -> None:
    steps = generate([Counter(gain=1.0)], [0], 4000, Sampling(seed=3))
    found = np.bincount([step.token for step in steps], minlength=5)
    assert found.min() > 700  # each follows from another: uniform in the long run


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"temperature": -1.0}, "temperature must be a number from 0, got -1.0"),
        ({"temperature": float("nan")}, "temperature must be a number from 0, got nan"),
        ({"top_k": -1}, "top_k must be at least 0"),
        ({"top_p": 0.0}, "top_p must be a probability above 0, got 0.0"),
    ],
)
def test_what_cannot_be(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_nothing_to_begin_with() -> None:
    with pytest.raises(ValueError, match="one token to begin with"):
        next(generate([Counter()], [], 1))

"""Palimpsest: the step against its equation, fading, and what averaging does to noise."""

import math

import pytest
import torch

from bayesbinn.optim import Palimpsest


@pytest.mark.parametrize("beta", [0.0, 0.8])
@pytest.mark.parametrize("c", [0.0, 0.5])
def test_steps_are_the_equation(beta: float, c: float) -> None:
    values, steps = [0.0, 0.7, -1.3, 2.5, -0.2], [[0.4, -0.2, 0.0, 1.5, -3.0], [-0.1, -0.3, 0.2, -1.0, 0.5]]
    natural = torch.tensor(values, requires_grad=True)
    optimizer = Palimpsest([natural], num_examples=3, window=20, metaplasticity=c, momentum=beta)
    average = [0.0] * len(values)
    for t, grads in enumerate(steps, start=1):
        natural.grad = torch.tensor(grads)
        optimizer.step()
        average = [beta * a + (1 - beta) * g for a, g in zip(average, grads, strict=True)]
        evidence = [a / (1 - beta**t) for a in average]
        damping = [1 - math.tanh(c * v) ** 2 if v * e > 0 else 1.0 for v, e in zip(values, evidence, strict=True)]
        values = [v * (1 - 1 / 20) - 3 * e * d for v, e, d in zip(values, evidence, damping, strict=True)]
        assert natural.tolist() == pytest.approx(values, rel=1e-5, abs=1e-6)


def test_without_evidence_memory_fades_over_the_window() -> None:
    natural = torch.tensor([4.0], requires_grad=True)
    optimizer = Palimpsest([natural], num_examples=1, window=100)
    natural.grad = torch.zeros(1)
    for _ in range(100):
        optimizer.step()
    assert natural.item() == pytest.approx(4.0 * 0.99**100, rel=1e-5)


def test_averaging_keeps_noise_from_making_weights_certain() -> None:
    torch.manual_seed(0)
    certain = {}
    for beta in (0.0, 0.95):
        natural = torch.full((500,), 1.0, requires_grad=True)
        optimizer = Palimpsest([natural], num_examples=1, window=200, metaplasticity=0.5, momentum=beta)
        for _ in range(1000):
            natural.grad = 0.2 * torch.randn(500)
            optimizer.step()
        certain[beta] = natural.detach().abs().mean().item()
    assert certain[0.95] < 0.5 * certain[0.0]


def test_the_state_survives() -> None:
    def run(interrupted: bool) -> list[float]:
        torch.manual_seed(0)
        natural = torch.zeros(4, requires_grad=True)
        optimizer = Palimpsest([natural], num_examples=5, window=50, metaplasticity=0.3)
        for i in range(6):
            if interrupted and i == 3:
                state = optimizer.state_dict()
                optimizer = Palimpsest([natural], num_examples=1, window=9)
                optimizer.load_state_dict(state)
            natural.grad = torch.randn(4)
            optimizer.step()
        return natural.tolist()

    assert run(True) == run(False)


@pytest.mark.parametrize(
    "wrong",
    [{"num_examples": 0.0}, {"window": 0.5}, {"metaplasticity": -1.0}, {"momentum": 1.0}, {"window": float("nan")}],
)
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        Palimpsest([torch.zeros(1, requires_grad=True)], **{"num_examples": 1.0, "window": 10.0, **wrong})

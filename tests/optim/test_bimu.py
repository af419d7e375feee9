"""BiMU: the step against its equation, metaplasticity, and the window."""

import math

import pytest
import torch

from bayesbinn.optim import BiMU


def one_step(natural: float, grad: float, **options: float) -> float:
    """The equation, one weight at a time."""
    a, c = options.get("gradient_gain", 1.0), options.get("kl_gain", 1.0)
    mu = math.tanh(natural)
    g = grad * (1 - mu**2)
    k = c * (1 - mu**2)
    eta = 1 / (k + 2 * a * g * mu + 2 * a * abs(g) + 1 / options.get("max_step", 1.0))
    return natural - eta * (options["lr"] * a * g + k * natural / options["window"])


@pytest.mark.parametrize(
    "options",
    [{"lr": 1.0, "window": 50.0}, {"lr": 0.3, "window": 7.0, "gradient_gain": 20.0, "kl_gain": 0.5, "max_step": 9.0}],
)
def test_a_step_is_the_equation(options: dict[str, float]) -> None:
    values, grads = [0.0, 0.7, -1.3, 2.5, -0.2], [0.4, -0.2, 0.0, 1.5, -3.0]
    natural = torch.tensor(values, requires_grad=True)
    natural.grad = torch.tensor(grads)
    BiMU([natural], **options).step()
    expected = [one_step(v, g, **options) for v, g in zip(values, grads, strict=True)]
    assert torch.allclose(natural, torch.tensor(expected), atol=1e-6)


def test_a_decided_weight_resists_most_where_it_is_contradicted() -> None:
    moved = {}
    for sign in (-1.0, 1.0):
        natural = torch.tensor([1.5], requires_grad=True)
        natural.grad = torch.tensor([sign * 5.0])
        BiMU([natural], lr=1.0, window=float("inf"), gradient_gain=10.0).step()
        moved[sign] = abs(natural.item() - 1.5)
    assert moved[1.0] < moved[-1.0]


def test_without_news_evidence_fades_and_lambda_never_saturates() -> None:
    natural = torch.full((4,), 3.0, requires_grad=True)
    optimizer = BiMU([natural], lr=1.0, window=10.0, kl_gain=100.0, max_step=100.0)
    natural.grad = torch.zeros(4)
    for _ in range(300):
        optimizer.step()
    assert natural.abs().max() < 1e-3
    never = torch.full((4,), 3.0, requires_grad=True)
    never.grad = torch.zeros(4)
    BiMU([never], lr=1.0, window=float("inf")).step()
    assert never.tolist() == [3.0] * 4


def test_parameters_without_a_gradient_stay_and_the_closure_is_called() -> None:
    natural = torch.ones(2, requires_grad=True)
    optimizer = BiMU([natural], lr=1.0, window=10.0)
    assert optimizer.step(lambda: 7.0) == 7.0
    assert natural.tolist() == [1.0, 1.0]
    again = BiMU([natural], lr=0.5, window=3.0)
    again.load_state_dict(optimizer.state_dict())
    assert again.param_groups[0]["window"] == 10.0


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"window": 0.0}, {"gradient_gain": 0.0}, {"kl_gain": math.inf}, {"max_step": math.nan}]
)
def test_arguments_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        BiMU([torch.zeros(1, requires_grad=True)], **{"lr": 1.0, "window": 5.0, **wrong})

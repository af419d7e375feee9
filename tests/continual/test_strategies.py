"""Strategies: what each keeps of the past, against slow and obvious twins."""

import pytest
import torch
from torch import nn

from bayesbinn import BayesBiNN
from bayesbinn.continual import EWC, Examples, Naive, PosteriorToPrior, Replay


def test_naive_changes_nothing() -> None:
    x, y = torch.randn(3, 2), torch.arange(3)
    naive = Naive()
    assert naive.batch(x, y)[0] is x
    assert naive.penalty() == 0.0
    assert naive.state_dict() == {}


@pytest.mark.parametrize(("strength", "prior"), [(1.0, 5.0), (2.0, 10.0)])
def test_the_posterior_becomes_the_prior(strength: float, prior: float) -> None:
    natural = torch.tensor([5.0, -5.0], requires_grad=True)
    optimizer = BayesBiNN([natural], lr=0.1, num_data=1)
    strategy = PosteriorToPrior(optimizer, strength)
    strategy.after_task(nn.Identity(), Examples(torch.zeros(1), torch.zeros(1)), None)
    assert optimizer.prior_of(natural).tolist() == [prior, -prior]


def test_the_buffer_is_a_uniform_sample_of_everything_seen() -> None:
    counts = torch.zeros(60)
    for seed in range(400):
        replay = Replay(size=12, seed=seed)
        for start in range(0, 60, 20):
            replay.after_step(torch.arange(start, start + 20).float()[:, None], torch.arange(start, start + 20))
        assert torch.equal(replay.x[:, 0].long(), replay.y)
        assert len(set(replay.y.tolist())) == 12
        counts[replay.y] += 1
    # each of 60 is kept with probability 1/5: 80 ± 8 times of 400
    assert counts.sum() == 400 * 12
    assert (counts - 80).abs().max() < 4.5 * 8


def test_replayed_examples_join_the_batch() -> None:
    replay = Replay(size=5, share=0.5)
    x, y = torch.randn(4, 2), torch.full((4,), 7)
    assert replay.batch(x, y)[0] is x  # nothing to replay yet
    replay.after_step(x, torch.full((4,), 3))
    bigger = replay.batch(x, y)
    assert bigger[1].tolist() == [7, 7, 7, 7, 3, 3]
    assert torch.equal(bigger[0][:4], x)


def test_replay_goes_on_where_it_stopped() -> None:
    one, other = Replay(size=4, seed=1), Replay(size=4, seed=2)
    for _ in range(5):
        one.after_step(torch.randn(3, 2), torch.randint(0, 9, (3,)))
    other.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    for _ in range(5):
        x, y = torch.randn(3, 2), torch.randint(0, 9, (3,))
        assert torch.equal(one.batch(x, y)[1], other.batch(x, y)[1])
        one.after_step(x, y)
        other.after_step(x, y)
    assert torch.equal(one.x, other.x)


@pytest.mark.parametrize(("size", "share"), [(0, 1.0), (5, 0.0), (5, 1.5)])
def test_replay_checks_its_arguments(size: int, share: float) -> None:
    with pytest.raises(ValueError, match="got"):
        Replay(size, share)


def logistic(seed: int = 0) -> tuple[nn.Linear, Examples]:
    torch.manual_seed(seed)
    return nn.Linear(3, 2), Examples(torch.randn(40, 3), torch.randint(0, 2, (40,)))


def test_fisher_information_of_logistic_regression() -> None:
    net, train = logistic()
    ewc = EWC(net, strength=2.0, num_examples=40)
    draws = 60
    total = torch.zeros(2, 3)
    for seed in range(draws):
        ewc = EWC(net, strength=2.0, num_examples=40, seed=seed)
        ewc.after_task(net, train, None)
        total += ewc.weights["weight"] / draws
    # E_y[(∂ log p/∂W_cj)²] = p_c (1 − p_c) x_j²
    probs = net(train.x).softmax(-1).detach()
    exact = 2.0 * ((probs * (1 - probs))[:, :, None] * train.x[:, None, :].square()).mean(0)
    assert torch.allclose(total, exact, rtol=0.25)


def test_the_penalty_is_the_quadratic_and_pulls_back() -> None:
    net, train = logistic()
    ewc = EWC(net, strength=3.0, num_examples=10)
    assert ewc.penalty() == 0.0
    ewc.after_task(net, train, None)
    anchor = net.weight.detach().clone()
    with torch.no_grad():
        net.weight += 0.1
    expected = 0.5 * (ewc.weights["weight"] * 0.01).sum()
    penalty = ewc.penalty()
    assert float(penalty.detach()) == pytest.approx(float(expected), rel=1e-4)
    penalty.backward()
    assert torch.allclose(net.weight.grad, ewc.weights["weight"] * (net.weight.detach() - anchor))


def test_fisher_information_adds_up_and_decays() -> None:
    net, train = logistic()
    ewc = EWC(net, strength=1.0, num_examples=40, decay=0.5)
    ewc.after_task(net, train, None)
    first = ewc.weights["weight"].clone()
    ewc.after_task(net, train, None)
    assert bool((ewc.weights["weight"] > 0.5 * first).all())
    other = EWC(net, strength=1.0, num_examples=40, decay=0.5, seed=9)
    other.load_state_dict(ewc.state_dict())
    assert torch.equal(other.weights["weight"], ewc.weights["weight"])
    assert torch.equal(other.penalty(), ewc.penalty())


def test_closed_outputs_carry_no_information() -> None:
    net = nn.Linear(3, 4)
    ewc = EWC(net, strength=1.0, num_examples=8)
    ewc.after_task(net, Examples(torch.randn(8, 3), torch.zeros(8).long()), (0, 1))
    assert ewc.weights["weight"][2:].abs().max() == 0
    assert ewc.weights["weight"][:2].min() > 0


@pytest.mark.parametrize("wrong", [{"strength": 0.0}, {"num_examples": 0}, {"decay": 1.5}])
def test_ewc_checks_its_arguments(wrong: dict) -> None:
    with pytest.raises(ValueError, match="got"):
        EWC(nn.Linear(2, 2), **{"strength": 1.0, **wrong})


def test_ewc_leaves_frozen_batch_norm_frozen() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)).train()
    net[1].eval()
    ewc = EWC(net, strength=1.0, num_examples=8)
    ewc.after_task(net, Examples(torch.randn(8, 3), torch.arange(8) % 2), None)
    assert [m.training for m in net.modules()] == [True, True, False, True, True]


class Elsewhere(torch.Tensor):
    """As on another device: before a network here computes with it, it must be moved."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is nn.functional.linear:
            raise RuntimeError("Expected all tensors to be on the same device")
        out = super().__torch_function__(func, types, args, kwargs)
        return out.as_subclass(torch.Tensor) if func is torch.Tensor.to else out


def test_ewc_takes_examples_of_another_device_and_number_format() -> None:
    net, train = logistic()
    fishers = []
    for moved, x in ((net, train.x), (net, train.x.as_subclass(Elsewhere)), (net.double(), train.x)):
        ewc = EWC(moved, strength=1.0, num_examples=8)
        ewc.after_task(moved, Examples(x, train.y), None)
        fishers.append(ewc.weights["weight"].float())
    assert torch.equal(fishers[0], fishers[1])
    torch.testing.assert_close(fishers[0], fishers[2])


def test_ewc_needs_something_to_hold() -> None:
    with pytest.raises(ValueError, match="the network has no parameters that learn"):
        EWC(nn.Linear(2, 2).requires_grad_(False), strength=1.0)

"""The Bayesian learning rule: exact steps, its relation to SGD, options, state and errors."""

import copy
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, OneCycleLR

from bayesbinn import BayesBiNN, BinaryLinear, bernoulli, binarize_, split_parameters

SHAPES = [(5, 4), (7,), (2, 3, 3, 3)]


def parameters(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in SHAPES]


def set_grads(params, seed):
    generator = torch.Generator().manual_seed(seed)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator, dtype=p.dtype) / 100


def run(optimizer, params, steps, first=0):
    for t in range(first, first + steps):
        set_grads(params, seed=t)
        optimizer.step()


@given(factor=st.floats(1e-3, 1e3), kl_weight=st.floats(1e-3, 1), prior=st.floats(-3, 3))
def test_temper_keeps_the_rule_at_rest(factor, kl_weight, prior):
    """Where the gradient in μ balances the KL term it does so at any temperature."""
    (natural, *_) = params = parameters(torch.float64)
    grad = torch.randn_like(natural)
    natural.data = prior - 10 * grad / kl_weight
    optimizer = BayesBiNN(params, lr=0.1 / kl_weight, num_data=10, kl_weight=kl_weight, prior=prior)
    optimizer.temper_(factor)
    (group,) = optimizer.param_groups
    assert group["lr"] * group["kl_weight"] == pytest.approx(0.1)
    torch.testing.assert_close(natural.detach(), prior - 10 * grad / (kl_weight * factor), rtol=1e-9, atol=1e-9)
    before = natural.detach().clone()
    natural.grad = grad
    optimizer.step()
    torch.testing.assert_close(natural.detach(), before, rtol=1e-9, atol=1e-9)


def test_temper_is_about_the_prior_of_each_parameter():
    params = parameters()
    optimizer = BayesBiNN(params, lr=0.1, num_data=10)
    optimizer.set_prior_to_posterior(strength=0.5)
    before = [p.detach().clone() for p in params]
    optimizer.temper_(0.25)
    for p, old in zip(params, before, strict=True):
        torch.testing.assert_close(p.detach(), 0.5 * old + 4 * 0.5 * old)
        assert torch.equal(p >= 0, old >= 0)


@pytest.mark.parametrize("factor", [0.0, -1.0, math.inf, math.nan])
def test_a_bad_factor_is_refused(factor):
    with pytest.raises(ValueError, match="factor must be a finite number above 0, got"):
        BayesBiNN(parameters(), lr=0.1, num_data=1).temper_(factor)


@given(
    lr=st.floats(0, 0.9),
    num_data=st.integers(1, 10**6),
    kl_weight=st.floats(0, 1),
    prior=st.floats(-3, 3),
    foreach=st.booleans(),
)
def test_one_step_is_the_rule(lr, num_data, kl_weight, prior, foreach):
    params = parameters(torch.float64)
    optimizer = BayesBiNN(params, lr, num_data=num_data, kl_weight=kl_weight, prior=prior, foreach=foreach)
    set_grads(params, seed=1)
    expected = [p - lr * (num_data * p.grad + kl_weight * (p - prior)) for p in params]
    optimizer.step()
    for p, e in zip(params, expected, strict=True):
        torch.testing.assert_close(p.detach(), e.detach(), rtol=1e-12, atol=1e-12 * (1 + lr * num_data))


@pytest.mark.parametrize("foreach", [False, True])
def test_momentum_is_the_papers(foreach):
    lr, n, k, beta, prior = 0.1, 50, 0.5, 0.9, 0.3
    (p,) = params = [nn.Parameter(torch.randn(6, dtype=torch.float64))]
    optimizer = BayesBiNN(params, lr, num_data=n, kl_weight=k, momentum=beta, prior=prior, foreach=foreach)
    expected, m = p.detach().clone(), 0
    for t in range(1, 8):
        p.grad = torch.randn_like(p)
        m = beta * m + (1 - beta) * (n * p.grad + k * (expected - prior))
        expected = expected - lr * m / (1 - beta**t)
        optimizer.step()
        torch.testing.assert_close(p.detach(), expected)


def test_without_momentum_and_with_a_uniform_prior_it_is_sgd_with_weight_decay_1():
    num_data = 1000
    ours, theirs = parameters(), parameters()
    bayes, sgd = BayesBiNN(ours, 0.05, num_data=num_data), torch.optim.SGD(theirs, 0.05, weight_decay=1)
    for t in range(50):
        set_grads(ours, seed=t)
        for a, b in zip(ours, theirs, strict=True):
            b.grad = num_data * a.grad
        bayes.step()
        sgd.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert not bayes.state  # no memory beyond λ


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("prior", [0.0, 0.3, "posterior"])
def test_foreach_is_the_obvious_form_bit_for_bit(dtype, momentum, prior):
    each, fast = parameters(dtype), parameters(dtype)
    options = {"num_data": 33, "kl_weight": 0.7, "momentum": momentum, "prior": 0.0 if prior == "posterior" else prior}
    optimizers = [BayesBiNN(ps, 0.1, foreach=f, **options) for ps, f in ((each, False), (fast, True))]
    for optimizer in optimizers:
        if prior == "posterior":
            optimizer.set_prior_to_posterior()
    for t in range(100):
        for params, optimizer in zip((each, fast), optimizers, strict=True):
            set_grads(params, seed=t)
            if t % 7 == 3:
                params[1].grad = None
            optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(each, fast, strict=True)), f"apart after step {t + 1}"


def test_fixed_point_is_the_prior_shifted_by_the_gradient():
    """With a constant gradient λ settles where λ - λ₀ = -N g / k, whatever the momentum."""
    for momentum in (0.0, 0.9):
        p = nn.Parameter(torch.zeros(2, dtype=torch.float64))
        optimizer = BayesBiNN([p], 0.1, num_data=10, kl_weight=0.5, prior=1.0, momentum=momentum)
        for _ in range(600):
            p.grad = torch.tensor([0.1, -0.05], dtype=torch.float64)
            optimizer.step()
        torch.testing.assert_close(p.detach(), torch.tensor([-1.0, 2.0], dtype=torch.float64))


def test_exact_gradient_descends_to_the_exact_posterior():
    """For ℓ = Σ cᵢ wᵢ the posterior is λ₀ - N c, reached in one step of lr 1, and minimises the negative ELBO."""
    c, n, prior = torch.tensor([0.01, -0.03, 0.2]), 20, 0.4
    p = nn.Parameter(torch.randn(3))
    optimizer = BayesBiNN([p], 1.0, num_data=n, prior=prior)
    p.grad = c.clone()
    optimizer.step()
    torch.testing.assert_close(p.detach(), prior - n * c)
    natural = p.detach().clone().requires_grad_()
    (n * (c * bernoulli.mean(natural)).sum() + bernoulli.kl_divergence(natural, prior).sum()).backward()
    assert natural.grad.abs().max() < 1e-6


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_none_gradients_are_left_alone(momentum):
    params = parameters()
    before = copy.deepcopy(params)
    optimizer = BayesBiNN(params, 0.1, num_data=10, momentum=momentum)
    optimizer.step()  # none has a gradient
    assert all(torch.equal(a, b) for a, b in zip(params, before, strict=True))
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert not torch.equal(params[0], before[0])
    assert all(torch.equal(a, b) for a, b in zip(params[1:], before[1:], strict=True))


def test_bias_correction_counts_the_steps_of_each_parameter():
    late, alone = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    early = nn.Parameter(torch.zeros(2))
    both, single = (BayesBiNN(ps, 0.1, num_data=1, momentum=0.9) for ps in ([early, late], [alone]))
    for _ in range(5):
        early.grad = torch.ones(2)
        both.step()
    early.grad, late.grad, alone.grad = None, torch.ones(2), torch.ones(2)
    both.step()
    single.step()
    assert torch.equal(late, alone)
    torch.testing.assert_close(late.detach(), torch.full((2,), -0.1))  # the first step is a full one


def test_closure_is_evaluated_with_gradients():
    p = nn.Parameter(torch.ones(2))
    optimizer = BayesBiNN([p], 0.5, num_data=1, kl_weight=0)

    def closure():
        optimizer.zero_grad()
        loss = (p * torch.tensor([1.0, 2.0])).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 3.0
    assert p.tolist() == [0.5, 0.0]
    assert optimizer.step() is None


def test_groups_have_their_own_options():
    together, apart = parameters(), parameters()
    optimizer = BayesBiNN(
        [{"params": together[:1], "lr": 0.2, "prior": 1.0}, {"params": together[1:]}], 0.1, num_data=5
    )
    pair = [BayesBiNN(apart[:1], 0.2, num_data=5, prior=1.0), BayesBiNN(apart[1:], 0.1, num_data=5)]
    for t in range(5):
        set_grads(together, seed=t)
        set_grads(apart, seed=t)
        for o in [optimizer, *pair]:
            o.step()
    assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))
    optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], "num_data": 7})
    assert [g["num_data"] for g in optimizer.param_groups] == [5, 5, 7]


@pytest.mark.parametrize(
    "make",
    [
        lambda o: LambdaLR(o, lambda t: 1 / (1 + t)),
        lambda o: CosineAnnealingLR(o, 10),
        lambda o: OneCycleLR(o, max_lr=0.5, total_steps=12, cycle_momentum=False),
        lambda o: OneCycleLR(o, max_lr=0.5, total_steps=12),  # also schedules `momentum`
    ],
)
def test_schedulers_act_on_the_step(make):
    params, expected = parameters(), parameters()
    optimizer = BayesBiNN(params, 0.3, num_data=10, momentum=0.9)
    scheduler = make(optimizer)
    plain = BayesBiNN(expected, 0.3, num_data=10, momentum=0.9)
    lrs = set()
    for t in range(10):
        lrs.add(optimizer.param_groups[0]["lr"])
        plain.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"]
        plain.param_groups[0]["momentum"] = optimizer.param_groups[0]["momentum"]
        set_grads(params, seed=t)
        set_grads(expected, seed=t)
        optimizer.step()
        plain.step()
        scheduler.step()
    assert len(lrs) > 4
    assert all(torch.equal(a, b) for a, b in zip(params, expected, strict=True))


def test_every_option_can_be_scheduled():
    p = nn.Parameter(torch.zeros(1))
    optimizer = BayesBiNN([p], 0.5, num_data=1)
    optimizer.param_groups[0].update(lr=0.1, num_data=100, kl_weight=0.0, prior=3.0)
    p.grad = torch.ones(1)
    optimizer.step()
    assert p.item() == pytest.approx(-10.0)
    optimizer.param_groups[0].update(lr=1.0, kl_weight=1.0)
    p.grad = torch.zeros(1)
    optimizer.step()
    assert p.item() == pytest.approx(3.0)


@pytest.mark.parametrize("foreach", [False, True])
def test_set_prior_to_posterior(foreach):
    params = parameters()
    optimizer = BayesBiNN(params, 0.1, num_data=10, momentum=0.9, foreach=foreach)
    run(optimizer, params, 3)
    assert optimizer.kl_divergence() > 0
    learned = [p.detach().clone() for p in params]
    optimizer.set_prior_to_posterior()
    assert optimizer.kl_divergence() == 0
    assert all(torch.equal(optimizer.prior_of(p), q) for p, q in zip(params, learned, strict=True))
    set_grads(params, seed=9)
    expected = [q - 0.1 * 10 * p.grad for p, q in zip(params, learned, strict=True)]  # λ = λ₀, momentum anew
    optimizer.step()
    torch.testing.assert_close([p.detach() for p in params], expected)
    assert optimizer.kl_divergence() > 0
    for p in params:
        p.grad = torch.zeros_like(p)
    before = sum(float((p.detach() - q).abs().sum()) for p, q in zip(params, learned, strict=True))
    for _ in range(300):
        optimizer.step()
    after = sum(float((p.detach() - q).abs().sum()) for p, q in zip(params, learned, strict=True))
    assert after < 1e-3 * before  # without data λ returns to the prior


def test_strength_of_the_prior():
    p = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = BayesBiNN([p], 0.1, num_data=1)
    optimizer.set_prior_to_posterior(strength=2.0)
    assert optimizer.prior_of(p).tolist() == [2.0, -4.0]
    for strength in (-1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"strength must be a finite number of at least 0, got {strength}"):
            optimizer.set_prior_to_posterior(strength)
    assert optimizer.prior_of(p).tolist() == [2.0, -4.0]


def test_prior_of():
    params = parameters()
    optimizer = BayesBiNN([{"params": params[:1], "prior": 2}, {"params": params[1:]}], 0.1, num_data=1, prior=-1.0)
    assert [optimizer.prior_of(p) for p in params] == [2.0, -1.0, -1.0]
    with pytest.raises(KeyError, match=r"does not hold the parameter of shape \(9,\)"):
        optimizer.prior_of(nn.Parameter(torch.zeros(9)))


def test_kl_divergence_sums_over_parameters_and_priors():
    params = parameters()
    optimizer = BayesBiNN([{"params": params[:1], "prior": 2.0}, {"params": params[1:]}], 0.1, num_data=1)
    expected = sum(
        bernoulli.kl_divergence(p.detach().double(), prior).sum() for p, prior in zip(params, (2.0, 0, 0), strict=True)
    )
    assert optimizer.kl_divergence().dtype == torch.float64
    assert optimizer.kl_divergence().item() == pytest.approx(expected.item(), rel=1e-5)


def saved(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("new_prior", [False, True])
def test_state_dict_resumes_bit_for_bit(momentum, new_prior):
    params = parameters()
    optimizer = BayesBiNN(params, 0.1, num_data=10, momentum=momentum, kl_weight=0.3)
    run(optimizer, params, 3)
    if new_prior:
        optimizer.set_prior_to_posterior(2.0)
        run(optimizer, params, 2, first=3)
    twins = [nn.Parameter(p.detach().clone()) for p in params]
    resumed = BayesBiNN(twins, 0.7, num_data=1)  # the checkpoint's options win
    resumed.load_state_dict(saved(optimizer.state_dict()))
    run(optimizer, params, 5, first=10)
    run(resumed, twins, 5, first=10)
    assert all(torch.equal(a, b) for a, b in zip(params, twins, strict=True))
    assert resumed.kl_divergence() == optimizer.kl_divergence()


def test_checkpoints_older_than_an_option_get_its_default():
    params = parameters()
    old = BayesBiNN(params, 0.1, num_data=10).state_dict()
    for group in old["param_groups"]:
        for option in ("kl_weight", "momentum", "prior", "metaplasticity", "foreach"):
            del group[option]
    new = BayesBiNN(params, 0.5, num_data=3, kl_weight=0.2, momentum=0.5, prior=1.0)
    new.load_state_dict(old)
    (group,) = new.param_groups
    assert {k: v for k, v in group.items() if k != "params"} == {
        "lr": 0.1,
        "num_data": 10,
        "kl_weight": 1.0,
        "momentum": 0.0,
        "prior": 0.0,
        "metaplasticity": 0.0,
        "foreach": None,
    }
    run(new, params, 1)
    bare = BayesBiNN(params, 0.1, num_data=10)
    state = bare.__getstate__()
    for option in ("kl_weight", "momentum", "prior", "foreach"):
        del state["param_groups"][0][option]
    unpickled = BayesBiNN.__new__(BayesBiNN)
    unpickled.__setstate__(state)
    assert unpickled.param_groups[0]["kl_weight"] == 1.0


@pytest.mark.parametrize(
    ("option", "values", "need"),
    [
        ("lr", [-0.1, float("inf"), float("nan")], "a finite number of at least 0"),
        ("num_data", [0, -5, 0.5, float("inf"), float("nan")], "at least 1"),
        ("kl_weight", [-0.1, float("inf"), float("nan")], "a finite number of at least 0"),
        ("momentum", [-0.1, 1.0, 1.5, float("nan")], r"in \[0, 1\)"),
        ("prior", [float("inf"), float("nan")], "a finite number"),
    ],
)
def test_values_out_of_range_are_refused(option, values, need):
    for value in values:
        p = nn.Parameter(torch.zeros(1))
        with pytest.raises(ValueError, match=f"{option} must be {need}, got {value}"):
            BayesBiNN([p], **{"lr": 0.1, "num_data": 1, option: value})
        with pytest.raises(ValueError, match=f"{option} must be {need}, got {value}"):
            BayesBiNN([{"params": [p], option: value}], lr=0.1, num_data=1)
        optimizer = BayesBiNN([p], lr=0.1, num_data=1)
        with pytest.raises(ValueError, match=f"{option} must be {need}, got {value}"):
            optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(1))], option: value})
        assert len(optimizer.param_groups) == 1


def test_extreme_values_in_range_are_taken():
    BayesBiNN([nn.Parameter(torch.zeros(1))], lr=0, num_data=1, kl_weight=0, momentum=0.999, prior=-1e4)


def test_sparse_gradients_are_refused():
    p = nn.Parameter(torch.zeros(3, 2))
    p.grad = torch.eye(3)[:, :2].to_sparse()
    with pytest.raises(RuntimeError, match="does not support sparse gradients"):
        BayesBiNN([p], 0.1, num_data=1).step()


def test_num_data_is_required():
    with pytest.raises(TypeError, match="num_data"):
        BayesBiNN([nn.Parameter(torch.zeros(1))], lr=0.1)


def test_it_learns():
    """The frame as a whole: a teacher's signs are recovered, and the undecided weight stays undecided."""
    torch.manual_seed(0)
    x = torch.randn(256, 16)
    x[:, 3] = 0  # says nothing about weight 3
    teacher = bernoulli.sign(torch.randn(1, 16))
    y = (x @ teacher.T > 0).float()
    net = binarize_(nn.Sequential(nn.Linear(16, 1, bias=False)), init="zeros")
    optimizer = BayesBiNN(split_parameters(net)[0], 0.1, num_data=256, kl_weight=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        nn.functional.binary_cross_entropy_with_logits(net(x), y).backward()
        optimizer.step()
    layer = net[0]
    assert isinstance(layer, BinaryLinear)
    informed = [i for i in range(16) if i != 3]
    assert torch.equal(layer.weight[0, informed], teacher[0, informed])
    assert layer.natural[0, 3] == 0
    assert layer.natural[0, informed].abs().min() > 0.5


@pytest.mark.parametrize("foreach", [False, True])
def test_metaplasticity_damps_only_what_contradicts(foreach):
    values, grads, c = [2.0, 2.0, -2.0, -2.0, 0.0], [1.0, -1.0, 1.0, -1.0, 1.0], 0.3
    natural = nn.Parameter(torch.tensor(values))
    natural.grad = torch.tensor(grads)
    BayesBiNN([natural], lr=0.1, num_data=1, kl_weight=0.5, metaplasticity=c, foreach=foreach).step()
    damped = 1 - math.tanh(c * 2.0) ** 2
    expected = [
        value - 0.1 * (grad * (damped if value * grad > 0 else 1.0) + 0.5 * value)
        for value, grad in zip(values, grads, strict=True)
    ]
    assert torch.allclose(natural, torch.tensor(expected))


def test_the_limit_bounds_the_prior():
    natural = nn.Parameter(torch.tensor([1.0, -9.0]))
    optimizer = BayesBiNN([natural], lr=0.1, num_data=1)
    optimizer.set_prior_to_posterior(2.0, limit=5.0)
    assert optimizer.prior_of(natural).tolist() == [2.0, -5.0]
    with pytest.raises(ValueError, match="limit must be above 0, got 0"):
        optimizer.set_prior_to_posterior(limit=0.0)

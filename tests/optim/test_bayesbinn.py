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
from bayesbinn.optim import FORMS

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
    optimizer = BayesBiNN(params, lr=0.1, num_data=10, kl_weight=kl_weight, prior=prior)
    optimizer.temper_(factor)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["num_data"], group["prior"]) == (0.1, 10, prior)
    assert group["kl_weight"] == pytest.approx(factor * kl_weight)
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


@given(lr=st.floats(0, 1), num_data=st.integers(1, 10**6), kl_weight=st.floats(1e-4, 1), prior=st.floats(-3, 3))
def test_one_step_is_the_rule(lr, num_data, kl_weight, prior):
    params = parameters(torch.float64)
    optimizer = BayesBiNN(params, lr, num_data=num_data, kl_weight=kl_weight, prior=prior)
    set_grads(params, seed=1)
    expected = [p - lr * ((p - prior) + num_data / kl_weight * p.grad) for p in params]
    optimizer.step()
    for p, e in zip(params, expected, strict=True):
        torch.testing.assert_close(p.detach(), e.detach(), rtol=1e-12, atol=1e-12 * (1 + lr * num_data / kl_weight))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("prior", [0.0, 0.4, "posterior"])
@pytest.mark.parametrize("kl_weight", [1.0, 0.004])
def test_it_is_the_former_rule_with_its_lr_converted(momentum, prior, kl_weight):
    """λ ← λ − lr (N g + k (λ − λ₀)), as it stood before lr and kl_weight were made independent: new lr = lr · k."""
    lr, n = 0.02 / kl_weight, 60_000
    ours = parameters(torch.float64)
    optimizer = BayesBiNN(
        ours,
        lr * kl_weight,
        num_data=n,
        kl_weight=kl_weight,
        momentum=momentum,
        prior=0.0 if prior == "posterior" else prior,
    )
    former = [p.detach().clone() for p in ours]
    priors = [torch.full_like(p, 0.0 if prior == "posterior" else prior) for p in ours]
    if prior == "posterior":
        optimizer.set_prior_to_posterior()
        priors = [p.clone() for p in former]
    momenta = [torch.zeros_like(p) for p in former]
    for t in range(1, 101):
        set_grads(ours, seed=t)
        for p, natural, origin, m in zip(ours, former, priors, momenta, strict=True):
            descent = n * p.grad + kl_weight * (natural - origin)
            if momentum:
                m.mul_(momentum).add_((1 - momentum) * descent)
                descent = m / (1 - momentum**t)
            natural.sub_(lr * descent)
        optimizer.step()
        for p, natural in zip(ours, former, strict=True):
            scale = float(natural.abs().max())
            torch.testing.assert_close(p.detach(), natural, rtol=1e-12, atol=1e-12 * scale)


def slow_step(natural, grad, prior, state, form, lr, ratio, beta, beta2, eps):
    """The rule as its docstring has it, one number after the other."""
    g = (natural - prior) + ratio * grad
    square = {
        "weight": lambda: g * g,
        "tensor": lambda: (g * g).mean(),
        "factored": lambda: ((g * g).flatten(1).mean(1), (g * g).flatten(1).mean(0)),
    }.get(form, lambda: None)()
    state["t"] = t = state.get("t", 0) + 1
    state["m"] = beta * state.get("m", 0) + (1 - beta) * g
    rho = torch.tensor(lr, dtype=torch.float64)
    if form == "weight":
        state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * square
        rho = (lr / ((state["v"] / (1 - beta2**t)).sqrt() + eps)).clamp(max=1)
    elif form == "tensor":
        before = state["v"] / (1 - beta2 ** (t - 1)) if t > 1 else square
        rho = (lr / (before.sqrt() + eps)).clamp(max=1)
        state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * square
    elif form == "factored":
        now = state.get("v", (0, 0))
        rows, columns = [v / (1 - beta2 ** (t - 1)) for v in now] if t > 1 else square
        v = torch.outer(rows, columns) / rows.mean()
        rho = (lr / (v.sqrt() + eps)).clamp(max=1).view_as(g)
        state["v"] = tuple(beta2 * a + (1 - beta2) * b for a, b in zip(now, square, strict=True))
    return natural - rho * state["m"] / (1 - beta**t)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_every_form_is_its_equation(form, momentum):
    options = {"form": form, "momentum": momentum, "beta2": 0.9, "prior": 0.3}
    p = nn.Parameter(torch.randn(5, 2, 3, dtype=torch.float64))
    optimizer = BayesBiNN([p], 0.2, num_data=50, kl_weight=0.5, **options)
    expected, state = p.detach().clone(), {}
    for _ in range(30):
        p.grad = torch.randn_like(p) / 10
        expected = slow_step(expected, p.grad, 0.3, state, form, 0.2, 100.0, momentum, 0.9, 1e-8)
        optimizer.step()
        torch.testing.assert_close(p.detach(), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_rests_at_the_same_posterior(form):
    p = nn.Parameter(torch.tensor([[5.0, 1.0, -2.0]], dtype=torch.float64))
    optimizer = BayesBiNN([p], 0.1, num_data=100, kl_weight=0.1, prior=0.5, form=form, momentum=0.5)
    for _ in range(1500):
        p.grad = torch.tensor([[1e-3, 0.0, -2e-3]], dtype=torch.float64)
        optimizer.step()
    torch.testing.assert_close(p.detach(), torch.tensor([[-0.5, 0.5, 2.5]], dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lr", [0.1, 1.0, 30.0])
def test_a_weight_that_never_sees_a_gradient_goes_to_its_prior(form, lr):
    """Dead weights beside live ones, and a tensor that is dead as a whole."""
    torch.manual_seed(0)
    live, dead = nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.full((3, 2), -2.0))
    optimizer = BayesBiNN([live, dead], lr if form != "plain" else min(lr, 1.0), num_data=10**6, form=form, prior=0.25)
    for _ in range(600):
        live.grad, dead.grad = torch.randn(4, 6), torch.zeros(3, 2)
        live.grad[:, 0] = 0
        optimizer.step()
    assert live.isfinite().all()
    torch.testing.assert_close(dead.detach(), torch.full((3, 2), 0.25))
    assert (live[:, 0] - 0.25).abs().max() <= 0.75


def test_one_lr_serves_any_number_of_examples():
    """An adaptive step does not depend on num_data once the data outweigh the prior."""
    for form in ("tensor", "factored", "weight"):
        ends = []
        for n in (10**5, 10**7):
            p = nn.Parameter(torch.zeros(4, 3, dtype=torch.float64))
            optimizer = BayesBiNN([p], 0.1, num_data=n, form=form, momentum=0.9)
            run(optimizer, [p], 50)
            ends.append(p.detach())
        torch.testing.assert_close(ends[0], ends[1], rtol=1e-2, atol=1e-2)


def test_averages_are_right_when_their_coefficients_are_scheduled():
    """Constant gradients have themselves as average, whatever the coefficients were."""
    for form in ("plain", "weight"):
        p = nn.Parameter(torch.zeros(1))
        optimizer = BayesBiNN([p], 1e-6, num_data=1, momentum=0.9, beta2=0.9, form=form)
        for t in range(60):
            if t == 50:
                optimizer.param_groups[0].update(momentum=0.999, beta2=0.9999)
            before = p.item()
            p.grad = torch.ones(1)
            optimizer.step()
            assert before - p.item() == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize("form", ["tensor", "factored", "weight"])
def test_temper_scales_what_is_remembered_with_lambda(form):
    """Tempered to c times λ with c times the lr, the rule takes the same steps, c times as large."""
    c, ends = 8.0, []
    for tempered in (False, True):
        p = nn.Parameter(torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(5)))
        optimizer = BayesBiNN([p], 0.1, num_data=1000, form=form, momentum=0.9)
        run(optimizer, [p], 5)
        if tempered:
            optimizer.temper_(1 / c)
            optimizer.param_groups[0]["lr"] *= c
        run(optimizer, [p], 5, first=5)
        ends.append(p.detach())
    torch.testing.assert_close(ends[1], c * ends[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_state_of_parameters_in_another_order_is_refused(form):
    """A kernel would have read and written beyond the end of the smaller one."""
    a, b = torch.zeros(4, requires_grad=True), torch.zeros(1000, requires_grad=True)
    a.grad, b.grad = torch.ones(4), torch.ones(1000)
    first = BayesBiNN([a, b], lr=0.1, num_data=1, momentum=0.9, form=form)
    first.step()
    second = BayesBiNN([b, a], lr=0.1, num_data=1, momentum=0.9, form=form)
    with pytest.raises(ValueError, match=r"momentum of shape \(4,\), the parameter has shape \(1000,\)"):
        second.load_state_dict(first.state_dict())


@pytest.mark.parametrize("form", FORMS)
def test_a_bfloat16_posterior_keeps_its_averages_in_float32(form):
    def new():
        p = nn.Parameter(torch.linspace(-1, 1, 96).reshape(8, 12).to(torch.bfloat16))
        return p, BayesBiNN([p], 0.01, num_data=10, form=form, momentum=0.9)

    def go(p, optimizer, first):
        for t in range(first, first + 5):
            torch.manual_seed(t)
            p.grad = torch.randn(8, 12).to(torch.bfloat16)
            optimizer.step()

    p, optimizer = new()
    go(p, optimizer, 0)
    q, resumed = new()
    with torch.no_grad():
        q.copy_(p)
    resumed.load_state_dict(saved(optimizer.state_dict()))
    assert resumed.state[q]["momentum"].dtype == torch.float32
    go(p, optimizer, 5)
    go(q, resumed, 5)
    assert torch.equal(p, q)


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


def test_fixed_point_is_the_prior_shifted_by_the_gradient():
    """With a constant gradient λ settles where λ − λ₀ = −N g / k, whatever the momentum."""
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
    optimizer = BayesBiNN([p], 0.5, num_data=1)

    def closure():
        optimizer.zero_grad()
        loss = (p * torch.tensor([1.0, 2.0])).sum()
        loss.backward()
        return loss

    with torch.no_grad():
        assert optimizer.step(closure).item() == 3.0
    assert p.tolist() == [0.0, -0.5]
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
    optimizer.param_groups[0].update(lr=0.1, num_data=100, kl_weight=2.0, prior=3.0)
    p.grad = torch.ones(1)
    optimizer.step()
    assert p.item() == pytest.approx(-0.1 * (50 - 3))
    optimizer.param_groups[0].update(lr=1.0, kl_weight=1.0)
    p.grad = torch.zeros(1)
    optimizer.step()
    assert p.item() == pytest.approx(3.0)


def test_set_prior_to_posterior():
    params = parameters()
    optimizer = BayesBiNN(params, 0.1, num_data=10, momentum=0.9)
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("new_prior", [False, True])
def test_state_dict_resumes_bit_for_bit(form, momentum, new_prior):
    params = parameters()
    optimizer = BayesBiNN(params, 0.1, num_data=10, momentum=momentum, kl_weight=0.3, form=form)
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


@pytest.mark.parametrize(
    ("option", "values", "need"),
    [
        ("lr", [-0.1, 1.5, float("inf"), float("nan")], r"in \[0, 1\], the share of λ that a step replaces"),
        ("num_data", [0, -5, 0.5, float("inf"), float("nan")], "at least 1"),
        ("kl_weight", [0, -0.1, float("inf"), float("nan")], r"a finite number above 0 \(without .*\)"),
        ("form", ["adaptive", ""], "one of plain, tensor, factored, weight"),
        ("beta2", [-0.1, 1.0], r"in \[0, 1\)"),
        ("eps", [-1e-9, float("inf")], "a finite number of at least 0"),
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
    BayesBiNN([nn.Parameter(torch.zeros(1))], lr=0, num_data=1, kl_weight=1e-12, momentum=0.999, prior=-1e4)
    BayesBiNN([nn.Parameter(torch.zeros(1))], lr=1e6, num_data=1, form="weight")


def test_a_schedule_that_leaves_the_range_is_refused():
    p = nn.Parameter(torch.zeros(1))
    optimizer = BayesBiNN([p], 0.5, num_data=1)
    optimizer.param_groups[0]["kl_weight"] = 0.0
    p.grad = torch.ones(1)
    with pytest.raises(ValueError, match="kl_weight must be a finite number above 0"):
        optimizer.step()
    assert p.item() == 0


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


def test_a_bfloat16_posterior_cools_by_factors_that_it_cannot_hold():
    """1.001 is nearer to 1 than the next bfloat16: rounded to the nearest, λ would not move at all."""
    p = nn.Parameter(torch.ones(20_000, dtype=torch.bfloat16))
    optimizer = BayesBiNN([p], 0.1, num_data=1)
    for _ in range(100):
        optimizer.temper_(1 / 1.001)
    assert p.double().mean().item() == pytest.approx(1.001**100, rel=5e-3)


def test_the_factored_form_takes_gradients_whose_fourth_power_float32_cannot_hold():
    p = nn.Parameter(torch.ones(3, 4))
    optimizer = BayesBiNN([p], 0.1, num_data=1, form="factored")
    for _ in range(3):
        p.grad = torch.full((3, 4), 1e12)
        optimizer.step()
    torch.testing.assert_close(p.detach(), torch.full((3, 4), 0.7))

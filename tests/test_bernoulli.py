"""The Bernoulli family against direct formulas in 60-digit decimals, and its laws."""

import math
from decimal import Decimal, localcontext

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bayesbinn import bernoulli

LAMBDAS = [
    sign * x for x in (0.0, 1e-6, 1e-3, 0.1, 0.5, 1, 3, 8.5, 10, 15, 20, 30, 43, 44, 100, 1e3, 1e4) for sign in (1, -1)
]
TINY = 2e-38  # about the smallest normal float32: below it there are no digits to compare


def oracle(name, natural, prior=0.0):
    """The textbook formula, evaluated with 60 digits (p and 1 - p each on its own, so nothing cancels)."""
    with localcontext() as context:
        context.prec, context.Emin = 60, -(10**9)
        two, one = Decimal(2), Decimal(1)
        p, q = (one / (one + (-two * s * Decimal(natural)).exp()) for s in (1, -1))
        p0, q0 = (one / (one + (-two * s * Decimal(prior)).exp()) for s in (1, -1))
        return float(
            {
                "mean": lambda: p - q,
                "prob": lambda: p,
                "log_variance": lambda: (4 * p * q).ln(),
                "variance": lambda: 4 * p * q,
                "entropy": lambda: -p * p.ln() - q * q.ln(),
                "kl_divergence": lambda: p * (p.ln() - p0.ln()) + q * (q.ln() - q0.ln()),
            }[name]()
        )


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 3e-6), (torch.float64, 2e-12)])
@pytest.mark.parametrize("name", ["mean", "prob", "log_variance", "variance", "entropy"])
def test_formula_up_to_1e4(name, dtype, rtol):
    natural = torch.tensor(LAMBDAS, dtype=dtype)
    found = getattr(bernoulli, name)(natural)
    expected = torch.tensor([oracle(name, x) for x in natural.tolist()], dtype=torch.float64)
    assert found.dtype == dtype
    atol = {"log_variance": rtol}.get(name, TINY)  # log 1 = 0 at λ = 0: no relative error there
    torch.testing.assert_close(found.double(), expected, rtol=rtol * (1 if name != "variance" else 10), atol=atol)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kl_up_to_1e4(dtype):
    grid = torch.tensor(LAMBDAS, dtype=dtype)
    natural, prior = (t.flatten() for t in torch.meshgrid(grid, grid, indexing="ij"))
    found = bernoulli.kl_divergence(natural, prior)
    expected = [oracle("kl_divergence", a, b) for a, b in zip(natural.tolist(), prior.tolist(), strict=True)]
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), torch.tensor(expected, dtype=torch.float64), rtol=20 * eps, atol=2 * eps)


def test_kl_keeps_its_digits_when_both_are_nearly_certain():
    found = bernoulli.kl_divergence(torch.tensor([20.0, 30.0]), torch.tensor([25.0, 22.0]))
    expected = torch.tensor([oracle("kl_divergence", 20, 25), oracle("kl_divergence", 30, 22)])
    assert (expected < 1e-16).all()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", ["mean", "prob", "log_variance", "variance", "entropy", "kl_divergence"])
def test_float64_gradients_are_those_of_the_function(name):
    natural = torch.linspace(-3, 3, 13, dtype=torch.float64).add(0.01).requires_grad_()
    args = (torch.full_like(natural, 0.7, requires_grad=True),) if name == "kl_divergence" else ()
    assert torch.autograd.gradcheck(getattr(bernoulli, name), (natural, *args))


def test_float32_gradients_stay_right_up_to_1e4():
    natural = torch.tensor(LAMBDAS, requires_grad=True)
    variance = torch.tensor([oracle("variance", x) for x in natural.tolist()])
    (entropy_grad,) = torch.autograd.grad(bernoulli.entropy(natural).sum(), natural)
    torch.testing.assert_close(entropy_grad, -natural.detach() * variance, rtol=1e-5, atol=1e-7)
    for prior in (-1e4, -2.0, 0.3, 1e4):
        (kl_grad,) = torch.autograd.grad(bernoulli.kl_divergence(natural, prior).sum(), natural)
        torch.testing.assert_close(
            kl_grad, (natural.detach() - prior) * variance, rtol=1e-5, atol=1e-6 + 2e-7 * abs(prior)
        )
    (log_variance_grad,) = torch.autograd.grad(bernoulli.log_variance(natural).sum(), natural)
    torch.testing.assert_close(log_variance_grad, -2 * torch.tanh(natural.detach()))


def test_sign_is_never_zero():
    x = torch.tensor([-math.inf, -1e-45, -0.0, 0.0, 1e-45, math.inf])
    assert bernoulli.sign(x).tolist() == [-1, -1, 1, 1, 1, 1]
    assert bernoulli.sign(x.double()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_noise_is_finite_repeatable_and_of_the_dtype(dtype):
    like = torch.zeros(1000, dtype=dtype)
    noise = bernoulli.logistic_noise(like, torch.Generator().manual_seed(3))
    assert noise.dtype == dtype
    assert noise.isfinite().all()
    assert torch.equal(noise, bernoulli.logistic_noise(like, torch.Generator().manual_seed(3)))
    assert not torch.equal(noise, bernoulli.logistic_noise(like, torch.Generator().manual_seed(4)))


def test_noise_stays_finite_when_the_uniform_draw_is_0(monkeypatch):
    for dtype, smallest in ((torch.float32, 2.0**-24), (torch.float64, 2.0**-53)):
        edges = torch.tensor([0.0, smallest, 0.5, 1 - smallest], dtype=dtype)
        monkeypatch.setattr(torch, "rand", lambda *_, edges=edges, **__: edges.clone())
        noise = bernoulli.logistic_noise(edges)
        assert noise.isfinite().all()
        assert (noise.diff() > 0).all()  # also the clamped 0 stays below every other value
        torch.testing.assert_close(noise[1], 0.5 * torch.logit(edges[1]))


def test_noise_is_logistic():
    noise = bernoulli.logistic_noise(torch.zeros(40_000))
    cdf = torch.sigmoid(2 * noise.sort().values)
    steps = torch.linspace(0, 1, len(cdf))
    assert (cdf - steps).abs().max() < 1.95 / math.sqrt(len(cdf))  # Kolmogorov-Smirnov, p < 0.001


def test_samples_have_the_right_frequency():
    natural = torch.tensor([-10.0, -2.0, -0.5, 0.0, 0.3, 1.0, 10.0])
    count = 40_000
    for draw in (bernoulli.sample, lambda n: bernoulli.relaxed_sample(n, temperature=1e-10)):
        w = draw(natural.expand(count, -1))
        assert set(w.unique().tolist()) == {-1.0, 1.0}
        p = bernoulli.prob(natural)
        deviation = ((w > 0).double().mean(0) - p).abs()
        assert (deviation <= 5 * (p * (1 - p) / count).sqrt() + 1e-6).all()


@given(st.floats(-1e4, 1e4, width=32), st.floats(-1e4, 1e4, width=32))
def test_laws(natural, prior):
    natural, prior = torch.tensor(natural), torch.tensor(prior)
    entropy, variance = bernoulli.entropy(natural), bernoulli.variance(natural)
    kl = bernoulli.kl_divergence(natural, prior)
    assert 0 <= entropy <= math.log(2) + 1e-6
    assert 0 <= variance <= 1
    assert 0 <= kl < math.inf
    assert bernoulli.kl_divergence(natural, natural) == 0
    # symmetry: w -> -w
    assert bernoulli.mean(-natural) == -bernoulli.mean(natural)
    assert bernoulli.entropy(-natural) == entropy
    assert bernoulli.variance(-natural) == variance
    torch.testing.assert_close(bernoulli.prob(-natural) + bernoulli.prob(natural), torch.tensor(1.0))
    torch.testing.assert_close(bernoulli.kl_divergence(-natural, -prior), kl)
    # to the uniform prior, KL and entropy share out log 2
    torch.testing.assert_close(bernoulli.kl_divergence(natural) + entropy, torch.tensor(math.log(2)))
    # a binary variance is at most its entropy in bits
    assert variance <= entropy / math.log(2) + 1e-6


@given(st.floats(-20, 20, width=32), st.floats(-8, 8, width=32), st.floats(2**-20, 4, width=32))
def test_relaxed_sample_agrees_with_the_draw_in_sign(natural, noise, temperature):
    natural, noise = torch.tensor([natural]), torch.tensor([noise])
    relaxed = bernoulli.relaxed_sample(natural, temperature, noise)
    hard = bernoulli.sample(natural, noise)
    assert hard.abs() == 1
    assert relaxed.abs() <= 1
    assert relaxed * hard >= 0

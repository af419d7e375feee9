"""The posterior of tiny networks against the enumeration of all their weight vectors."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bayesbinn import BayesBiNN, bernoulli, draw, predict, predict_regression
from bayesbinn.binarizers import StraightThroughSample
from tests.exact.tiny import Tiny


def two_layers():
    return nn.Sequential(nn.Linear(2, 3, bias=False), nn.Tanh(), nn.Linear(3, 1, bias=False))


def index_of(vectors):
    """Row of each ±1 vector (..., n) in the enumeration."""
    bits = (vectors > 0).long()
    return (bits << torch.arange(bits.shape[-1] - 1, -1, -1)).sum(-1)


def chi_square_is_small(counts, probs):
    """Whether the counts fit the probabilities, at five standard deviations of the chi-square statistic."""
    expected = probs * counts.sum()
    common = expected >= 5
    observed = torch.cat([counts[common], counts[~common].sum()[None]])
    expected = torch.cat([expected[common], expected[~common].sum()[None]])
    if expected[-1] < 1e-9:
        observed, expected = observed[:-1], expected[:-1]
    degrees = len(expected) - 1
    statistic = ((observed - expected) ** 2 / expected).sum()
    return statistic < degrees + 5 * math.sqrt(2 * degrees)


def test_enumeration_is_a_distribution():
    tiny = Tiny(two_layers())
    assert tiny.weights.unique(dim=0).shape == (2**9, 9)
    assert tiny.probs().sum().item() == pytest.approx(1)
    assert torch.equal(index_of(tiny.weights), torch.arange(2**9))
    torch.testing.assert_close(tiny.probs() @ tiny.weights, torch.tanh(tiny.natural))


@pytest.mark.parametrize("spread", [0.0, 0.7, 2.0])
def test_whole_networks_are_drawn_with_their_probability(spread):
    """Independence between weights and layers included: the counts are of whole weight vectors."""
    tiny, generator, count = Tiny(two_layers(), spread), torch.Generator().manual_seed(1), 6000
    vectors = torch.stack([torch.cat([w.flatten() for w in draw(tiny.net, generator).values()]) for _ in range(count)])
    counts = index_of(vectors).bincount(minlength=2**9).double()
    assert chi_square_is_small(counts, tiny.probs())
    assert not chi_square_is_small(counts, tiny.probs(tiny.natural + 0.3))  # the test can fail


def test_training_draws_have_the_same_frequencies():
    tiny, count, seen = Tiny(nn.Sequential(nn.Linear(2, 3, bias=False))), 6000, []

    class Recorded(StraightThroughSample):
        def binarize(self, natural, noise=None):
            seen.append(super().binarize(natural, noise))
            return seen[-1]

    tiny.net[0].binarizer = Recorded()
    tiny.net.train()
    for _ in range(count):
        tiny.net(tiny.x)
    counts = index_of(torch.stack(seen).flatten(1)).bincount(minlength=2**6).double()
    assert chi_square_is_small(counts, tiny.probs())


NET = Tiny(two_layers(), seed=3)
LOSSES = NET.loss(NET.outputs())  # mean loss of each of the 512 networks
NUM_DATA = len(NET.x)


@given(
    st.lists(st.floats(-6, 6), min_size=9, max_size=9),
    st.lists(st.floats(-2, 2), min_size=9, max_size=9),
)
def test_elbo_is_at_most_the_log_evidence(natural, prior):
    natural, prior = (torch.tensor(v, dtype=torch.float64) for v in (natural, prior))
    log_evidence = torch.logsumexp(NET.probs(prior).log() - NUM_DATA * LOSSES, 0)
    kl = bernoulli.kl_divergence(natural, prior).sum()
    q = NET.probs(natural)
    elbo = -(NUM_DATA * (q @ LOSSES)) - kl
    assert kl >= 0
    assert elbo <= log_evidence + 1e-9
    # the same KL by its definition over all weight vectors
    torch.testing.assert_close(kl, (q * (q.log() - NET.probs(prior).log())).sum(), rtol=1e-8, atol=1e-10)
    # and the gap is the KL to the true posterior
    posterior = torch.softmax(NET.probs(prior).log() - NUM_DATA * LOSSES, 0)
    torch.testing.assert_close(log_evidence - elbo, (q * (q.log() - posterior.log())).sum(), rtol=1e-7, atol=1e-8)


def test_elbo_of_one_weight_reaches_the_log_evidence():
    """One weight: the Bernoulli family holds the true posterior, so the bound is tight at λ₀ − N ∂E[ℓ]/∂μ."""
    tiny = Tiny(nn.Sequential(nn.Linear(1, 1, bias=False)))
    tiny.x = tiny.x[:, :1]
    losses, n, prior = tiny.loss(tiny.outputs()), len(tiny.x), 0.3
    log_evidence = torch.logsumexp(tiny.probs(torch.tensor([prior])).double().log() - n * losses, 0)
    natural = prior - n * tiny.exact_gradient(losses)
    elbo = -n * (tiny.probs(natural) @ losses) - bernoulli.kl_divergence(natural, prior).sum()
    torch.testing.assert_close(elbo, log_evidence, rtol=1e-6, atol=1e-7)


def test_exact_gradient_is_the_derivative_of_the_expectation():
    tiny = Tiny(two_layers(), seed=3)
    losses = tiny.loss(tiny.outputs())
    mean = torch.tanh(tiny.natural).requires_grad_()
    expectation = ((1 + tiny.weights * mean) / 2).prod(-1) @ losses
    (autograd,) = torch.autograd.grad(expectation, mean)
    torch.testing.assert_close(tiny.exact_gradient(losses), autograd)


def test_the_rule_with_exact_gradients_climbs_the_elbo_to_a_stationary_point():
    """Natural gradient ascent: with ∂E[ℓ]/∂μ enumerated, the ELBO rises at every step, to λ = λ₀ − N ∂E[ℓ]/∂μ."""
    tiny = Tiny(two_layers(), seed=3)
    losses, n = tiny.loss(tiny.outputs()), len(tiny.x)
    optimizer = BayesBiNN([layer.natural for layer in tiny.layers.values()], 0.2, num_data=n, prior=0.1)
    elbos = []
    for _ in range(300):
        gradient = tiny.named(tiny.exact_gradient(losses))
        for name, layer in tiny.layers.items():
            layer.natural.grad = gradient[name]
        elbos.append(float(-n * (tiny.probs() @ losses) - optimizer.kl_divergence()))
        optimizer.step()
    assert elbos[-1] > elbos[0] + 0.1
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(elbos))
    torch.testing.assert_close(tiny.natural, 0.1 - n * tiny.exact_gradient(losses), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_mean_prediction_converges_to_the_posterior_predictive(spread):
    tiny, num_samples = Tiny(two_layers(), spread), 4000
    logits = torch.cat([tiny.outputs(), torch.zeros(2**9, len(tiny.x), 1)], -1)  # two classes: sigmoid as softmax
    probs, q = logits.softmax(-1), tiny.probs()[:, None, None]
    expected = (q * probs).sum(0)
    deviation = (q * (probs - expected) ** 2).sum(0).sqrt()
    net = nn.Sequential(tiny.net, nn.ConstantPad1d((0, 1), 0.0))
    found = predict(net, tiny.x, num_samples, seed=4)
    assert ((found.probs - expected).abs() <= 5 * deviation / math.sqrt(num_samples) + 1e-12).all()
    entropies = torch.special.entr(probs).sum(-1)
    aleatoric = (tiny.probs()[:, None] * entropies).sum(0)
    torch.testing.assert_close(found.expected_entropy, aleatoric, rtol=0, atol=0.03)
    torch.testing.assert_close(
        found.mutual_information, torch.special.entr(expected).sum(-1) - aleatoric, rtol=0, atol=0.03
    )


def test_regression_converges_to_the_posterior_moments():
    tiny, num_samples = Tiny(two_layers(), 0.5), 4000
    outputs, q = tiny.outputs(), tiny.probs()[:, None, None]
    mean = (q * outputs).sum(0)
    std = (q * (outputs - mean) ** 2).sum(0).sqrt()
    found = predict_regression(tiny.net, tiny.x, num_samples)
    assert ((found.mean - mean).abs() <= 5 * std / math.sqrt(num_samples)).all()
    torch.testing.assert_close(found.std, std, rtol=0.06, atol=0)

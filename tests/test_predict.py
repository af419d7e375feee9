"""Monte-Carlo prediction against plain numpy."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from bayesbinn import BinaryLinear, binarize_, predict, predict_regression, sampled_weights
from bayesbinn.binarizers import SignSTE


def classifier(**options):
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
    return binarize_(net, init="zeros", **options)


def outputs(net, x, num_samples, seed):
    """(S, B, ...) by the obvious loop."""
    net.eval()
    generator, outs = torch.Generator().manual_seed(seed), []
    for _ in range(num_samples):
        with torch.no_grad(), sampled_weights(net, generator):
            outs.append(net(x).numpy())
    return np.stack(outs).astype(np.float64)


def entropy(p):
    return -(p * np.log(np.maximum(p, 1e-300))).sum(-1)


@pytest.mark.parametrize("num_samples", [1, 2, 9])
def test_mean_prediction_and_its_uncertainty(num_samples):
    net, x = classifier(), torch.randn(20, 6)
    found = predict(net, x, num_samples, seed=5)
    logits = outputs(net, x, num_samples, seed=5)
    probs = np.exp(logits - logits.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    mean = probs.mean(0)
    votes = np.stack([(probs.argmax(-1) == c).sum(0) for c in range(3)])
    close = {"rtol": 1e-5, "atol": 1e-6}
    np.testing.assert_allclose(found.probs.numpy(), mean, **close)
    np.testing.assert_allclose(found.entropy.numpy(), entropy(mean), **close)
    np.testing.assert_allclose(found.expected_entropy.numpy(), entropy(probs).mean(0), **close)
    np.testing.assert_allclose(found.mutual_information.numpy(), entropy(mean) - entropy(probs).mean(0), atol=2e-6)
    np.testing.assert_allclose(found.variation_ratio.numpy(), 1 - votes.max(0) / num_samples, **close)
    np.testing.assert_array_equal(found.labels.numpy(), found.probs.numpy().argmax(-1))
    assert found.num_samples == num_samples
    assert (found.mutual_information >= 0).all()
    if num_samples > 1:
        assert found.mutual_information.max() > 1e-3
        assert found.variation_ratio.max() > 0


def test_it_averages_probabilities_not_logits():
    net, x = classifier(), torch.randn(20, 6)
    logits = torch.from_numpy(outputs(net, x, 8, seed=0).mean(0))
    assert (predict(net, x, 8).probs - logits.softmax(-1)).abs().max() > 1e-2


def test_mode():
    net, x = classifier(), torch.randn(20, 6)
    found = predict(net, x, num_samples=0)
    with torch.no_grad():
        expected = net.eval()(x).softmax(-1)
    torch.testing.assert_close(found.probs, expected)
    assert found.num_samples == 0
    assert found.mutual_information.abs().max() == 0
    assert found.variation_ratio.abs().max() == 0
    torch.testing.assert_close(found.entropy, found.expected_entropy)
    twin = predict(classifier(binarizer=SignSTE()), x, num_samples=0)  # no posterior is needed for the mode
    torch.testing.assert_close(twin.probs, found.probs)


@pytest.mark.parametrize("function", [predict, predict_regression])
@pytest.mark.parametrize("batch_size", [1, 7, 20, 1000])
def test_batches_change_nothing(function, batch_size):
    net, x = classifier(), torch.randn(20, 6)
    whole, batched = (function(net, x, 5, batch_size=b) for b in (20, batch_size))
    for field in dataclasses.fields(whole):
        torch.testing.assert_close(getattr(whole, field.name), getattr(batched, field.name), rtol=1e-5, atol=1e-6)


def test_seed_decides_and_global_randomness_is_untouched():
    net, x = classifier(), torch.randn(20, 6)
    state = torch.get_rng_state()
    first, second, other = (predict(net, x, 4, seed=s).probs for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_more_samples_begin_with_the_same_networks():
    net, x = classifier(), torch.randn(20, 6)
    one, two = (predict_regression(net, x, s, seed=2).mean for s in (1, 2))
    all_outputs = outputs(net, x, 2, seed=2)
    np.testing.assert_allclose(one.numpy(), all_outputs[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(two.numpy(), all_outputs.mean(0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_samples", [1, 2, 9])
def test_regression(num_samples):
    net, x = binarize_(nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 2)), init="zeros"), torch.randn(11, 6)
    found = predict_regression(net, x, num_samples, seed=3)
    expected = outputs(net, x, num_samples, seed=3)
    assert found.mean.shape == (11, 2)
    np.testing.assert_allclose(found.mean.numpy(), expected.mean(0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.std.numpy(), expected.std(0), rtol=1e-4, atol=1e-5)
    mode = predict_regression(net, x, num_samples=0)
    torch.testing.assert_close(mode.mean, net.eval()(x).detach())
    assert mode.std.abs().max() == 0


def test_regression_keeps_small_deviations_beside_a_large_mean():
    net = nn.Sequential(BinaryLinear(8, 1, init="zeros"))
    with torch.no_grad():
        net[0].bias.fill_(1e4)
    x = torch.full((1, 8), 0.125)
    std = predict_regression(net, x, 64, seed=0).std.item()
    assert std == pytest.approx(outputs(net, x, 64, seed=0).std(), rel=1e-3)


def test_modes_and_weights_are_restored():
    net, x = classifier().train(), torch.randn(20, 6)
    net[1].eval()
    before = [m.training for m in net.modules()]
    buffers = [b.clone() for b in net.buffers()]
    weight = net[0].weight
    predict(net, x, 3)
    assert [m.training for m in net.modules()] == before
    assert all(torch.equal(a, b) for a, b in zip(buffers, net.buffers(), strict=True))
    assert torch.equal(net[0].weight, weight)
    with pytest.raises(RuntimeError):
        predict(net, torch.randn(20, 5), 3)  # the network itself fails
    assert [m.training for m in net.modules()] == before
    assert torch.equal(net[0].weight, weight)


def test_no_graph_is_kept():
    x = torch.randn(20, 6, requires_grad=True)
    found = predict(classifier(), x, 2)
    assert not any(getattr(found, f.name).requires_grad for f in dataclasses.fields(found)[:-1])


def test_low_precision_networks_and_extreme_logits():
    net = classifier().bfloat16()
    found = predict(net, torch.randn(20, 6).bfloat16(), 3)
    assert found.probs.dtype == torch.float32
    torch.testing.assert_close(found.probs.sum(-1), torch.ones(20))
    net = nn.Sequential(BinaryLinear(6, 3))
    found = predict(net, torch.randn(20, 6) * 1e6, 5)
    assert found.probs.isfinite().all()
    assert found.entropy.isfinite().all()
    assert found.mutual_information.isfinite().all()
    assert predict(net.double(), torch.randn(4, 6).double(), 2).probs.dtype == torch.float64


def test_a_network_without_parameters():
    assert predict(nn.Flatten(), torch.zeros(2, 3), 0).probs.tolist() == [[pytest.approx(1 / 3)] * 3] * 2


@pytest.mark.parametrize("function", [predict, predict_regression])
def test_errors_name_the_value_and_the_fix(function):
    net, x = classifier(), torch.randn(4, 6)
    with pytest.raises(ValueError, match=r"num_samples must be at least 0 \(0 is the mode\), got -1"):
        function(net, x, -1)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        function(net, x, 2, batch_size=0)
    with pytest.raises(ValueError, match=r"x must hold at least one input, got shape \(0, 6\)"):
        function(net, x[:0], 2)
    for without in (nn.Linear(6, 3), classifier(binarizer=SignSTE())):
        with pytest.raises(ValueError, match="num_samples is 2, but this network has no posterior to draw from: use 0"):
            function(without, x, 2)


def test_predict_needs_logits_of_two_dimensions():
    net = nn.Sequential(BinaryLinear(6, 3))
    with pytest.raises(ValueError, match=r"needs a network output of shape \(B, C\), got \(2, 4, 3\)"):
        predict(net, torch.randn(2, 4, 6), 2)
    assert predict_regression(net, torch.randn(2, 4, 6), 2).mean.shape == (2, 4, 3)

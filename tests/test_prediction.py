"""Monte-Carlo prediction against plain numpy, and what votes: draws, members, masks."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from bayesbinn import BinaryLinear, binarize_, calibrate_, predict, predict_regression, sampled_weights
from bayesbinn.binarizers import SignSTE
from bayesbinn.nn.batch_norm import own_statistics
from bayesbinn.prediction import average, dropout_outputs, ensemble_outputs, posterior_outputs


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
    with pytest.raises(ValueError, match=r"num_samples must be 'moments' or at least 0 \(0 is the mode\), got -1"):
        function(net, x, -1)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        function(net, x, 2, batch_size=0)
    with pytest.raises(ValueError, match=r"there must be at least one input, got \(0, 6\)"):
        function(net, x[:0], 2)
    for without in (nn.Linear(6, 3), classifier(binarizer=SignSTE())):
        with pytest.raises(ValueError, match="num_samples is 2, but this network has no posterior to draw from: use 0"):
            function(without, x, 2)


def test_predict_needs_logits_of_two_dimensions():
    net = nn.Sequential(BinaryLinear(6, 3))
    with pytest.raises(ValueError, match=r"needs a network output of shape \(B, C\), got \(2, 4, 3\)"):
        predict(net, torch.randn(2, 4, 6), 2)
    assert predict_regression(net, torch.randn(2, 4, 6), 2).mean.shape == (2, 4, 3)


@pytest.mark.parametrize("num_samples", [0, 4])
def test_one_logit_is_refused_and_the_message_says_what_works(num_samples):
    net, x = nn.Sequential(BinaryLinear(4, 1, init="zeros")).eval(), torch.randn(9, 4)
    with pytest.raises(
        ValueError, match=r"one logit \(shape \(9, 1\)\): use two; from one for a sigmoid, output=lambda"
    ):
        predict(net, x, num_samples)
    found = predict(net, x, num_samples, output=lambda z: torch.cat([torch.zeros_like(z), z], 1))
    sigmoid = (
        torch.from_numpy(outputs(net, x, num_samples, seed=0)).sigmoid().mean(0) if num_samples else net(x).sigmoid()
    )
    torch.testing.assert_close(found.probs[:, 1:], sigmoid.float().detach())
    assert predict_regression(net, x, num_samples).mean.shape == (9, 1)


class TwoInputs(nn.Module):
    """Adds what it sees in two inputs, and returns several things."""

    def __init__(self):
        super().__init__()
        self.left, self.right = BinaryLinear(6, 3, init="zeros"), BinaryLinear(5, 3, init="zeros")
        self.norm = nn.BatchNorm1d(3)

    def forward(self, left, right):
        logits = self.norm(self.left(left) + self.right(right))
        return {"logits": logits, "all": (logits, -logits)}


def test_several_inputs_and_several_outputs():
    net, left, right = TwoInputs(), torch.randn(20, 6), torch.randn(20, 5)
    expected = predict(net, (left, right), 4, output="logits", batch_size=7).probs
    kinds = [
        {"right": right, "left": left},
        (left.numpy(), right.double().numpy()),
        [((left[:8], right[:8]), torch.zeros(8)), ((left[8:], right[8:]), torch.zeros(12))],
        [{"left": left[:8], "right": right[:8]}, {"left": left[8:], "right": right[8:]}],
        DataLoader([((a, b), 0) for a, b in zip(left, right, strict=True)], batch_size=6),
    ]
    for x in kinds:
        torch.testing.assert_close(predict(net, x, 4, output=lambda out: out["all"][0]).probs, expected)
        torch.testing.assert_close(
            predict(net, x, 4, output="logits", calibration=(left, right)).probs,
            predict(net, (left, right), 4, output="logits", calibration=kinds[0]).probs,
        )
    with pytest.raises(TypeError, match=r"returns dict, not a tensor: choose a part by output= \(an index, a key"):
        predict(net, (left, right), 2)
    with pytest.raises(ValueError, match=r"same number of examples, got shapes \[\(20, 6\), \(19, 5\)\]"):
        predict(net, (left, right[1:]), 2, output="logits")


@pytest.mark.parametrize("num_samples", [0, 5])
def test_a_loader_gives_what_its_inputs_give_together(num_samples):
    net, x = classifier(), torch.randn(20, 6)
    whole = predict(net, x, num_samples, seed=3)
    loader = DataLoader(TensorDataset(x, torch.zeros(20)), batch_size=6)
    for batches in (loader, iter(x.split(7)), [part.numpy() for part in x.split(1)], DataLoader(TensorDataset(x))):
        found = predict(net, batches, num_samples, seed=3)
        for field in dataclasses.fields(whole):
            torch.testing.assert_close(getattr(found, field.name), getattr(whole, field.name), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        predict_regression(net, loader, 5).std, predict_regression(net, x, 5).std, rtol=1e-5, atol=1e-6
    )


def test_inputs_that_are_none():
    net = classifier()
    used_up = iter(())
    for x, error, message in [
        ("images", TypeError, "or an iterable of batches such as a DataLoader, got str"),
        (TensorDataset(torch.randn(4, 6)), TypeError, "got TensorDataset"),
        (used_up, ValueError, "at least one batch of inputs, got none: is the iterator used up"),
        ([(torch.randn(4, 6),) * 3], ValueError, r"inputs or \(inputs, labels\), got 3 parts"),
        (torch.tensor(1.0), ValueError, r"at least one input, got \(\)"),
    ]:
        for calibration in (None, torch.randn(9, 6)):
            with pytest.raises(error, match=message):
                predict(net, x, 2, calibration=calibration)


@pytest.mark.parametrize("count", [993, 2, 33])
def test_calibration_has_no_batch_of_one(count):
    net, x, seen = classifier(), torch.randn(8, 6), torch.randn(count, 6)
    net[3].p = 0.0
    found, whole = (predict(net, x, 2, calibration=seen, batch_size=size).probs for size in (32, 1000))
    torch.testing.assert_close(found, whole, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="need at least 2 inputs, got 1"):
        predict(net, x, 2, calibration=seen[:1])


def test_the_running_average_is_the_prediction_of_every_smaller_number():
    net, x = classifier(), torch.randn(20, 6)
    for count, running in enumerate(average(posterior_outputs(net, x, 5, seed=3)), start=1):
        alone = predict(net, x, count, seed=3)
        for name in ("probs", "entropy", "mutual_information", "variation_ratio"):
            torch.testing.assert_close(getattr(running, name), getattr(alone, name))


def test_an_ensemble_asks_each_network_at_its_mode():
    nets, x = [classifier().requires_grad_(False), classifier().requires_grad_(False)], torch.randn(20, 6)
    nets[1][0].natural.data.fill_(-1)
    found = list(ensemble_outputs(nets, x, batch_size=7))
    for net, output in zip(nets, found, strict=True):
        torch.testing.assert_close(output, net.eval()(x))
    assert not torch.allclose(*found)


def test_dropout_masks_differ_repeat_by_seed_and_leave_the_generator_alone():
    net, x = classifier().eval().requires_grad_(False), torch.randn(20, 6)
    state = torch.get_rng_state()
    one, two = dropout_outputs(net, x, 2, seed=5)
    again = next(dropout_outputs(net, x, 2, seed=5))
    assert torch.equal(one, again)
    assert not torch.allclose(one, two)
    assert torch.equal(state, torch.get_rng_state())
    assert not any(m.training for m in net.modules())
    many = torch.stack(list(dropout_outputs(net, x, 500)))  # the last layer is linear in what is dropped
    assert ((many.mean(0) - net(x)).abs() / (many.std(0) / 500**0.5 + 1e-6)).max() < 5


def test_dropout_asked_of_a_network_without():
    with pytest.raises(ValueError, match="no active dropout"):
        next(dropout_outputs(nn.Linear(4, 3), torch.zeros(2, 4), 3))
    with pytest.raises(ValueError, match="at least 1"):
        next(dropout_outputs(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)), torch.zeros(2, 4), 0))


def test_each_network_calibrates_itself():
    net, x = classifier(), 3 + 2 * torch.randn(500, 6)
    calibrate_(net, x[:100])
    found = next(posterior_outputs(net, x, 1, seed=4, calibration=x, batch_size=500))
    with torch.no_grad(), sampled_weights(net.eval(), seed=4), own_statistics(net, x):
        torch.testing.assert_close(found, net(x))
    assert not torch.allclose(found, next(posterior_outputs(net, x, 1, seed=4)))

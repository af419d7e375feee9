"""Draws, members and masks: what votes, and that nothing is left changed."""

import pytest
import torch
from torch import nn

from bayesbinn import binarize_, sampled_weights
from bayesbinn.outputs import (
    batch_norm_statistics,
    calibrate_draws_,
    calibrate_mode_,
    dropout_outputs,
    ensemble_outputs,
    posterior_outputs,
)
from bayesbinn.predict import average, predict


def network():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
    binarize_(net, init="weights").train()(torch.randn(64, 6))  # running statistics of some kind
    return net


def test_the_running_average_is_the_prediction_of_every_smaller_number():
    net, x = network(), torch.randn(20, 6)
    for count, running in enumerate(average(posterior_outputs(net, x, 5, seed=3)), start=1):
        alone = predict(net, x, count, seed=3)
        for name in ("probs", "entropy", "mutual_information", "variation_ratio"):
            torch.testing.assert_close(getattr(running, name), getattr(alone, name))


def test_an_ensemble_asks_each_network_at_its_mode():
    nets, x = [network().requires_grad_(False), network().requires_grad_(False)], torch.randn(20, 6)
    nets[1][0].natural.data.neg_()
    found = list(ensemble_outputs(nets, x, batch_size=7))
    for net, output in zip(nets, found, strict=True):
        torch.testing.assert_close(output, net.eval()(x))
    assert not torch.allclose(*found)


def test_dropout_masks_differ_repeat_by_seed_and_leave_the_generator_alone():
    net, x = network().eval().requires_grad_(False), torch.randn(20, 6)
    state = torch.get_rng_state()
    one, two = dropout_outputs(net, x, 2, seed=5)
    again = next(dropout_outputs(net, x, 2, seed=5))
    assert torch.equal(one, again)
    assert not torch.allclose(one, two)
    assert torch.equal(state, torch.get_rng_state())
    assert not any(m.training for m in net.modules())
    many = torch.stack(list(dropout_outputs(net, x, 500)))  # the last layer is linear in what is dropped
    assert ((many.mean(0) - net(x)).abs() / (many.std(0) / 500**0.5 + 1e-6)).max() < 5


def test_draws_get_the_average_of_their_own_statistics():
    net, x = network().eval(), 3 + 2 * torch.randn(800, 6)
    generator, parts = torch.Generator().manual_seed(3), []
    for part in x.split(200):
        with sampled_weights(net, generator):
            parts.append(torch.nn.functional.linear(part, net[0].weight, net[0].bias))
    norm = net[1]
    calibrate_draws_(net, x, 4, seed=3)
    torch.testing.assert_close(norm.running_mean, torch.stack([p.mean(0) for p in parts]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([p.var(0) for p in parts]).mean(0))
    assert not net.training
    calibrate_mode_(net, x)  # the draws keep theirs
    torch.testing.assert_close(norm.drawn_mean, torch.stack([p.mean(0) for p in parts]).mean(0))
    with pytest.raises(ValueError, match="8 networks need two inputs each and there must be one, got 15 inputs"):
        calibrate_draws_(net, x[:15])


def test_own_batch_norm_statistics_are_those_of_the_draw_and_go_again():
    net, x = network().eval(), 3 + 2 * torch.randn(500, 6)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with sampled_weights(net, seed=4), batch_norm_statistics(net, x, batch_size=500):
        inputs = torch.nn.functional.linear(x, net[0].weight, net[0].bias)
        torch.testing.assert_close(net[1].running_mean, inputs.mean(0))
        torch.testing.assert_close(net[1].running_var, inputs.var(0))
        by_hand = net(x)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert net[1].momentum == 0.1
    found = next(posterior_outputs(net, x, 1, seed=4, calibration=x, batch_size=500))
    torch.testing.assert_close(found, by_hand)
    assert not torch.allclose(found, next(posterior_outputs(net, x, 1, seed=4)))


def test_own_statistics_go_through_an_exception():
    net, x = network(), torch.randn(20, 6)
    before = net[1].running_mean.clone()
    with pytest.raises(RuntimeError, match="stop"), batch_norm_statistics(net, x):
        raise RuntimeError("stop")
    assert torch.equal(net[1].running_mean, before)
    assert all(m.training for m in net.modules())


def test_dropout_asked_of_a_network_without():
    with pytest.raises(ValueError, match="no active dropout"):
        next(dropout_outputs(nn.Linear(4, 3), torch.zeros(2, 4), 3))
    with pytest.raises(ValueError, match="at least 1"):
        next(dropout_outputs(nn.Sequential(nn.Dropout(0.5), nn.Linear(4, 3)), torch.zeros(2, 4), 0))


def test_a_calibrated_mode_has_its_own_statistics_and_draws_keep_those_of_training():
    net, x, seen = network().eval().requires_grad_(False), torch.randn(20, 6), torch.randn(100, 6)
    drawn = predict(net, x, 4).probs
    with batch_norm_statistics(net, seen):
        own = net(x)
    for _ in range(2):  # again is the same
        calibrate_mode_(net, seen)
        torch.testing.assert_close(net(x), own, rtol=0, atol=0)
        torch.testing.assert_close(predict(net, x, 4).probs, drawn, rtol=0, atol=0)
    with pytest.raises(RuntimeError, match="lost"), sampled_weights(net, seed=0):
        raise RuntimeError("lost")
    torch.testing.assert_close(net(x), own, rtol=0, atol=0)

    copy = network()
    calibrate_mode_(copy, x)
    copy.load_state_dict(net.state_dict())
    torch.testing.assert_close(copy.eval()(x), own, rtol=0, atol=0)
    torch.testing.assert_close(predict(copy, x, 4).probs, drawn, rtol=0, atol=0)


@pytest.mark.parametrize("inside", [False, True])
def test_training_on_makes_a_calibration_out_of_date(inside):
    nets = [network(), network()]
    calibrate_mode_(nets[0], torch.randn(100, 6))
    for net in nets:
        net[1].momentum = 1.0  # what was before has no weight
        torch.manual_seed(2)
        if inside:
            with sampled_weights(net, seed=0):
                net.train()(torch.randn(64, 6))
        else:
            net.train()(torch.randn(64, 6))
    x = torch.randn(20, 6)
    for count in (0, 4):
        probs = [predict(net, x, count).probs for net in nets]
        torch.testing.assert_close(*probs, rtol=0, atol=0)


def test_statistics_of_any_number_of_inputs():
    net = network()
    for count in (2, 5, 9):  # the rest of a batch would be one, of which there is no variance
        calibrate_mode_(net, torch.randn(count, 6), batch_size=4)

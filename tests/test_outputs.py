"""Draws, members and masks: what votes, and that nothing is left changed."""

import pytest
import torch
from torch import nn

from bayesbinn import binarize_, sampled_weights
from bayesbinn.outputs import batch_norm_statistics, dropout_outputs, ensemble_outputs, posterior_outputs
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

"""Drawing networks from the posterior, and describing it."""

import math

import pytest
import torch
from torch import nn

from bayesbinn import BayesBiNN, BinaryLinear, bernoulli, binarize_, draw, posterior_summary, sampled_weights
from bayesbinn.binarizers import SignSTE
from bayesbinn.nn import binary_layers


def make_net(**options):
    return binarize_(nn.Sequential(nn.Linear(20, 30), nn.ReLU(), nn.Linear(30, 4)), **options)


def test_draw_depends_on_the_generator_only():
    net = make_net(magnitude=1.0)
    state = torch.get_rng_state()
    first, second, other = (draw(net, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert list(first) == ["0", "2"]
    for name, layer in binary_layers(net):
        assert torch.equal(first[name], second[name])
        assert not torch.equal(first[name], other[name])
        assert first[name].shape == layer.natural.shape
        assert set(first[name].unique().tolist()) == {-1.0, 1.0}
        assert not first[name].requires_grad
    assert not torch.equal(draw(net)["0"], draw(net)["0"])  # the global generator moves on


def test_draws_have_the_right_frequency():
    net = nn.Sequential(BinaryLinear(5, 1))
    with torch.no_grad():
        net[0].natural.copy_(torch.tensor([[-3.0, -0.5, 0.0, 0.2, 2.0]]))
    generator, count = torch.Generator().manual_seed(0), 5000
    plus = sum((draw(net, generator)["0"] > 0).double() for _ in range(count)) / count
    p = bernoulli.prob(net[0].natural.detach())
    assert ((plus - p).abs() < 5 * (p * (1 - p) / count).sqrt()).all()


def test_layers_without_a_posterior_give_their_mode():
    net = nn.Sequential(BinaryLinear(50, 4, init="zeros"), BinaryLinear(4, 50, init="zeros", binarizer=SignSTE()))
    drawn = draw(net)
    assert torch.equal(drawn["1"], net[1].weight)
    assert not torch.equal(drawn["0"], net[0].weight)


def test_shared_lambda_is_drawn_once():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    net[1].weight = net[0].weight
    drawn = draw(binarize_(net, init="zeros"))
    assert torch.equal(drawn["0"], drawn["1"])


@pytest.mark.parametrize("training", [True, False])
def test_sampled_weights_fixes_one_draw_in_either_mode(training):
    net, x = make_net(init="zeros").train(training), torch.randn(3, 20)
    with sampled_weights(net, seed=3) as same:
        assert same is net
        first = net(x)
        assert torch.equal(net(x), first)
        drawn = {name: layer.weight for name, layer in binary_layers(net)}
    expected = draw(net, torch.Generator().manual_seed(3))
    assert all(torch.equal(drawn[name], expected[name]) for name in expected)
    with sampled_weights(net, seed=torch.Generator().manual_seed(3)):
        assert torch.equal(net(x), first)
    with sampled_weights(net, weights=expected):
        assert torch.equal(net(x), first)
    with sampled_weights(net, seed=4):
        assert not torch.equal(net(x), first)
    assert torch.equal(net[0].weight, torch.ones(30, 20))  # the mode again
    if training:
        assert not torch.equal(net(x), net(x))  # draws again


def test_sampled_weights_restores_on_exceptions_and_nests():
    net, x = make_net(), torch.randn(3, 20)
    mode = net.eval()(x)

    def broken():
        with sampled_weights(net, seed=2):
            assert not torch.equal(net(x), outer)
            raise RuntimeError("inside")

    with sampled_weights(net, seed=1):
        outer = net(x)
        with pytest.raises(RuntimeError, match="inside"):
            broken()
        assert torch.equal(net(x), outer)
    assert torch.equal(net(x), mode)


def test_sampled_weights_gives_lambda_no_gradient():
    net, x = make_net(), torch.randn(3, 20)
    with sampled_weights(net, seed=1):
        net(x).sum().backward()
    assert net[0].natural.grad is None
    assert net[0].bias.grad is not None


def test_sampled_weights_errors_leave_the_network_alone():
    net, x = make_net().eval(), torch.randn(3, 20)
    before = net(x)
    good = draw(net)
    with (
        pytest.raises(ValueError, match=r"weights are for layers \['0'\], the network has \['0', '2'\]"),
        sampled_weights(net, weights={"0": good["0"]}),
    ):
        pass
    bad = {**good, "2": torch.ones(3, 3)}
    with (
        pytest.raises(ValueError, match=r"'2' have shape \(3, 3\), the layer needs \(4, 30\)"),
        sampled_weights(net, weights=bad),
    ):
        pass
    assert torch.equal(net(x), before)


@pytest.mark.parametrize("function", [draw, posterior_summary, lambda net: sampled_weights(net, 0).__enter__()])
def test_a_network_without_binary_layers_is_refused(function):
    with pytest.raises(ValueError, match=r"Linear has no binary layer: make it binary with binarize_\(net\)"):
        function(nn.Linear(2, 2))


def test_summary_of_known_posteriors():
    net = make_net(init="zeros")
    summary = posterior_summary(net)
    assert [p.name for p in summary.layers] == ["0", "2"]
    assert [p.num_weights for p in [*summary.layers, summary.total]] == [600, 120, 720]
    assert summary.total.entropy == pytest.approx(math.log(2))
    assert summary.total.kl == 0
    assert (summary.total.saturated, summary.total.undecided, summary.total.flip_rate) == (0.0, 1.0, None)
    with torch.no_grad():
        net[0].natural.fill_(100.0)
        net[2].natural.copy_(-torch.arange(120.0).view(4, 30) / 30)  # 0, -1/30, ...: 30 of 120 below 1
    after = posterior_summary(net, previous=summary)
    first, second = after.layers
    assert (first.entropy, first.saturated, first.undecided, first.flip_rate) == (0.0, 1.0, 0.0, 0.0)
    assert first.kl == pytest.approx(600 * math.log(2))
    naturals = net[2].natural.detach()
    assert second.undecided == pytest.approx(30 / 120)
    assert second.flip_rate == pytest.approx(119 / 120)  # -0 counts as +1
    assert second.entropy == pytest.approx(bernoulli.entropy(naturals).mean().item())
    assert second.saturated == pytest.approx((bernoulli.mean(naturals).abs() > 0.99).double().mean().item())
    assert after.total.kl == pytest.approx(first.kl + second.kl)
    assert after.total.entropy == pytest.approx((600 * first.entropy + 120 * second.entropy) / 720)
    assert after.total.flip_rate == pytest.approx(119 / 720)


def test_summary_takes_the_kl_to_the_optimizers_prior():
    net = make_net()
    optimizer = BayesBiNN([layer.natural for _, layer in binary_layers(net)], 0.1, num_data=1, prior=0.5)
    assert posterior_summary(net, optimizer).total.kl == pytest.approx(optimizer.kl_divergence().item())
    assert posterior_summary(net, optimizer).total.kl != pytest.approx(posterior_summary(net).total.kl)
    optimizer.set_prior_to_posterior()
    assert posterior_summary(net, optimizer).total.kl == 0


def test_summary_counts_tied_weights_once():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    net[1].weight = net[0].weight
    binarize_(net)
    optimizer = BayesBiNN([net[0].natural], 0.1, num_data=1)
    summary = posterior_summary(net, optimizer)
    assert summary.total.num_weights == 64
    assert summary.total.kl == pytest.approx(optimizer.kl_divergence().item())


def test_summary_refuses_another_networks():
    other = posterior_summary(nn.Sequential(BinaryLinear(2, 2)))
    with pytest.raises(ValueError, match=r"previous summary has no layer '0' of shape \(30, 20\)"):
        posterior_summary(make_net(), previous=other)


def test_summary_prints_a_table():
    net = make_net(init="zeros")
    lines = str(posterior_summary(net, previous=posterior_summary(net))).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split()[0] == "layer"
    assert lines[-1].split() == ["total", "720", "0.6931", "0.0", "0.0%", "100.0%", "0.00%"]

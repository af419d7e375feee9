"""Methods: what each takes, and that the pair does what its row says."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bayesbinn as bb
from bayesbinn.binarizers import Concrete, LocalReparam, MeanWeight, Reference2020, ReinMax, SignSTE
from bayesbinn.binarizers import StraightThroughSample as Draw
from bayesbinn.nn import binary_layers, split_parameters
from bayesbinn.optim import BayesBiNN, NetworkOptimizer, optimizer_for
from bayesbinn.training.config import make_config, settings_of
from bayesbinn.training.methods import ESTIMATORS, METHODS, harden_, make_binary_
from bayesbinn.training.models import build_model
from bayesbinn.training.start import binary_, optimizer_of


def network(**settings):
    config = make_config({"width": 16, "depth": 2, **settings})
    net = binary_(build_model(config, (8,), 3), config)
    return net, optimizer_of(net, config, num_train=1000), config


def test_the_methods_and_estimators():
    assert list(METHODS) == ["bayesbinn", "bayesbinn-2020", "ste", "bop", "pmf", "md-tanh", "adaste", "float"]
    assert list(ESTIMATORS) == ["mean", "draw", "concrete", "reinmax", "local-reparam", "disarm"]


@pytest.mark.parametrize("method", METHODS)
def test_one_optimizer_holds_every_parameter_once(method):
    net, optimizer, _ = network(method=method)
    assert isinstance(optimizer, NetworkOptimizer)
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters())
    binary, _ = split_parameters(net)
    assert {id(p) for p in optimizer.param_groups[0]["params"]} == {id(p) for p in binary or net.parameters()}


@pytest.mark.parametrize("settings", [*({"method": m} for m in METHODS), *({"estimator": e} for e in ESTIMATORS)])
def test_a_step_moves_every_parameter(settings):
    net, optimizer, config = network(**settings, dropout=0.0)
    before = {name: p.clone() for name, p in net.named_parameters()}
    x, y = torch.randn(32, 8), torch.arange(32) % 3
    config.method_row.loss(config.method_options)(net, lambda: F.cross_entropy(net(x), y)).backward()
    optimizer.step()
    assert [name for name, p in net.named_parameters() if torch.equal(p, before[name])] == []


@pytest.mark.parametrize(
    ("estimator", "binarizer"),
    [
        *(("mean", MeanWeight()), ("draw", Draw()), ("concrete", Concrete(1.0)), ("reinmax", ReinMax())),
        *(("local-reparam", LocalReparam()), ("disarm", Draw())),
    ],
)
def test_an_estimator_is_a_binarizer(estimator, binarizer):
    net, _, config = network(estimator=estimator)
    assert all(layer.binarizer == binarizer for _, layer in binary_layers(net))
    assert (config.method_row.loss(config.method_options) is bb.disarm_loss) == (estimator == "disarm")


def test_bayesbinn_takes_its_settings():
    given = {"lr": 0.3, "kl_weight": 0.7, "momentum": 0.5, "num_data": 77, "form": "tensor"}
    net, optimizer, _ = network(**given, init="zeros", cooling=1.0)
    assert isinstance(optimizer.parts[0], BayesBiNN)
    assert given.items() <= optimizer.param_groups[0].items()
    assert not any(layer.natural.any() for _, layer in binary_layers(net))
    assert network()[1].param_groups[0]["num_data"] == 1000  # the size of the training set


def test_the_command_and_the_library_share_their_defaults():
    net, optimizer, config = network(estimator="draw")  # what a loop of one's own does
    library = optimizer_for(net, num_data=1000)
    for ours, theirs in zip(optimizer.param_groups, library.param_groups, strict=True):
        assert {k: v for k, v in ours.items() if k != "params"} == {k: v for k, v in theirs.items() if k != "params"}
    assert settings_of(config)["real_lr"] == optimizer.param_groups[1]["lr"]


def test_cooling_starts_warmer():
    _, optimizer, _ = network(kl_weight=0.5, cooling=4.0)
    assert optimizer.param_groups[0]["kl_weight"] == 2.0


def test_2020_takes_its_settings():
    net, optimizer, _ = network(method="bayesbinn-2020", temperature=0.25)
    assert optimizer.param_groups[0]["form"] == "plain"
    for _, layer in binary_layers(net):
        assert layer.binarizer == Reference2020(0.25)
        assert layer.natural.detach().abs().unique().tolist() == [10.0]


def test_ste_takes_its_settings():
    net, optimizer, _ = network(method="ste", clip=0.5, magnitude=0.2)
    assert isinstance(optimizer.parts[0], torch.optim.Adam)
    for _, layer in binary_layers(net):
        assert layer.binarizer == SignSTE(0.5)
        torch.testing.assert_close(layer.natural.detach().abs(), torch.full_like(layer.natural, 0.2))


def test_weights_harden_geometrically():
    net, _, config = network(method="pmf", beta=1.0, beta_end=100.0)
    for progress, beta in ((0.0, 1.0), (0.5, 10.0), (1.0, 100.0)):
        harden_(net, config.method_options, progress)
        assert [layer.binarizer.beta for _, layer in binary_layers(net)] == pytest.approx([beta] * 3)


def test_float_stays_float():
    net, optimizer, _ = network(method="float")
    assert list(binary_layers(net)) == []
    assert [type(part) for part in optimizer.parts] == [torch.optim.Adam]


def test_real_ends_are_not_binary():
    net, _, _ = network(real_ends=True)
    assert [layer.natural.shape for _, layer in binary_layers(net)] == [(16, 16)]


def test_without_real_parameters_there_is_no_adam():
    assert len(network(affine=False, output_scale=False)[1].parts) == 1


def test_bfloat16():
    net, _, _ = network(natural_dtype="bfloat16")
    assert {layer.natural.dtype for _, layer in binary_layers(net)} == {torch.bfloat16}


def test_binary_layers_of_a_network_keep_their_latent_weights_and_get_the_estimator():
    net = bb.binarize_(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), exclude="1", magnitude=0.5)
    before = net[0].natural.clone()
    method, config = METHODS["bayesbinn"], make_config({"estimator": "reinmax"})
    make_binary_(net, method, config.method_options, config.estimator_options)
    assert torch.equal(net[0].natural, before)
    assert net[0].binarizer == ReinMax()
    assert isinstance(net[1], nn.Linear)
    with pytest.raises(ValueError, match="method 'float' trains real weights, this network has binary layers"):
        make_binary_(net, METHODS["float"], None, None)

"""Methods: defaults, what each takes, and that the pair does what its row says."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from bayesbinn.binarizers import MeanWeight, Reference2020, SignSTE, StraightThroughSample
from bayesbinn.errors import UserError
from bayesbinn.nn import binary_layers, split_parameters
from bayesbinn.optim import BayesBiNN
from bayesbinn.training.config import Config, make_config
from bayesbinn.training.methods import METHOD_OPTIONS, METHODS, apply_method, check_method, resolve
from bayesbinn.training.models import build_model


def network(num_train=1000, **settings):
    config = resolve(make_config({"width": 16, "depth": 2, **settings}), num_train)
    net = build_model(config.model_config, (8,), 3)
    return *apply_method(net, config), config


@pytest.mark.parametrize("method", METHODS)
def test_defaults_are_complete_and_pass_the_checks_of_settings(method):
    config = resolve(Config(method=method), 1000)
    for name in METHOD_OPTIONS:
        assert (getattr(config, name) is not None) == (METHODS[method].defaults.get(name) is not None)
    assert make_config({k: v for k, v in dataclasses.asdict(config).items() if v is not None}) == config
    assert resolve(config, 5) == config  # what a run has stored does not change any more


VALUES = {
    "num_data": 5,
    "init": "zeros",
    "natural_dtype": "bfloat16",
    "kl_share": "layers",
    "estimator": "mean",
}  # of the settings that are no fractions


@pytest.mark.parametrize("method", METHODS)
def test_given_settings_stay(method):
    given = {name: 0.5 for name in METHODS[method].defaults if name not in VALUES}
    config = resolve(make_config({"method": method, **given}), 1000)
    assert {name: getattr(config, name) for name in given} == given


@pytest.mark.parametrize("method", METHODS)
def test_settings_of_other_methods_are_refused(method):
    for name in set(METHOD_OPTIONS) - METHODS[method].defaults.keys():
        value = VALUES.get(name, 0.5)
        with pytest.raises(UserError, match=f"method '{method}' takes no {name}: leave it out .it takes lr"):
            check_method(make_config({"method": method, name: value}))


@pytest.mark.parametrize("preset", METHODS["bayesbinn"].presets)
def test_a_preset_takes_the_place_of_defaults_and_not_of_what_is_given(preset):
    values = METHODS["bayesbinn"].presets[preset]
    config = resolve(make_config({"preset": preset}), 60_000)
    for name, value in values.items():
        assert getattr(config, name) == (value(60_000) if callable(value) else value)
    assert resolve(make_config({"preset": preset, "magnitude": 3}), 60_000).magnitude == 3
    assert resolve(config, 5) == config


def test_a_preset_of_another_method_is_refused():
    with pytest.raises(UserError, match="method 'ste' has no preset 'accuracy': leave it out"):
        check_method(make_config({"method": "ste", "preset": "accuracy"}))


def test_a_kl_weight_of_0_cannot_grow_geometrically():
    with pytest.raises(UserError, match=r"kl_weight 0 cannot reach 1\.0 geometrically: start above 0"):
        check_method(make_config({"kl_weight": 0, "kl_weight_end": 1}))


def test_unknown_method():
    with pytest.raises(UserError, match=r"unknown method 'bayesbin': did you mean 'bayesbinn'\?"):
        check_method(Config(method="bayesbin"))


@pytest.mark.parametrize("depth", [0, 1])
def test_real_ends_must_leave_something_binary(depth):
    with pytest.raises(UserError, match=f"real_ends leaves no binary layer in an mlp of depth {depth}: use"):
        check_method(Config(depth=depth, real_ends=True))
    check_method(Config(depth=depth, real_ends=True, method="float"))


@pytest.mark.parametrize("method", METHODS)
def test_optimizers_hold_every_parameter_once(method):
    net, optimizers, _ = network(method=method)
    held = [id(p) for o in optimizers.values() for group in o.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in net.parameters())
    binary, _ = split_parameters(net)
    groups = optimizers["binary"].param_groups if "binary" in optimizers else []
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in binary}


@pytest.mark.parametrize("method", METHODS)
def test_a_step_moves_every_parameter(method):
    net, optimizers, _ = network(method=method, dropout=0.0)
    before = {name: p.clone() for name, p in net.named_parameters()}
    F.cross_entropy(net(torch.randn(32, 8)), torch.arange(32) % 3).backward()
    for optimizer in optimizers.values():
        optimizer.step()
    assert [name for name, p in net.named_parameters() if torch.equal(p, before[name])] == []


def test_bayesbinn_takes_its_settings():
    net, optimizers, _ = network(lr=0.3, kl_weight=0.7, momentum=0.9, num_data=77, init="zeros")
    rule = optimizers["binary"]
    assert isinstance(rule, BayesBiNN)
    group = rule.param_groups[0]
    assert [group[name] for name in ("lr", "kl_weight", "momentum", "num_data")] == [0.3, 0.7, 0.9, 77]
    for _, layer in binary_layers(net):
        assert layer.binarizer == MeanWeight()
        assert not layer.natural.any()


@pytest.mark.parametrize("given", [{"estimator": "draw"}, {"preset": "uncertainty"}])
def test_bayesbinn_may_draw(given):
    net, _, _ = network(**given)
    assert all(layer.binarizer == StraightThroughSample() for _, layer in binary_layers(net))


def test_layers_may_share_the_kl_term_alike():
    net, optimizers, config = network(kl_share="layers", kl_weight=0.2, lr=0.1, cooling=4.0, estimator="mean")
    groups = optimizers["binary"].param_groups
    layers = [layer for _, layer in binary_layers(net)]
    assert all(layer.binarizer == MeanWeight() for layer in layers)
    sizes = [layer.natural.numel() for layer in layers]
    assert len(set(sizes)) > 1
    for group, layer, size in zip(groups, layers, sizes, strict=True):
        assert group["params"] == [layer.natural]
        share = sum(sizes) / len(sizes) / size
        assert group["kl_weight"] == pytest.approx(4 * 0.2 * share)  # the same kl_weight · size in all layers
        assert group["lr"] * group["kl_weight"] == pytest.approx(0.1 * 0.2)
    assert (config.kl_weight, config.lr) == (0.2, 0.1)


def test_cooling_needs_float32():
    with pytest.raises(
        UserError, match=r"natural_dtype bfloat16 goes without cooling, got 3\.0: leave one of them out"
    ):
        check_method(make_config({"natural_dtype": "bfloat16", "cooling": 3}))


def test_num_data_and_the_step_follow_the_data():
    small, large = (resolve(Config(), n) for n in (600, 60_000))
    assert (small.num_data, large.num_data) == (600, 60_000)
    assert small.lr * small.num_data == pytest.approx(large.lr * large.num_data)


def test_2020_takes_its_settings():
    net, optimizers, _ = network(method="bayesbinn-2020", temperature=0.25)
    assert isinstance(optimizers["binary"], BayesBiNN)
    for _, layer in binary_layers(net):
        assert layer.binarizer == Reference2020(0.25)
        assert layer.natural.detach().abs().unique().tolist() == [10.0]


def test_ste_takes_its_settings():
    net, optimizers, _ = network(method="ste", clip=0.5, magnitude=0.2)
    assert isinstance(optimizers["binary"], torch.optim.Adam)
    for _, layer in binary_layers(net):
        assert layer.binarizer == SignSTE(0.5)
        torch.testing.assert_close(layer.natural.detach().abs(), torch.full_like(layer.natural, 0.2))


def test_float_stays_float():
    net, optimizers, _ = network(method="float")
    assert list(binary_layers(net)) == []
    assert list(optimizers) == ["real"]


def test_real_ends_are_not_binary():
    net, _, _ = network(real_ends=True)
    assert [layer.natural.shape for _, layer in binary_layers(net)] == [(16, 16)]


def test_without_real_parameters_there_is_no_adam():
    _, optimizers, _ = network(affine=False, output_scale=False)
    assert list(optimizers) == ["binary"]

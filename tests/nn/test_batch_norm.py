"""Statistics of the mode beside those of the draws: right, saved, loaded, and never of other weights."""

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

from bayesbinn import (
    BayesBiNN,
    BinaryLinear,
    binarize_,
    calibrate_,
    disarm_loss,
    draw,
    predict,
    sampled_weights,
)
from bayesbinn.binarizers import SignSTE
from bayesbinn.nn import batch_norm, binary_layers, split_parameters
from bayesbinn.nn.batch_norm import in_force, own_statistics, statistics_of
from bayesbinn.nn.draws import fixed_weights
from bayesbinn.prediction import posterior_outputs

# networks that were trained and not calibrated are what is tested here; test_uncalibrated.py has the warning
pytestmark = pytest.mark.filterwarnings("ignore:batch norm has the statistics of training")

X, SEEN = torch.randn(20, 6, generator=torch.Generator().manual_seed(7)), 3 + 2 * torch.randn(400, 6)


def network(seed=1, **settings):
    torch.manual_seed(seed)
    layers = [nn.Linear(6, 16), nn.BatchNorm1d(16, **settings), nn.ReLU(), nn.Dropout(0.5)]
    layers += [nn.Linear(16, 8), nn.BatchNorm1d(8, **settings), nn.ReLU(), nn.Linear(8, 3)]
    net = binarize_(nn.Sequential(*layers), init="weights", scale="none").train()
    for _ in range(3):  # running statistics of some kind
        net(torch.randn(64, 6))
    return net.eval().requires_grad_(False)


def probs(net, num_samples):
    return predict(net, X, num_samples).probs


def both(net):
    return [probs(net, num_samples) for num_samples in (0, 4)]


def assert_same(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def assert_other(found, expected):
    for a, b in zip(found, expected, strict=True):
        assert not torch.allclose(a, b)


def assert_as_if_never_calibrated(net):
    plain = copy.deepcopy(net)
    for _, layer in binary_layers(plain):
        layer.drawn = None
    assert_same(both(net), both(plain))


@pytest.mark.parametrize(
    ("share", "parts"),
    [
        (1000, [slice(0, 400)] * 4),
        (160, [slice(0, 160), slice(80, 240), slice(160, 320), slice(240, 400)]),
        (50, [slice(0, 100), slice(100, 200), slice(200, 300), slice(300, 400)]),
    ],
)
def test_the_statistics_are_those_of_the_mode_of_each_draw_and_their_average(share, parts, monkeypatch):
    net, generator, moments = network(), torch.Generator().manual_seed(3), []
    mode = nn.functional.linear(SEEN, net[0].weight, net[0].bias)
    monkeypatch.setattr(batch_norm, "SHARE", share)
    for part in parts:
        weights = draw(net, generator)
        seen = nn.functional.linear(SEEN[part], weights["0"], net[0].bias)
        moments.append((seen.mean(0), seen.var(0)))
    assert calibrate_(net, SEEN, num_samples=4, seed=3) is net
    norm = net[1]
    torch.testing.assert_close((norm.running_mean, norm.running_var), (mode.mean(0), mode.var(0)))
    expected = tuple(torch.stack(parts).mean(0) for parts in zip(*moments, strict=True))
    for known in (statistics_of(net, "draws")(0), statistics_of(net, "draws", 4)(0), statistics_of(net, "draws", 3)(4)):
        with in_force(known):
            torch.testing.assert_close((norm.running_mean, norm.running_var), expected)
    for i, own in enumerate(moments):
        with in_force(statistics_of(net, "draws", 3)(i)):
            torch.testing.assert_close((norm.running_mean, norm.running_var), own)
    torch.testing.assert_close((norm.running_mean, norm.running_var), (mode.mean(0), mode.var(0)))
    assert not any(module.training for module in net.modules())
    with in_force(statistics_of(net, "mode")(0)):
        torch.testing.assert_close(norm.running_mean, mode.mean(0))


def test_plain_evaluation_and_predict_use_the_statistics_of_the_mode():
    net = network()
    with own_statistics(net, SEEN):
        own = net(X)
    calibrate_(net, SEEN)
    assert torch.equal(net(X), own)
    torch.testing.assert_close(probs(net, 0), own.softmax(-1))
    with pytest.raises(RuntimeError, match="lost"), sampled_weights(net, seed=0):
        raise RuntimeError("lost")
    assert torch.equal(net(X), own)


def test_batches_of_any_sizes_give_the_same():
    """Exact where nothing normalises before: unequal batches weigh as much as they hold, and none is of one input."""
    for count in (2, 3, 5, 9, 65, 400):
        for batch_size in (1, 2, 4, 32, 1000):
            norm = nn.BatchNorm1d(6, momentum=None)
            calibrate_(norm, SEEN[:count], batch_size=batch_size)
            torch.testing.assert_close(norm.running_mean, SEEN[:count].mean(0))
            torch.testing.assert_close(norm.running_var, SEEN[:count].var(0))
            assert norm.training
            assert norm.momentum is None


def test_data_of_all_kinds():
    expected = both(calibrate_(network(), SEEN))
    loader = DataLoader(TensorDataset(SEEN, torch.zeros(400)), batch_size=19)  # the last batch is of one
    for data in (
        SEEN.numpy(),
        SEEN.double().numpy(),
        (SEEN,),
        {"input": SEEN},
        loader,
        list(SEEN.split(7)),
        iter(loader),
    ):
        assert_same(both(calibrate_(network(), data)), expected)
    for data, error, message in [
        (SEEN[:1], ValueError, "at least 2 inputs, got 1"),
        (SEEN[:0], ValueError, r"at least one input, got \(0, 6\)"),
        (iter(()), ValueError, "is the iterator used up"),
        (None, TypeError, "such as a DataLoader, got NoneType"),
    ]:
        net = network()
        before = both(net)
        with pytest.raises(error, match=message):
            calibrate_(net, data)
        assert_same(both(net), before)
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        calibrate_(network(), SEEN, num_samples=0)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        calibrate_(network(), SEEN, batch_size=0)


def test_a_few_inputs_are_seen_by_every_draw():
    net = calibrate_(network(), SEEN[:5], num_samples=8)
    assert all(layer.drawn.var.isfinite().all() for _, layer in binary_layers(net))


@pytest.mark.parametrize("calibrated_before", [False, True])
def test_a_state_dict_loads_into_any_network_and_predicts_the_same_to_the_bit(calibrated_before):
    net = calibrate_(network(), SEEN)
    expected = both(net)
    other = network(seed=2)
    if calibrated_before:
        calibrate_(other, SEEN - 1)
    assert_other(both(other), expected)
    other.load_state_dict(net.state_dict())
    assert_same(both(other), expected)
    assert torch.equal(other(X), net(X))
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    again = network(seed=3)
    again.load_state_dict(torch.load(file), assign=True)
    assert_same(both(again), expected)
    assert_same(both(pickle.loads(pickle.dumps(net))), expected)
    calibrate_(net, 10 * SEEN)  # what was loaded is a copy
    assert_same(both(other), expected)


def test_a_network_built_by_hand_loads_it_too():
    def build():
        return nn.Sequential(BinaryLinear(6, 4, init="zeros"), nn.BatchNorm1d(4), nn.ReLU(), BinaryLinear(4, 3)).eval()

    net, other = calibrate_(build(), SEEN), build()
    other.load_state_dict(net.state_dict())
    assert_same(both(other), both(net))
    layer = BinaryLinear(6, 4)
    layer.load_state_dict(net[0].state_dict())  # a layer alone
    assert torch.equal(layer.drawn.mean, net[0].drawn.mean)


def test_a_state_dict_of_the_days_when_draws_had_an_average_alone():
    net, other = calibrate_(network(), SEEN), network()
    old = net.state_dict()
    for name in [name for name in old if "drawn_" in name]:
        old[name] = old[name].mean(0) if name.endswith(("mean", "var")) else old[name]
        if name.endswith("seed"):
            del old[name]
    other.load_state_dict(old)
    for i in (0, 5):
        own, average = statistics_of(other, "draws", 0)(i), statistics_of(net, "draws")(0)
        for a, b in zip(own.values(), average.values(), strict=True):
            torch.testing.assert_close(a, b)


def test_each_draw_of_a_prediction_has_its_own():
    net = calibrate_(network(), SEEN, num_samples=3)
    outputs = list(posterior_outputs(net, X, 5))
    generator = torch.Generator().manual_seed(0)
    for i, found in enumerate(outputs):
        with fixed_weights(net, draw(net, generator)), in_force(statistics_of(net, "draws", 0)(i if i < 3 else 99)):
            assert torch.equal(net(X), found)


def test_a_state_dict_without_calibration_ends_one():
    net, other = network(), calibrate_(network(seed=2), SEEN)
    other.load_state_dict(net.state_dict())
    assert_same(both(other), both(net))


def test_calibrating_again_gives_the_draws_and_the_mode_the_new_data():
    net = calibrate_(calibrate_(network(), SEEN), 100 * SEEN)
    assert_same(both(net), both(calibrate_(network(), 100 * SEEN)))
    with in_force(statistics_of(net, "draws")(0)):
        assert net[1].running_var.min() > 100


def test_update_bn_and_calibration_in_turn():
    net = network()
    for scale in (1.0, 10.0, 100.0):
        update_bn([scale * SEEN], net)
        assert_as_if_never_calibrated(net)
        calibrate_(net, scale * SEEN)
        assert_same(both(net), both(calibrate_(network(), scale * SEEN)))


def trained(net, steps=1, frozen=False):
    """By the usual loop; `frozen` batch norm keeps its running statistics."""
    net.requires_grad_(True).train()
    if frozen:
        net[1].eval()
        net[5].eval()
    optimizer = BayesBiNN(split_parameters(net)[0], 0.5, num_data=1000)
    for _ in range(steps):
        net(torch.randn(64, 6)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.eval().requires_grad_(False)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_further_training_ends_a_calibration(momentum):
    net = calibrate_(network(momentum=momentum), SEEN)
    before = both(net)
    assert_as_if_never_calibrated(trained(net))
    assert_other(both(net), before)


@pytest.mark.parametrize("num_samples", [0, 4])
@pytest.mark.parametrize("change", ["training", "by hand", "load", "a new layer"])
def test_weights_that_change_alone_are_noticed(change, num_samples):
    net = calibrate_(network(), SEEN)
    match change:
        case "training":
            trained(net, frozen=True)
        case "by hand":
            net[4].natural[3, 2] *= -1
        case "load":
            net[0].load_state_dict(network(seed=2)[0].state_dict())
        case "a new layer":
            net[7] = BinaryLinear(8, 3)
    with pytest.warns(
        UserWarning, match=r"λ has changed since calibrate_ and batch norm has not: .*calibrate_\(net, data\)"
    ):
        probs(net, num_samples)
    calibrate_(net, SEEN)
    probs(net, num_samples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net[0].natural.neg_()
        assert_as_if_never_calibrated(net)


def test_what_is_trained_inside_a_draw_stays():
    net = calibrate_(network(), SEEN)
    net[1].momentum = net[5].momentum = 1.0
    x = torch.randn(64, 6)
    with sampled_weights(net, seed=0):
        net.train()(x)
        expected = nn.functional.linear(x, net[0].weight, net[0].bias)
    torch.testing.assert_close(net[1].running_mean, expected.mean(0))
    assert_as_if_never_calibrated(net.eval())


def test_disarm_trains_a_calibrated_network():
    net = calibrate_(network(), SEEN).requires_grad_(True).train()
    disarm_loss(net, lambda: net(X).square().mean()).backward()
    assert net[0].natural.grad.abs().sum() > 0


def test_a_graph_made_inside_a_draw_can_be_followed_outside():
    net, x = calibrate_(network(), SEEN), X.clone().requires_grad_()
    with sampled_weights(net, seed=0):
        loss = net(x).square().mean()
    loss.backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("when", ["before", "after", "between"])
def test_averaged_models(when, use_buffers):
    net = network()
    if when == "before":
        calibrate_(net, SEEN)
    average = AveragedModel(net, use_buffers=use_buffers)
    for step in range(3):
        average.update_parameters(trained(net) if step else net)
        if when != "before":
            calibrate_(net, SEEN)
    update_bn([SEEN], average)
    assert_as_if_never_calibrated(average.module.eval())
    calibrate_(average, SEEN)
    assert_same(both(average), both(calibrate_(copy.deepcopy(average.module), SEEN)))


def test_own_statistics_are_those_of_the_draw_and_go_again():
    net = calibrate_(network(), SEEN)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with sampled_weights(net, seed=4), own_statistics(net, SEEN, batch_size=50):
        inputs = nn.functional.linear(SEEN, net[0].weight, net[0].bias)
        torch.testing.assert_close(net[1].running_mean, inputs.mean(0))
        torch.testing.assert_close(net[1].running_var, inputs.var(0))
    with pytest.raises(RuntimeError, match="stop"), own_statistics(net, SEEN):
        raise RuntimeError("stop")
    with pytest.raises(RuntimeError), own_statistics(net, SEEN[:, :5]):  # the network itself fails
        pass
    with own_statistics(net, torch.full((9, 6), torch.nan)):
        assert net[1].running_mean.isnan().all()
    assert_same(net.state_dict().values(), before.values())
    assert net[1].track_running_stats
    assert not net[1]._forward_pre_hooks


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(4), (30, 4)),
        (nn.BatchNorm1d(4, affine=False), (30, 4, 5)),
        (nn.BatchNorm2d(4, momentum=None), (30, 4, 5, 6)),
        (nn.BatchNorm3d(4), (30, 4, 3, 2, 2)),
        (nn.SyncBatchNorm(4), (30, 4, 5)),
        (nn.BatchNorm1d(4, dtype=torch.float64), (30, 4)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_batch_norm(norm, shape):
    x = 3 + 2 * torch.randn(shape, dtype=norm.running_mean.dtype)
    calibrate_(norm.eval(), x, batch_size=7)
    dims = [d for d in range(x.ndim) if d != 1]
    torch.testing.assert_close(norm.running_mean, x.mean(dims))
    torch.testing.assert_close(norm.running_var, x.var(dims))
    assert norm.running_mean.dtype == x.dtype
    assert int(norm.num_batches_tracked) == 0
    torch.testing.assert_close(norm(x).mean(dims), torch.zeros(4, dtype=x.dtype), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(2, 8), nn.LayerNorm(8), nn.BatchNorm1d(8, track_running_stats=False), nn.Identity()]
)
def test_other_layers_are_left_alone(norm):
    net = binarize_(nn.Sequential(nn.Linear(6, 8), norm, nn.Linear(8, 3)), init="weights").eval().requires_grad_(False)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    expected = both(net)
    calibrate_(net, SEEN)
    assert net.state_dict().keys() == before.keys()
    assert_same(net.state_dict().values(), before.values())
    assert_same(both(net), expected)
    net[0].natural.neg_()
    both(net)  # nothing to warn of


def test_networks_without_draws():
    for options in ({"binarizer": SignSTE()}, {"exclude": "0"}):
        net = binarize_(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)), **options).eval()
        with torch.no_grad():
            torch.testing.assert_close(calibrate_(net, SEEN)[1].running_mean, net[0](SEEN).mean(0))
        twin = copy.deepcopy(net)
        twin.load_state_dict(net.state_dict())
        assert torch.equal(probs(twin, 0), probs(net, 0))
    real = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
    calibrate_(real, SEEN)
    assert real.state_dict().keys() == nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8)).state_dict().keys()


def test_a_part_of_a_network_keeps_its_statistics():
    net = calibrate_(network(), SEEN)
    with in_force(statistics_of(net, "draws")(0)):
        expected = net[5].running_mean.clone()
    assert not torch.equal(net[5].running_mean, expected)
    with in_force(statistics_of(net[4:], "draws")(0)):
        assert torch.equal(net[5].running_mean, expected)
    net[7].natural.neg_()
    with in_force(statistics_of(net[7:], "draws")(0)):  # a part without batch norm has nothing to warn of
        pass


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_floating_point_type_keeps_them(dtype):
    net = calibrate_(network(), SEEN).to(dtype)
    with in_force(statistics_of(net, "draws")(0)):
        torch.testing.assert_close(net[1].running_mean, net[0].drawn.mean.mean(0).to(dtype))
        assert net[1].running_mean.dtype == dtype


def test_a_network_that_is_not_reached_says_so():
    class Unused(nn.Sequential):
        def forward(self, x):
            return self[0](x)

    net = Unused(BinaryLinear(6, 4), nn.BatchNorm1d(4))
    with pytest.raises(ValueError, match="none of the 1 batch norms has seen the data"):
        calibrate_(net, SEEN)
    net = nn.Sequential(Unused(BinaryLinear(6, 4), nn.BatchNorm1d(4)), nn.BatchNorm1d(4)).eval()
    calibrate_(net, SEEN)
    assert net[0][1].running_mean.abs().max() == 0  # what is not used is left alone
    assert predict(net, X, 3).probs.isfinite().all()

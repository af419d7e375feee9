"""Mean and variance in one pass: exact where the theory is, near many draws elsewhere, refused without a rule."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bayesbinn as bb
from bayesbinn.nn import binary_layers
from bayesbinn.propagation import Moments, moment_weights, points
from tests.runs import blobs


def moments_of(net, x):
    with torch.no_grad(), moment_weights(net.eval()):
        out = net(x)
    return out.as_subclass(torch.Tensor), out.variance


def enumerated(net, x):
    """Mean and variance of the output over all 2^W networks of one binary layer."""
    ((name, layer),) = binary_layers(net)
    size = layer.natural.numel()
    p = torch.sigmoid(2 * layer.natural.detach().double()).reshape(-1)
    mean = square = 0
    for signs in itertools.product((-1.0, 1.0), repeat=size):
        signs = torch.tensor(signs, dtype=torch.float64)
        q = torch.where(signs > 0, p, 1 - p).prod()
        with torch.no_grad(), bb.sampled_weights(net, weights={name: signs.reshape(layer.natural.shape)}):
            out = net(x)
        mean, square = mean + q * out, square + q * out.square()
    return mean, square - mean.square()


LAYERS = {
    "linear": (lambda: nn.Linear(5, 2), (5,)),
    "conv": (lambda: nn.Conv2d(1, 1, 3, padding=1, stride=2), (1, 5, 5)),
    "grouped conv": (lambda: nn.Conv1d(2, 4, 2, groups=2, bias=False), (2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("scale", ["learned", "none"])
def test_one_layer_and_an_affine_map_behind_it_are_exact(name, scale):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    net = bb.binarize_(nn.Sequential(make(), nn.Identity()), init="zeros", scale=scale, quiet=True).double()
    channels = net(torch.zeros(1, *shape).double()).shape[1]
    net[1] = (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(channels).double()
    net[1].running_var.uniform_(0.5, 2)
    net[1].running_mean.normal_()
    nn.init.uniform_(net[1].weight)
    nn.init.normal_(net[0].natural)
    x = torch.randn(3, *shape).double()
    net.eval()
    mean, variance = moments_of(net, x)
    exact_mean, exact_variance = enumerated(net, x)
    torch.testing.assert_close(mean, exact_mean)
    torch.testing.assert_close(variance, exact_variance)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(2, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv, self.head = nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.Linear(64, 3)

    def forward(self, x):
        y = F.relu(self.norm(self.stem(x)))
        y = F.max_pool2d(2 * y + self.conv(F.silu(y)), 2)
        return self.head(torch.cat([y.mean((2, 3)), F.adaptive_avg_pool2d(y, 1).flatten(1)], 1))


@pytest.mark.parametrize("wide", [True, False], ids=["undecided", "decided"])
def test_a_deep_network_is_near_many_draws(wide):
    torch.manual_seed(1)
    net = bb.binarize_(Residual(), magnitude=0.3 if wide else 2.0, quiet=True).eval()
    x = torch.randn(4, 2, 8, 8)
    draws = torch.stack(list(bb.prediction.posterior_outputs(net, x, 800)))
    mean, variance = moments_of(net, x)
    deviation = draws.std(0)
    assert ((mean - draws.mean(0)).abs() < 0.4 * deviation).all()
    assert (variance.sqrt() / deviation).log().abs().max() < 0.35


@pytest.mark.parametrize("func", [F.relu, torch.tanh, F.gelu, lambda x: F.max_pool1d(x, 3, 2, 1)])
def test_functions_of_normal_numbers(func):
    mean, deviation = torch.linspace(-2, 2, 9).double(), torch.linspace(0.1, 1.5, 9).double()
    x = mean + deviation * torch.randn(200_000, 9, generator=torch.Generator().manual_seed(0)).double()
    drawn = func(x[None]) if func not in (F.relu, torch.tanh, F.gelu) else func(x)
    drawn = drawn.reshape(200_000, -1)
    found = func(Moments.of(mean[None], deviation[None].square()))
    torch.testing.assert_close(found.as_subclass(torch.Tensor)[0], drawn.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(found.variance[0].sqrt(), drawn.std(0), atol=0.03, rtol=0)


def test_a_certain_number_stays_certain():
    x = Moments.of(torch.tensor([[-1.0, 0.0, 2.0]]), torch.zeros(1, 3))
    for found in (F.relu(x), F.max_pool1d(x, 3), x.flatten() * 3):
        assert found.variance.abs().max() < 1e-6
    assert F.relu(x).as_subclass(torch.Tensor)[0].tolist() == pytest.approx([0, 0, 2])


def test_points_have_the_moments_of_the_output():
    output = Moments.of(torch.tensor([[1.0, -3.0]]), torch.tensor([[4.0, 0.0]]))
    drawn = torch.stack(list(points(output)))
    torch.testing.assert_close(drawn.mean(0), torch.tensor([[1.0, -3.0]]))
    torch.testing.assert_close(drawn.std(0, correction=0), torch.tensor([[2.0, 0.0]]))
    assert torch.equal(drawn, torch.stack(list(points(output))))


@pytest.fixture(scope="module")
def fitted():
    data = blobs((12,), classes=3, train=300, test=200)
    x, y = torch.from_numpy(data["x_train"]).float(), torch.from_numpy(data["y_train"]).long()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 3))
    bb.binarize_(net, magnitude=1.0, quiet=True)
    optimizer = bb.optimizer_for(net, num_data=len(x), kl_weight=0.1)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    bb.calibrate_(net, x)
    return net, torch.from_numpy(data["x_test"]).float()


def test_a_prediction_is_near_that_of_many_samples(fitted):
    net, x = fitted
    many, found = bb.predict(net, x, 512), bb.predict(net, x, "moments")
    assert found.num_samples == "moments"
    assert (found.probs - many.probs).abs().max() < 0.05
    assert (found.entropy - many.entropy).abs().mean() < 0.03
    assert (found.mutual_information - many.mutual_information).abs().mean() < 0.03
    whole, parts = bb.predict(net, x, "moments"), bb.predict(net, x, "moments", batch_size=7)
    torch.testing.assert_close(whole.probs, parts.probs)
    assert not isinstance(found.probs, Moments)


def test_what_has_no_rule_is_refused_and_the_network_is_as_before(fitted):
    net, x = fitted
    odd = nn.Sequential(net, nn.Softmax(1))
    with pytest.raises(ValueError, match="moments have no rule for softmax, which the network uses: predict with"):
        bb.predict(odd, x, "moments")
    assert all(layer._draw is None for _, layer in binary_layers(net))
    with pytest.raises(
        ValueError, match=r"num_samples must be 'moments' or at least 0 \(0 is the mode\), got 'moment'"
    ):
        bb.predict(net, x, "moment")
    with pytest.raises(ValueError, match="no posterior"):
        bb.predict(nn.Linear(12, 3), x, "moments")


def test_regression():
    torch.manual_seed(0)
    net = bb.binarize_(nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1)), magnitude=0.5, quiet=True)
    x = torch.randn(20, 4)
    many, found = bb.predict_regression(net, x, 2000), bb.predict_regression(net, x, "moments")
    torch.testing.assert_close(found.mean, many.mean, atol=0.05, rtol=0)
    torch.testing.assert_close(found.std, many.std, atol=0, rtol=0.15)

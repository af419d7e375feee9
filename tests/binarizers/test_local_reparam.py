import pytest
import torch
from torch import nn

from bayesbinn import bernoulli
from bayesbinn.binarizers import LocalReparam
from bayesbinn.nn import BinaryConv1d, BinaryConv2d, BinaryLinear
from tests.enumeration import all_weights, exact_gradient

LAYERS = {
    "linear": (lambda **k: BinaryLinear(3, 2, **k), (4, 3)),
    "linear without bias": (lambda **k: BinaryLinear(3, 2, bias=False, **k), (4, 3)),
    "conv1d": (lambda **k: BinaryConv1d(1, 2, 3, padding=1, stride=2, **k), (4, 1, 5)),
    "conv1d circular": (lambda **k: BinaryConv1d(2, 2, 2, padding="same", padding_mode="circular", **k), (4, 2, 5)),
    "conv2d": (lambda **k: BinaryConv2d(1, 1, (2, 3), padding=(0, 1), **k), (2, 1, 3, 3)),
    "conv2d grouped, dilated": (lambda **k: BinaryConv2d(2, 2, 2, groups=2, dilation=2, **k), (2, 2, 3, 4)),
    "conv2d reflected": (lambda **k: BinaryConv2d(1, 2, 2, padding=1, padding_mode="reflect", **k), (2, 1, 3, 3)),
}


def make(name, **settings):
    build, shape = LAYERS[name]
    layer = build(binarizer=LocalReparam(), dtype=torch.float64, **settings)
    with torch.no_grad():
        layer.natural.normal_()
    return layer, torch.randn(shape, dtype=torch.float64)


def whole(layer, x, weight):
    """The layer's output with the given weight."""
    layer._draw = weight
    y = layer(x)
    layer._draw = None
    return y


@pytest.fixture
def fixed_noise(monkeypatch):
    """ε of one value everywhere, so that mean and deviation can be read off."""

    def fix(value):
        monkeypatch.setattr(torch, "randn", lambda shape, **k: torch.full(shape, value, dtype=k["dtype"]))

    return fix


@pytest.mark.parametrize("name", LAYERS)
def test_mean_and_variance_are_those_of_all_networks(name, fixed_noise):
    layer, x = make(name)
    outputs = torch.stack([whole(layer, x, weight) for weight, _ in all_weights(layer.natural.detach())])
    probabilities = torch.tensor([p for _, p in all_weights(layer.natural.detach())], dtype=torch.float64)
    mean = torch.einsum("s,s...->...", probabilities, outputs)
    variance = torch.einsum("s,s...->...", probabilities, (outputs - mean) ** 2)
    fixed_noise(0.0)
    torch.testing.assert_close(layer(x), mean)
    fixed_noise(1.0)
    torch.testing.assert_close((layer(x) - mean) ** 2, variance)


@pytest.mark.parametrize("name", LAYERS)
def test_gradient_is_autograds_in_the_mean(name, fixed_noise):
    """The same output written in μ, differentiated by autograd: λ must receive ∂/∂μ, not ∂/∂λ."""
    layer, x = make(name)
    x.requires_grad_()
    upstream = torch.randn_like(layer(x))
    mean = torch.tanh(layer.natural.detach()).requires_grad_()
    y_variance = layer.apply_weight(x * x, 1 - mean * mean)
    (whole(layer, x, mean) + 0.7 * layer.unit * y_variance.sqrt()).backward(upstream)
    by_autograd, x_grad = mean.grad, x.grad
    layer.zero_grad()
    x.grad = None
    fixed_noise(0.7)
    layer(x).backward(upstream)
    torch.testing.assert_close(layer.natural.grad, by_autograd)
    torch.testing.assert_close(x.grad, x_grad)
    if layer.bias is not None:
        torch.testing.assert_close(layer.bias.grad, upstream.sum([d for d in range(upstream.ndim) if d != 1]))


def test_is_unbiased_for_one_layer_and_a_squared_error():
    """A quadratic loss only sees the first two moments, which are exact."""
    layer, x = make("linear")
    y = torch.randn(4, 2, dtype=torch.float64)

    def loss(weight):
        return (whole(layer, x, weight) - y).square().mean()

    exact = exact_gradient(lambda weight: loss(weight).detach(), layer.natural.detach())
    draws = 4000
    estimates = torch.empty(draws, *layer.natural.shape, dtype=torch.float64)
    for i in range(draws):
        layer.zero_grad()
        (layer(x) - y).square().mean().backward()
        estimates[i] = layer.natural.grad
    error = (estimates.mean(0) - exact) / (estimates.std(0) / draws**0.5)
    assert error.abs().max() < 4.5  # standard errors, of 6 weights


def test_gradients_are_finite_where_nothing_is_uncertain():
    layer = BinaryLinear(4, 3, binarizer=LocalReparam())
    with torch.no_grad():
        layer.natural[0] = 1e4  # certain weights
    x = torch.randn(5, 4)
    x[0] = 0  # an input without effect
    x.requires_grad_()
    y = layer(x)
    y.sum().backward()
    torch.testing.assert_close(y[0], layer.bias)
    torch.testing.assert_close(y[:, 0], x.sum(1) / 2 + layer.bias[0])
    assert layer.natural.grad.isfinite().all()
    assert x.grad.isfinite().all()


def test_float32_keeps_the_variance_of_nearly_certain_weights(fixed_noise):
    """1 − tanh² would be 0 at |λ| = 10; the deviation is sech λ."""
    layer = BinaryLinear(1, 1, bias=False, binarizer=LocalReparam())
    nn.init.constant_(layer.natural, 10.0)
    fixed_noise(1.0)
    deviation = layer(torch.full((1, 1), 2.0**20)).item() - 2.0**20
    assert deviation == pytest.approx(2.0**20 / torch.cosh(torch.tensor(10.0)).item(), rel=1e-2)


def test_a_generator_makes_it_repeatable_and_evaluation_uses_the_mode():
    layer = BinaryLinear(8, 3, binarizer=LocalReparam(torch.Generator().manual_seed(3)))
    x = torch.randn(2, 8)
    first = layer(x)
    assert not torch.equal(first, layer(x))
    layer.binarizer.generator.manual_seed(3)
    assert torch.equal(first, layer(x))
    mode = x @ bernoulli.sign(layer.natural).T * layer.unit + layer.bias
    torch.testing.assert_close(layer.eval()(x), mode)

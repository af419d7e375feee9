"""Each binary layer against its torch twin with the weights ±s: outputs and gradients."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bayesbinn import BinaryConv1d, BinaryConv2d, BinaryLinear, bernoulli, binarize_
from bayesbinn.binarizers import (
    AdaSTE,
    Concrete,
    LocalReparam,
    MeanWeight,
    ReinMax,
    SignSTE,
    StraightThroughSample,
    TanhAnneal,
)
from bayesbinn.nn.layers import initial_natural

CONVS = [
    {},
    {"stride": 2},
    {"padding": 2},
    {"padding": "same"},
    {"padding": "same", "dilation": 2},
    {"padding": "valid", "bias": False},
    {"dilation": 2, "padding": 1},
    {"groups": 2},
    {"groups": 4, "stride": 2, "padding": 1},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": 2, "padding_mode": "replicate", "stride": 3},
    {"padding": "same", "padding_mode": "circular", "dilation": 2, "groups": 2},
]
CONVS_2D = [{"kernel_size": (3, 5), "stride": (2, 1), "padding": (0, 2), "dilation": (2, 1)}, {"kernel_size": 1}]
LAYERS = (
    [(BinaryLinear, (4, 3), {}, (2, 4)), (BinaryLinear, (4, 3), {"bias": False}, (2, 5, 4))]
    + [(BinaryConv1d, (4, 8), {"kernel_size": 3, **kw}, (2, 4, 9)) for kw in CONVS]
    + [(BinaryConv2d, (4, 8), {"kernel_size": 3, **kw}, (2, 4, 9, 8)) for kw in [*CONVS, *CONVS_2D]]
)
every_layer = pytest.mark.parametrize(
    ("kind", "args", "kwargs", "shape"), LAYERS, ids=lambda v: getattr(v, "__name__", str(v))
)


def scaled(layer, weight):
    """The weight with each output channel times its scale."""
    return weight * layer.scales.reshape(-1, *[1] * (weight.ndim - 1))


def twin_of(layer, args, kwargs, weight):
    twin = layer.float_type(*args, **kwargs)
    with torch.no_grad():
        twin.weight.copy_(scaled(layer, weight))
        if twin.bias is not None:
            twin.bias.copy_(layer.bias)
    return twin


@pytest.mark.parametrize("scale", ["learned", "fan_in", "none"])
@every_layer
def test_eval_is_the_twin_with_the_scaled_mode(kind, args, kwargs, shape, scale):
    layer, x = kind(*args, **kwargs, scale=scale).eval(), torch.randn(shape)
    if scale == "learned":
        layer.scale.data.normal_()
    assert torch.equal(layer.weight, torch.where(layer.natural >= 0, 1.0, -1.0))
    torch.testing.assert_close(layer(x), twin_of(layer, args, kwargs, layer.weight)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", ["learned", "fan_in"])
@every_layer
def test_training_is_the_twin_with_a_draw_and_lambda_gets_the_weights_gradient(kind, args, kwargs, shape, scale):
    layer, x = kind(*args, **kwargs, scale=scale), torch.randn(shape, requires_grad=True)
    torch.manual_seed(7)
    drawn = bernoulli.sample(layer.natural.detach())
    torch.manual_seed(7)
    out = layer(x)
    twin = twin_of(layer, args, kwargs, drawn)
    x_twin = x.detach().clone().requires_grad_()
    out_twin = twin(x_twin)
    torch.testing.assert_close(out, out_twin, rtol=1e-4, atol=1e-5)
    upstream = torch.randn_like(out)
    out.backward(upstream)
    out_twin.backward(upstream)
    torch.testing.assert_close(layer.natural.grad, scaled(layer, twin.weight.grad), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x.grad, x_twin.grad, rtol=1e-4, atol=1e-5)
    if layer.bias is not None:
        torch.testing.assert_close(layer.bias.grad, twin.bias.grad)
    if scale == "learned":  # ∂loss/∂s of a channel is that of all its weights together
        own = (drawn * twin.weight.grad).flatten(1).sum(1) * layer.unit
        torch.testing.assert_close(layer.scale.grad, own, rtol=1e-4, atol=1e-5)


@every_layer
def test_from_float_takes_over_every_setting(kind, args, kwargs, shape):
    source = kind.float_type(*args, **kwargs)
    layer, x = kind.from_float(source, init="weights", scale="learned"), torch.randn(shape)
    assert layer.bias is source.bias
    assert torch.equal(layer.weight, bernoulli.sign(source.weight))
    torch.testing.assert_close(layer.scales, source.weight.detach().abs().flatten(1).mean(1))  # as large as it was
    torch.testing.assert_close(layer.eval()(x), twin_of(layer, args, kwargs, layer.weight)(x), rtol=1e-4, atol=1e-5)
    assert repr(layer) == repr(source).replace(kind.float_type.__name__, kind.__name__)[:-1] + (
        ", scale=learned, binarizer=StraightThroughSample())"
    )


def test_an_output_has_the_size_of_an_input_whatever_the_fan_in():
    for inputs in (10, 1000):
        x = torch.randn(2000, inputs)
        for scale in ("learned", "fan_in"):
            assert BinaryLinear(inputs, 50, bias=False, scale=scale)(x).std().item() == pytest.approx(1, rel=0.1)
        found = BinaryLinear(inputs, 50, bias=False, scale="none")(x).std().item()
        assert found == pytest.approx(inputs**0.5, rel=0.1)
    with pytest.raises(ValueError, match="scale must be 'learned', 'fan_in' or 'none', got 2"):
        BinaryLinear(2, 2, scale=2)
    assert [name for name, _ in BinaryLinear(2, 2).named_parameters()] == ["bias", "natural", "scale"]
    assert [name for name, _ in BinaryLinear(2, 2, scale="fan_in").named_parameters()] == ["bias", "natural"]


def test_any_number_type_goes_through_the_scale():
    for scale in ("learned", "fan_in", "none"):
        layer = BinaryLinear(8, 3, scale=scale)
        layer.natural.data = layer.natural.data.bfloat16()  # λ alone
        assert layer(torch.randn(2, 8)).dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(torch.randn(2, 8)).dtype == torch.bfloat16


@given(
    kind=st.sampled_from([BinaryConv1d, BinaryConv2d]),
    kernel_size=st.sampled_from([1, 3]),
    stride=st.integers(1, 3),
    padding=st.integers(0, 3) | st.just("same"),
    dilation=st.integers(1, 3),
    groups=st.sampled_from([1, 2]),
    padding_mode=st.sampled_from(["zeros", "reflect", "replicate", "circular"]),
    bias=st.booleans(),
)
def test_any_convolution_is_its_twin(kind, stride, padding, **kwargs):
    kwargs |= {"stride": 1 if padding == "same" else stride, "padding": padding}
    layer = kind(2, 4, **kwargs).eval()
    x = torch.randn(1, 2, *[8] * (1 if kind is BinaryConv1d else 2))
    torch.testing.assert_close(layer(x), twin_of(layer, (2, 4), kwargs, layer.weight)(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [BinaryLinear, BinaryConv1d, BinaryConv2d])
def test_bad_arguments_give_torchs_errors(kind):
    with pytest.raises(TypeError):
        kind(4)
    if kind is not BinaryLinear:
        with pytest.raises(ValueError, match="divisible by groups"):
            kind(3, 4, 1, groups=2)


def test_device_and_dtype():
    layer = BinaryLinear(4, 3, dtype=torch.float64)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}
    assert layer(torch.randn(2, 4, dtype=torch.float64)).dtype == torch.float64
    assert layer.weight.dtype == torch.float64
    assert BinaryConv2d(4, 3, 3, device="meta").natural.is_meta


def test_training_draws_fresh_weights_and_eval_does_not():
    layer, x = BinaryLinear(64, 8, init="zeros"), torch.randn(2, 64)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    state = torch.get_rng_state()
    assert torch.equal(layer(x), layer(x))
    assert torch.equal(torch.get_rng_state(), state)  # evaluation uses no randomness


def test_eval_gives_lambda_no_gradient_but_the_input_one():
    layer, x = BinaryLinear(4, 3).eval(), torch.randn(2, 4, requires_grad=True)
    layer(x).sum().backward()
    assert layer.natural.grad is None
    torch.testing.assert_close(x.grad, scaled(layer, layer.weight).sum(0).expand(2, -1))
    assert layer.bias.grad is not None


def test_sign_ste_trains_with_the_mode():
    layer, x = BinaryLinear(4, 3, binarizer=SignSTE()), torch.randn(2, 4)
    assert torch.equal(layer(x), layer.eval()(x))


def test_weight_is_read_only_and_detached():
    layer = BinaryLinear(4, 3)
    assert not layer.weight.requires_grad
    with pytest.raises(AttributeError):
        layer.weight = torch.zeros(3, 4)
    layer.weight.zero_()  # a copy: λ does not notice
    assert layer.natural.abs().min() == 5


def test_state_dict_round_trip():
    layer = BinaryConv2d(2, 3, 3, binarizer=Concrete(0.5))
    state = layer.state_dict()
    assert sorted(state) == ["bias", "natural", "scale"]
    twin = BinaryConv2d(2, 3, 3)
    assert not torch.equal(twin.natural, layer.natural)
    assert twin.load_state_dict(state) == torch.nn.modules.module._IncompatibleKeys([], [])
    assert torch.equal(twin.natural, layer.natural)
    x = torch.randn(1, 2, 5, 5)
    assert torch.equal(twin.eval()(x), layer.eval()(x))
    with pytest.raises(RuntimeError, match=r"Missing key.*natural"):
        layer.load_state_dict(nn.Conv2d(2, 3, 3).state_dict())


def test_moving_and_casting():
    layer = BinaryLinear(4, 3).double()
    assert layer.natural.dtype == torch.float64
    assert layer(torch.randn(2, 4).double()).dtype == torch.float64


def test_frozen_lambda_still_draws():
    layer, x = BinaryLinear(64, 8, init="zeros"), torch.randn(2, 64)
    layer.natural.requires_grad_(False)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    first.sum().backward()
    assert layer.natural.grad is None
    frozen = nn.Linear(2, 2)
    frozen.weight.requires_grad_(False)
    assert not BinaryLinear.from_float(frozen).natural.requires_grad


def test_default_binarizer_and_start():
    layer = BinaryLinear(100, 100)
    assert layer.binarizer == StraightThroughSample()
    assert set(layer.natural.unique().tolist()) == {-5.0, 5.0}
    assert layer.natural.mean().abs() < 5 * 5 / 100
    assert BinaryLinear(4, 3, magnitude=10).natural.abs().unique().tolist() == [10.0]
    assert BinaryLinear(4, 3, init="zeros").natural.abs().max() == 0


@pytest.mark.parametrize("magnitude", [0.5, 10.0])
def test_initial_natural_from_weights_keeps_signs_and_proportions(magnitude):
    weight = torch.randn(30, 20)
    natural = initial_natural(weight, "weights", magnitude)
    torch.testing.assert_close(natural, weight / weight.abs().mean() * magnitude)
    assert natural.abs().mean().item() == pytest.approx(magnitude, rel=1e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-42, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_initial_natural_is_finite_for_any_weights(scale, dtype):
    natural = initial_natural(torch.tensor([-1.0, 1.0, 2.0], dtype=dtype) * scale, "weights", 10.0)
    assert natural.isfinite().all()
    assert natural.dtype == dtype


def test_initial_natural_errors():
    for magnitude in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"magnitude must be a finite number above 0, got {magnitude}"):
            initial_natural(torch.ones(2), "signs", magnitude)
    with pytest.raises(ValueError, match="init must be 'signs', 'zeros' or 'weights', got 'normal'"):
        BinaryLinear(2, 2, init="normal")


@pytest.mark.parametrize("init", ["signs", "zeros", "weights"])
def test_the_usual_loop_over_modules_starts_a_network_anew(init: str) -> None:
    """Between folds: nothing that was learned may leak into the next one."""
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    binarize_(net, init=init, magnitude=2.0, scale="learned")
    torch.manual_seed(0)
    before = [p.detach().clone() for p in net.parameters()]
    for p in net.parameters():
        p.data.add_(50.0)
    for module in net.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    for p, old in zip(net.parameters(), before, strict=True):
        assert p.abs().max() < 20
        assert p.shape == old.shape
    if init == "signs":
        assert (net[0].natural.abs() == 2).all()
        assert not torch.equal(net[2].natural, before[2])  # other signs
    torch.manual_seed(1)
    net.to_empty(device="cpu")
    net[2].reset_parameters()
    assert net[2].natural.isfinite().all()
    assert (net[2].scale == 1).all() if init != "weights" else (net[2].scale - 0.5).abs().max() < 0.3


@pytest.mark.parametrize(
    "binarizer",
    [c() for c in (AdaSTE, Concrete, LocalReparam, MeanWeight, ReinMax, SignSTE, StraightThroughSample, TanhAnneal)],
    ids=lambda b: type(b).__name__,
)
def test_torch_func_differentiates_a_network_in_training(binarizer: object) -> None:
    net = binarize_(nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 2)), binarizer=binarizer)
    params, x = dict(net.named_parameters()), torch.randn(7, 5)

    def loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(net, values, (x,)).square().mean()

    torch.manual_seed(3)
    found = torch.func.grad(loss)({name: p.detach() for name, p in params.items()})
    torch.manual_seed(3)
    loss(params).backward()
    for name, p in params.items():
        assert p.grad is not None
        torch.testing.assert_close(found[name], p.grad)

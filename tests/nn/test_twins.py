"""What every binary twin promises, whatever the layer: it is the float module with the weights ±s."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import bayesbinn as bb
from bayesbinn.binarizers import (
    AdaSTE,
    Concrete,
    LocalReparam,
    MeanWeight,
    Reference2020,
    ReinMax,
    SignSTE,
    StraightThroughSample,
    TanhAnneal,
)
from bayesbinn.deploy import UnsupportedError, pack
from bayesbinn.nn import BinaryWeight, binary_layers
from bayesbinn.nn.table import TWINS


def normal(*shape):
    return torch.randn(shape)


def packed():
    return pack_padded_sequence(normal(6, 3, 4), torch.tensor([6, 4, 1]), enforce_sorted=True)


X, LONG = normal(2, 5, 8), torch.tensor([[0, 3, 1], [2, 2, 5]])
CAUSAL = torch.triu(torch.ones(5, 5, dtype=torch.bool), 1)
PADDING = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
RNN = [
    ({}, lambda: (normal(5, 2, 4),)),
    ({"num_layers": 2, "bidirectional": True, "batch_first": True}, lambda: (normal(3, 5, 4),)),
    ({"num_layers": 2, "bias": False}, lambda: (packed(),)),
]
CASES = [
    (nn.Linear, (4, 3), {}, lambda: (normal(2, 5, 4),)),
    (nn.Conv1d, (4, 6, 3), {"groups": 2}, lambda: (normal(4, 9),)),
    (nn.Conv2d, (4, 6, 3), {"padding": "same", "padding_mode": "reflect"}, lambda: (normal(2, 4, 6, 6),)),
    (nn.Conv3d, (2, 4, 3), {"stride": 2, "padding": 1}, lambda: (normal(2, 2, 5, 5, 5),)),
    (nn.ConvTranspose1d, (4, 6, 3), {"stride": 2, "groups": 2}, lambda: (normal(2, 4, 5),)),
    (nn.ConvTranspose2d, (4, 6, 3), {"stride": 2, "padding": 1}, lambda: (normal(2, 4, 5, 5), [10, 9])),
    (nn.ConvTranspose3d, (2, 4, 2), {"dilation": 2, "bias": False}, lambda: (normal(2, 2, 3, 3, 3),)),
    (nn.Bilinear, (4, 3, 5), {}, lambda: (normal(2, 7, 4), normal(2, 7, 3))),
    (nn.Embedding, (6, 4), {"padding_idx": 2}, lambda: (LONG,)),
    *((kind, (4, 6), options, inputs) for kind in (nn.RNN, nn.GRU, nn.LSTM) for options, inputs in RNN),
    (nn.RNN, (4, 6), {"nonlinearity": "relu"}, lambda: (normal(5, 4), normal(1, 6))),
    (nn.LSTM, (4, 6), {"proj_size": 2}, lambda: (normal(5, 2, 4), (normal(1, 2, 2), normal(1, 2, 6)))),
    (nn.RNNCell, (4, 6), {"nonlinearity": "relu"}, lambda: (normal(9, 4), normal(9, 6))),
    (nn.GRUCell, (4, 6), {}, lambda: (normal(2, 4), normal(2, 6))),
    (nn.LSTMCell, (4, 6), {"bias": False}, lambda: (normal(4), (normal(6), normal(6)))),
    (nn.MultiheadAttention, (8, 2), {"batch_first": True}, lambda: (X, X, X, PADDING, True, CAUSAL, False)),
    (nn.MultiheadAttention, (8, 2), {"bias": False, "batch_first": True}, lambda: (X, X, X, None, False)),
    (nn.MultiheadAttention, (8, 2), {"add_bias_kv": True, "add_zero_attn": True}, lambda: (X, X, X)),
    (nn.MultiheadAttention, (8, 2), {"kdim": 3, "vdim": 5}, lambda: (X, normal(4, 5, 3), normal(4, 5, 5))),
    (nn.MultiheadAttention, (8, 2), {}, lambda: (normal(5, 8), normal(3, 8), normal(3, 8))),
]
every_case = pytest.mark.parametrize(
    ("kind", "args", "kwargs", "inputs"), CASES, ids=lambda v: getattr(v, "__name__", None) or str(v)
)
BINARIZERS = [
    *(AdaSTE, Concrete, LocalReparam, MeanWeight, Reference2020, ReinMax, SignSTE, StraightThroughSample, TanhAnneal)
]


@pytest.fixture(autouse=True)
def quiet_torch():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")
        yield


def tensors(found):
    """All tensors of what a module returns."""
    if isinstance(found, torch.Tensor):
        return [found]
    if isinstance(found, PackedSequence):
        return [found.data]
    return [] if found is None else [t for part in found for t in tensors(part)]


def pair(kind, args, kwargs, scale="learned"):
    """A float module and its twin, made binary from it, with scales of all sizes; the float one has the weights ±s."""
    source = kind(*args, **kwargs)
    twin = TWINS[kind].from_float(copy.deepcopy(source), init="weights", scale=scale)
    for _, layer in binary_layers(twin):
        if layer.scale is not None:
            layer.scale.data.uniform_(-2, 2)
    fix(source, twin)
    return source, twin


@torch.no_grad()
def fix(source, twin):
    modes = {name: layer._spread(layer.scales) * layer.weight for name, layer in binary_layers(twin)}
    if isinstance(source, nn.MultiheadAttention):
        source.out_proj.weight.copy_(modes.pop("out_proj"))
        parts = [modes[f"{name}_proj_weight"] for name in "qkv"]
        if source.in_proj_weight is None:
            for name, part in zip("qkv", parts, strict=True):
                getattr(source, f"{name}_proj_weight").copy_(part)
        else:
            source.in_proj_weight.copy_(torch.cat(parts))
    else:
        for name, mode in modes.items():
            getattr(source, name or "weight").copy_(mode)
        if isinstance(source, nn.Embedding):
            source.weight[source.padding_idx] = 0


def test_every_twin_is_here():
    assert {kind for kind, *_ in CASES} == set(TWINS)


@every_case
def test_the_mode_is_the_float_module_with_the_weights_scaled(kind, args, kwargs, inputs):
    source, twin = pair(kind, args, kwargs)
    given = inputs()
    found, expected = (tensors(module.eval()(*given)) for module in (twin, source))
    assert [t.shape for t in found] == [t.shape for t in expected]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert twin.extra_repr().startswith(source.extra_repr())


@every_case
@pytest.mark.parametrize("scale", ["learned", "fan_in"])
def test_a_fixed_draw_is_the_float_module_and_training_gives_every_parameter_a_gradient(
    kind, args, kwargs, inputs, scale
):
    source, twin = pair(kind, args, kwargs, scale)
    net, given = nn.ModuleDict({"layer": twin}), inputs()
    weights = bb.draw(net, torch.Generator().manual_seed(1))
    with bb.sampled_weights(net, weights=weights):
        fix(source, twin)
        torch.testing.assert_close(tensors(twin(*given)), tensors(source.train()(*given)), rtol=1e-4, atol=1e-5)
    torch.manual_seed(1)
    outputs = tensors(twin.train()(*given))
    torch.manual_seed(1)
    torch.testing.assert_close(tensors(twin(*given)), outputs)
    sum((t * torch.randn_like(t)).sum() for t in outputs if t.is_floating_point()).backward()
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any() or name.endswith("bias_k"), name


@every_case
def test_state_reset_and_copies(kind, args, kwargs, inputs):
    twin, other = (TWINS[kind](*args, **kwargs, scale="learned") for _ in range(2))
    other.load_state_dict(twin.state_dict())
    given = inputs()
    copied = copy.deepcopy(twin)
    found, expected, copies = (tensors(module.eval()(*given)) for module in (other, twin, copied))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    torch.testing.assert_close(copies, expected, rtol=0, atol=0)
    for parameter in twin.parameters():
        parameter.data.fill_(50.0)
    for module in twin.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    assert all(p.abs().max() <= 5 for p in twin.parameters())
    for _, layer in binary_layers(twin):
        assert layer.natural.abs().unique().tolist() == [layer._start[1]]
        assert (layer.scale == 1).all()


@every_case
def test_every_binarizer_trains_it(kind, args, kwargs, inputs):
    given = inputs()
    for make in BINARIZERS:
        twin = TWINS[kind](*args, **kwargs, binarizer=make())
        outputs = [t for t in tensors(twin(*given)) if t.is_floating_point()]
        sum((t * torch.randn_like(t)).sum() for t in outputs).backward()
        assert all(layer.natural.grad.isfinite().all() for _, layer in binary_layers(twin)), make


@every_case
def test_outputs_have_about_the_size_of_inputs(kind, args, kwargs, inputs):
    """The purpose of the scale: no fan-in makes an output large."""
    torch.manual_seed(0)
    out = tensors(TWINS[kind](*args, **kwargs).eval()(*inputs()))[0]
    assert out.square().mean().sqrt() < 3


@every_case
def test_packing_lists_what_it_cannot_hold(kind, args, kwargs, inputs):
    held = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.RNN, nn.GRU, nn.LSTM)
    if kind in held:  # tests/deploy/test_capture.py, test_plans.py
        return
    net = nn.Sequential(TWINS[kind](*args, **kwargs)).eval()
    with pytest.raises(UnsupportedError, match=f"Binary{kind.__name__}"):
        pack(net, input_shape=(4,))


def test_a_whole_transformer_and_its_optimizer():
    net = nn.Transformer(8, 2, 1, 1, 16, dropout=0.0, batch_first=True)
    bb.binarize_(net, scale="learned")
    binary, real = bb.split_parameters(net)
    assert len(binary) == 3 * 4 + 2 * 2
    optimizer = bb.optimizer_for(net, num_data=100)
    before = [p.detach().clone() for p in binary + real]
    net(X, normal(2, 3, 8)).square().mean().backward()
    optimizer.step()
    assert sum(torch.equal(a, b) for a, b in zip(before, binary + real, strict=True)) == 0
    assert bb.predict_regression(net, (X, X), num_samples=2).mean.shape == (2, 5, 8)


def test_recurrent_weights_that_are_tied_stay_tied():
    first, second = nn.GRU(4, 4), nn.GRU(4, 4)
    second.weight_hh_l0 = first.weight_hh_l0
    net = bb.binarize_(nn.ModuleList([first, second]))
    assert net[0].weight_hh_l0.natural is net[1].weight_hh_l0.natural
    assert len(bb.split_parameters(net)[0]) == 3


def test_a_weight_of_ones_own():
    """For code that computes with a weight in its own way."""

    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = BinaryWeight(3, 4)

        def forward(self, x):
            return x @ self.weight().T

    net, x = Own(), normal(2, 4)
    optimizer = bb.optimizer_for(net, num_data=10)
    net(x).sum().backward()
    before = net.weight.natural.detach().clone()
    optimizer.step()
    assert not torch.equal(before, net.weight.natural)
    torch.testing.assert_close(net.eval()(x), x @ (net.weight.weight * net.weight.scales[:, None]).T)
    assert bb.predict(net, x, 4).probs.shape == (2, 3)


def test_latent_weights_in_bfloat16():
    for kind, args, kwargs, inputs in CASES:
        twin = TWINS[kind](*args, **kwargs)
        given = inputs()
        for _, layer in binary_layers(twin):
            layer.natural.data = layer.natural.data.bfloat16()
        if kind is not nn.Embedding:
            assert tensors(twin(*given))[0].dtype == torch.float32, kind


def test_embeddings_refuse_what_a_sign_cannot_do():
    with pytest.raises(ValueError, match="a binary embedding has no max_norm"):
        bb.binarize_(nn.Sequential(nn.Embedding(4, 2, max_norm=1.0)), include=nn.Embedding)

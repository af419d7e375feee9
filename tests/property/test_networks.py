"""Laws that hold for any network made of the layers that can be converted."""

import copy

import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bayesbinn import BayesBiNN, binarize_, deploy, draw, posterior_summary, predict, sampled_weights, split_parameters
from bayesbinn.nn import binary_layers
from bayesbinn.runtime import load


@st.composite
def networks(draw_from):
    """A convolutional stem (or none), some linear layers, activations and norms between; for inputs (B, 2, 6)."""
    torch.manual_seed(draw_from(st.integers(0, 1000)))
    layers, channels = [], 2
    for _ in range(draw_from(st.integers(0, 2))):
        width = draw_from(st.sampled_from([2, 4]))
        kernel = draw_from(st.sampled_from([1, 3]))
        layers += [nn.Conv1d(channels, width, kernel, padding="same", bias=draw_from(st.booleans()))]
        layers += draw_from(st.sampled_from([[], [nn.ReLU()], [nn.BatchNorm1d(width)]]))
        channels = width
    layers += [nn.Flatten()]
    features = channels * 6
    for _ in range(draw_from(st.integers(0, 2))):
        width = draw_from(st.integers(1, 9))
        layers += [nn.Linear(features, width, bias=draw_from(st.booleans())), nn.Tanh()]
        features = width
    return nn.Sequential(*layers, nn.Linear(features, 3))


@settings(max_examples=30)
@given(networks(), st.sampled_from(["signs", "zeros", "weights"]), st.floats(0.1, 10))
def test_a_converted_network(net, init, magnitude):
    parameters = {name: p.numel() for name, p in net.named_parameters()}
    keys, twin, x = list(net.state_dict()), copy.deepcopy(net), torch.randn(5, 2, 6)
    binarize_(net, init=init, magnitude=magnitude)

    binary, real = split_parameters(net)
    scales = {f"{name}.scale": len(layer.natural) for name, layer in binary_layers(net)}  # one per output channel
    assert sum(p.numel() for p in [*binary, *real]) == sum(parameters.values()) + sum(scales.values())
    assert sorted(k.replace("natural", "weight") for k in net.state_dict()) == sorted([*keys, *scales])

    def scaled(weight, layer):
        return weight * layer.scales.reshape(-1, *[1] * (weight.ndim - 1))

    with torch.no_grad():
        for name, layer in binary_layers(net):
            twin.get_submodule(name).weight.copy_(scaled(layer.weight, layer))
    torch.testing.assert_close(net.eval()(x), twin.eval()(x), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for name, weight in draw(net, torch.Generator().manual_seed(3)).items():
            twin.get_submodule(name).weight.copy_(scaled(weight, net.get_submodule(name)))
        with sampled_weights(net, seed=3):
            torch.testing.assert_close(net(x), twin(x), rtol=1e-4, atol=1e-5)

    found = predict(net, x, num_samples=3)
    torch.testing.assert_close(found.probs.sum(-1), torch.ones(5))
    assert (found.entropy >= found.expected_entropy - 1e-6).all()
    assert (found.variation_ratio <= 2 / 3 + 1e-6).all()

    optimizer = BayesBiNN(binary, lr=0.1, num_data=5)
    before = posterior_summary(net, optimizer)
    net.train()(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    optimizer.step()
    after = posterior_summary(net, optimizer, previous=before)
    assert after.total.num_weights == sum(p.numel() for p in binary)
    assert 0 <= after.total.flip_rate <= 1
    assert after.total.kl >= 0


class Tape(nn.Module):
    """Runs (what, i, j) on a list of vectors that starts with the input: some append a value, some write into one."""

    def __init__(self, tape):
        super().__init__()
        self.tape, self.layer, self.head = tape, nn.Linear(6, 6), nn.Linear(6, 3)
        self.relu, self.dropout = nn.ReLU(inplace=True), nn.Dropout(0.5)

    def forward(self, x):
        values = [x]
        for what, i, j in self.tape:
            a, b = values[i % len(values)], values[j % len(values)]
            if what == "layer":
                values.append(self.layer(a))
            elif what == "relu":
                values.append(F.relu(a))
            elif what == "same":
                values.append(self.dropout(a).flatten(1))
            elif what == "add":
                values.append(0.5 * (a + b))
            elif what == "relu_":
                values.append(self.relu(a))
            elif what == "clamp_":
                a.clamp_(-1, 1)
            elif what == "iadd":
                a += b
            elif what == "imul":
                a *= 0.5
        return self.head(values[-1])


KINDS = ["layer", "relu", "same", "add", "relu_", "clamp_", "iadd", "imul"]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 5), st.integers(0, 5)), max_size=9))
def test_a_packed_network_writes_in_place_as_torch_does(tape):
    torch.manual_seed(0)
    net, x = binarize_(Tape(tape)).eval(), torch.randn(4, 6)
    packed = torch.from_numpy(load(deploy.pack(net, input_shape=(6,), activations="int16")).run(x.numpy()))
    expected = net(x.clone()).detach()
    assert torch.allclose(packed, expected, atol=2e-3 * float(expected.abs().max().clamp(min=1)))

"""A pack is compared with its network: what tracing cannot see is refused, by name, before a file is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn.deploy.bits import pack_signs
from bayesbinn.runtime import load, numpy_engine
from tests.deploy.nets import Sign, mlp, resnet, trained

X = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))


def small() -> nn.Sequential:
    """Linear "0", ReLU "1", Linear "2"."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    return bb.binarize_(net).eval()


def hooked_output() -> nn.Module:
    net = small()
    net[0].register_forward_hook(lambda module, inputs, output: output * 0.1)
    return net


def hooked_slightly() -> nn.Module:
    net = small()
    net[1].register_forward_hook(lambda module, inputs, output: output * 1.001)
    return net


def hooked_input() -> nn.Module:
    net = small()
    net[2].register_forward_pre_hook(lambda module, inputs: inputs[0] + 1)
    return net


def hooked_network() -> nn.Module:
    net = small()
    net.register_forward_hook(lambda module, inputs, output: output + 1)
    return net


def hooked_in_its_second_call() -> nn.Module:
    torch.manual_seed(0)
    layer, calls = bb.BinaryLinear(6, 6), [0]

    def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        calls[0] += 1
        return output * 0.5 if calls[0] % 2 == 0 else output

    layer.register_forward_hook(hook)
    return nn.Sequential(layer, nn.ReLU(), layer)


class AlwaysDrops(nn.Dropout):
    def train(self, mode: bool = True) -> "AlwaysDrops":
        return super().train(True)


def dropout_that_stays_on() -> nn.Module:
    net = small()
    net[1] = AlwaysDrops()
    return net


class Functional(nn.Module):
    def __init__(self, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.own = nn.Linear(6, 6), nn.Linear(6, 6), forward
        bb.binarize_(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(self, x)


def dropout_without_its_argument() -> nn.Module:
    return Functional(lambda net, x: net.b(F.dropout(net.a(x), 0.5)))  # its `training` is True by default


def state_of_the_world() -> nn.Module:
    calls = [0]

    def forward(net: Any, x: Tensor) -> Tensor:
        calls[0] += 1
        return net.b(net.a(x) * calls[0])

    return Functional(forward)


def batch_norm_that_still_trains() -> nn.Module:
    net = trained(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)))
    net[1].train = lambda mode=True: net[1]  # type: ignore[index, method-assign, assignment]
    net[1].training = True  # type: ignore[index]
    return net


def patched_forward() -> nn.Module:
    net = small()
    net[1].forward = lambda x: 3 * x
    return net


def spectral_norm_of_weights_that_changed() -> nn.Module:
    """The hook of the old spectral norm sets `weight` when the network runs, not when its parameters change."""
    net = nn.Sequential(torch.nn.utils.spectral_norm(nn.Linear(6, 6)), bb.BinaryLinear(6, 3))
    net(X)
    net[0].weight_orig.data.mul_(3).add_(1)
    return net


UNTRUE = {
    hooked_output: "'0', '1' in the mode",
    hooked_slightly: "'0', '1' in the mode",
    hooked_input: "what '2' reads",
    hooked_network: "after '2' in the mode, the output",
    hooked_in_its_second_call: "what '0' gives",
    dropout_that_stays_on: "after '0' in the mode, what '2' reads",
    dropout_without_its_argument: "what 'b' reads",
    state_of_the_world: "what 'b' reads",
    batch_norm_that_still_trains: "what '1' gives",
    patched_forward: "what '1' gives",
    spectral_norm_of_weights_that_changed: "what '0' gives",
}


@pytest.mark.parametrize("make", UNTRUE)
@pytest.mark.parametrize("activations", ["int8", "int16"])
def test_a_network_that_does_more_than_its_trace_is_refused(
    make: Callable[[], nn.Module], activations: Any, tmp_path: Path
) -> None:
    """One sentence that names where, and no file."""
    path = tmp_path / "net.bbnn"
    with pytest.raises(bb.deploy.UnsupportedError, match="what was packed is not this network") as caught:
        bb.deploy.save(make().eval(), path, calibration=X, activations=activations)
    assert UNTRUE[make] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not path.exists()


def spectral_norm() -> nn.Module:
    layer = torch.nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6))
    return nn.Sequential(layer, bb.BinaryLinear(6, 3))


def weight_norm() -> nn.Module:
    layer = torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
    return nn.Sequential(layer, bb.BinaryLinear(6, 3))


class Negative(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -x


def parametrised_bits() -> nn.Module:
    net = small()
    nn.utils.parametrize.register_parametrization(net[0], "natural", Negative())
    return net


def hook_that_only_looks() -> nn.Module:
    net, seen = small(), list[float]()
    net[0].register_forward_hook(lambda module, inputs, output: seen.append(float(output.max())))
    return net


def hook_of_a_block() -> nn.Module:
    net = nn.Sequential(small(), nn.ReLU())
    net[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    return net


def compiled_part() -> nn.Module:
    return nn.Sequential(torch.compile(small(), backend="eager"), nn.ReLU())  # type: ignore[arg-type]


def deep_without_modules() -> nn.Module:
    """Rounding errors may not pile up to what would hide a fault."""

    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(6, 6) for _ in range(30))
            bb.binarize_(self)

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = F.hardtanh(layer(x) / 2)
            return x

    return Deep()


TRUE = [
    spectral_norm,
    weight_norm,
    parametrised_bits,
    hook_that_only_looks,
    hook_of_a_block,
    compiled_part,
    deep_without_modules,
]


@pytest.mark.parametrize("make", TRUE)
def test_what_can_be_packed_is_packed_as_the_network_is(make: Callable[[], nn.Module]) -> None:
    net = make().eval()
    packed = load(bb.deploy.pack(net, calibration=X, activations="int16")).run(X.numpy())
    with torch.no_grad():
        expected = net(X)
    assert torch.allclose(torch.from_numpy(packed), expected, atol=1e-3 * float(expected.abs().max()))


def test_a_compiled_network_packs_as_the_same_network() -> None:
    net = small()
    assert bb.deploy.pack(torch.compile(net, backend="eager"), calibration=X) == bb.deploy.pack(net, calibration=X)


@pytest.mark.parametrize("activations", ["int8", "int16"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_sound_networks_are_never_refused(activations: Any, calibrated: bool) -> None:
    """Over scales, sign activations exactly at 0, biases that cancel, and statistics that were never collected."""
    signs = nn.Sequential(Sign(), nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32, affine=False), Sign())
    cancels = nn.Sequential(nn.Linear(20, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    with torch.no_grad():
        cancels[0].bias.fill_(1e4)
    bb.binarize_(signs)
    bb.binarize_(cancels)
    cancels[1].running_mean.fill_(1e4)  # type: ignore[union-attr, operator]
    signs[2].running_mean.copy_(torch.arange(-32, 32, 2))  # type: ignore[union-attr, operator]
    cases = [(signs, (64,)), (cancels, (20,)), (mlp(), (20,)), (resnet(), (3, 12, 12))]
    for net, shape in cases:
        for scale in (1e-6, 1.0, 1e6):
            x = scale * torch.randn(9, *shape)
            bb.deploy.pack(
                net.eval(),
                calibration=x if calibrated else None,
                input_shape=shape,
                num_samples=2,
                activations=activations,
            )


def test_settings_that_prefer_speed_to_precision_stay_out_of_it() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        bb.deploy.pack(trained(nn.Sequential(nn.Linear(512, 512), nn.Linear(512, 9)), exclude="0"))
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_a_wrong_bit_of_one_sample_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = [0]

    def wrong(weight: Tensor) -> Any:
        calls[0] += 1
        bits = pack_signs(weight)
        if calls[0] == 5:  # two layers of the mode, two of sample 1: layer 0 of sample 2
            bits[0] ^= 1
        return bits

    monkeypatch.setattr("bayesbinn.deploy.networks.pack_signs", wrong)
    with pytest.raises(bb.deploy.UnsupportedError, match=r"after '0', '1' in sample 2"):
        bb.deploy.pack(small(), num_samples=2)


@pytest.mark.parametrize(("activations", "factor"), [("int8", 1.5), ("int16", 1.01)])
def test_an_engine_that_errs_by_more_than_quantisation_is_found(
    activations: Any, factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = numpy_engine.binary
    monkeypatch.setattr(numpy_engine, "binary", lambda op, x, sample: right(op, x, sample) * factor)
    with pytest.raises(bb.deploy.UnsupportedError, match=r"after '0', '1' in the mode, its quantised output"):
        bb.deploy.pack(small(), activations=activations, calibration=X)


def test_a_network_that_packing_cannot_run_says_why() -> None:
    def pair(net: Any, x: Tensor) -> Any:
        return net.a(x), 3.0

    def explodes(net: Any, x: Tensor) -> Tensor:
        return net.a(x / 1e-30) / 1e-30

    with pytest.raises(bb.deploy.UnsupportedError, match="not a tensor, or several"):
        bb.deploy.pack(Functional(pair), calibration=X)
    with pytest.raises(bb.deploy.UnsupportedError, match="the network itself gives NaN or inf"):
        bb.deploy.pack(Functional(explodes), calibration=1e-3 * X)
    with pytest.raises(bb.deploy.UnsupportedError, match=r"fails on inputs of shape \(B, 6\) of type torch.int64"):
        bb.deploy.pack(small(), calibration=X.long())


def test_a_bias_that_cancels_the_mean_leaves_rounding_of_both() -> None:
    net = nn.Sequential(nn.AvgPool2d(2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    bb.binarize_(net)
    with torch.no_grad():
        net[1].running_mean.copy_(torch.tensor([0.1, 0.3, 0.7, 1.1]))
        net[1].running_var.copy_(torch.tensor([0.9, 1.3, 0.3, 2.0]))
        net[1].bias.copy_(net[1].running_mean * (net[1].running_var + net[1].eps).rsqrt())
    bb.deploy.pack(net.eval(), calibration=1e-6 * torch.randn(64, 4, 2, 2), input_shape=(4, 2, 2))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_a_wrong_bit_of_a_recurrent_weight_is_found(kind: type[nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = kind(6, 8, batch_first=True), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x)[0].mean(1))

    net = trained(Net())
    assert bb.deploy.pack(net, input_shape=(9, 6))
    sizes = [layer.natural.numel() for _, layer in bb.nn.binary_layers(net)]
    hidden = net.rnn.weight_hh_l0.natural.numel()
    assert sizes.count(hidden) == 1

    def wrong(weight: Tensor) -> Any:
        bits = pack_signs(weight)
        if weight.numel() == hidden:
            bits[0] ^= 1
        return bits

    monkeypatch.setattr("bayesbinn.deploy.networks.pack_signs", wrong)
    with pytest.raises(bb.deploy.UnsupportedError, match="what was packed is not this network"):
        bb.deploy.pack(net, input_shape=(9, 6))

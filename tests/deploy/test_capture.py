"""What can be packed agrees with torch; what cannot is listed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn.runtime import load
from tests.deploy.nets import Normalize, Sign, mlp, resnet, trained


def difference(net: nn.Module, x: Tensor) -> float:
    """Largest difference to torch, relative to the largest output."""
    net.eval()
    packed = load(bb.deploy.pack(net, activations="int16", input_shape=x.shape[1:])).run(x.numpy())
    expected = net(x).detach()
    assert packed.shape == expected.shape
    return float((torch.from_numpy(packed) - expected).abs().max() / expected.abs().max().clamp(min=1e-9))


class Functions(nn.Module):
    """The functional forms, methods and operators."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding="same")
        self.shared = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.head = nn.Linear(8, 4)
        self.register_buffer("offset", torch.randn(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.conv(2 * x - 0.5)) / 3
        x = F.hardtanh(self.shared(x) / 8 + self.offset, -2, 2)
        x = F.max_pool2d(torch.relu(self.shared(x)), 2) * torch.tensor(0.5)
        x = F.avg_pool2d(x, 3, stride=1, padding=1).clamp(0, 5)
        x = F.dropout(x, 0.5, self.training) + x
        return self.head(1 - x.mean((2, 3)))


CASES = {
    "mlp": (mlp, (20,)),
    "functions": (lambda: trained(Functions()), (3, 8, 8)),
    "sequence": (
        lambda: trained(
            nn.Sequential(Normalize(4, 1), nn.Conv1d(4, 9, 5, 2), nn.BatchNorm1d(9), nn.ReLU(), nn.MaxPool1d(2))
        ),
        (4, 30),
    ),
    "flatten": (lambda: trained(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(27, 4))), (2, 5, 5)),
    "image as vector": (lambda: trained(nn.Sequential(nn.Flatten(), nn.Linear(50, 4))), (2, 5, 5)),
    "reuse": (lambda: trained(nn.Sequential(*[nn.Linear(6, 6)] * 3)), (6,)),
}


@pytest.mark.parametrize("case", CASES)
def test_packed_networks_agree_with_torch(case: str) -> None:
    build, shape = CASES[case]
    assert difference(build(), torch.randn(6, *shape)) < 2e-3


def test_sign_networks_agree_with_torch() -> None:
    net = trained(nn.Sequential(Sign(), nn.Linear(30, 20), nn.BatchNorm1d(20), Sign(), nn.Linear(20, 4)))
    assert difference(net, torch.randn(8, 30)) < 1e-6
    program = bb.deploy.load_program(bb.deploy.pack(net))
    assert [op.activation.kind for op in program.ops if op.activation] == ["sign", "sign"]


def test_samples_are_those_of_predict() -> None:
    for net, shape in ((mlp(), (20,)), (resnet(), (3, 12, 12))):
        for layer in dict(bb.nn.binary_layers(net)).values():
            layer.natural.data.mul_(0.5)
        x = torch.randn(16, *shape)
        packed = load(bb.deploy.pack(net, num_samples=4, seed=3, activations="int16", input_shape=shape))
        expected, found = bb.predict(net, x, 4, seed=3), packed.predict_uncertainty(x.numpy())
        for field in ("probs", "entropy", "expected_entropy", "mutual_information"):
            assert torch.allclose(getattr(expected, field).double(), torch.from_numpy(getattr(found, field)), atol=1e-3)
        mode = bb.predict(net, x, 0)
        assert torch.allclose(mode.probs.double(), torch.from_numpy(packed.predict(x.numpy(), 0)), atol=1e-3)


def test_batch_norm_relu_and_scale_are_folded() -> None:
    kinds = [op.kind for op in bb.deploy.load_program(bb.deploy.pack(mlp())).ops]
    assert kinds == ["binary"] * 3


def test_everything_unsupported_is_listed() -> None:
    layers = (nn.Softplus(), nn.LocalResponseNorm(2), bb.BinaryLinear(4, 2), nn.LogSoftmax(-1))
    net = nn.Sequential(bb.BinaryLinear(3, 4), *layers)
    with pytest.raises(bb.deploy.UnsupportedError) as caught:
        bb.deploy.pack(net)
    for name in ("Softplus", "LocalResponseNorm", "LogSoftmax"):
        assert name in str(caught.value)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = bb.BinaryLinear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if x.sum() > 0 else x


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = bb.BinaryLinear(3, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.layer(x) + self.layer(y)


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (Branches(), "cannot be traced"),
        (TwoInputs(), "more inputs than one"),
        (nn.Sequential(bb.BinaryConv2d(3, 4, 2, padding="same")), "even kernel"),
        (nn.Sequential(bb.BinaryConv2d(3, 4, 3, padding=1, padding_mode="circular")), "circular"),
        (nn.Sequential(bb.BinaryConv2d(3, 4, 3), nn.MaxPool2d(2, ceil_mode=True)), "ceil_mode"),
        (nn.Sequential(bb.BinaryLinear(9, 4)), "flatten before it"),
        (nn.Sequential(bb.BinaryConv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)), "running statistics"),
    ],
)
def test_unsupported_networks_say_why(net: nn.Module, says: str) -> None:
    with pytest.raises(bb.deploy.UnsupportedError, match=says):
        bb.deploy.pack(net, input_shape=(3, 8, 8))


class InPlace(nn.Module):
    """Two layers, and a function that says how they are joined."""

    def __init__(self, forward: Callable[["InPlace", Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.relu, self.own = nn.Linear(11, 11), nn.Linear(11, 11), nn.ReLU(inplace=True), forward
        self.conv, self.head = nn.Conv1d(1, 2, 3, padding=1), nn.Linear(22, 11)

    def forward(self, x: Tensor) -> Tensor:
        return self.own(self, x)


def module_on_a_value_read_later(net: InPlace, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.b(net.relu(h)) + h


def module_made_in_forward(net: InPlace, x: Tensor) -> Tensor:
    h = net.a(x)
    return net.b(nn.ReLU(inplace=True)(h)) + h


def module_on_the_input(net: InPlace, x: Tensor) -> Tensor:
    return net.b(net.relu(x)) + x


def method_on_the_input(net: InPlace, x: Tensor) -> Tensor:
    x.relu_().clamp_(max=0.5)
    return net.a(x)


def settings_of_functions(net: InPlace, x: Tensor) -> Tensor:
    h = net.a(x)
    before = F.relu(h)
    F.hardtanh(h, -1, 0.5, True)
    return net.b(before) + F.relu(h, inplace=True)


def operators(net: InPlace, x: Tensor) -> Tensor:
    old = h = net.a(x)
    h += x
    h *= 0.5
    h -= 1
    h /= 3
    return net.b(h) + old


def through_an_identity(net: InPlace, x: Tensor) -> Tensor:
    h = net.a(x)
    same = F.dropout(h, 0.5, net.training).flatten(1)
    same.relu_()
    return net.b(h)


IN_PLACE = [
    module_on_a_value_read_later,
    module_made_in_forward,
    module_on_the_input,
    method_on_the_input,
    settings_of_functions,
    operators,
    through_an_identity,
]


@pytest.mark.parametrize("forward", IN_PLACE)
def test_operations_in_place_change_every_name_of_a_tensor(forward: Callable[[InPlace, Tensor], Tensor]) -> None:
    net, x = trained(InPlace(forward)), torch.randn(6, 11)
    packed = load(bb.deploy.pack(net, activations="int16")).run(x.numpy())
    expected = net(x.clone()).detach()
    assert torch.allclose(torch.from_numpy(packed), expected, atol=2e-3 * float(expected.abs().max()))


def test_operations_in_place_on_a_view() -> None:
    """Packed where all that read the memory read all of it, refused by name where something reads a part."""

    def alone(net: InPlace, x: Tensor) -> Tensor:
        return net.head(net.conv(x).flatten(1).relu_())

    def shared(net: InPlace, x: Tensor) -> Tensor:
        h = net.conv(x)
        h.flatten(1).relu_()
        return net.head(h.flatten(1))

    def part(net: InPlace, x: Tensor) -> Tensor:
        h = net.conv(x)
        h[:, 1].relu_()
        return net.head(h.flatten(1))

    for forward in (alone, shared):
        assert difference(trained(InPlace(forward)), torch.randn(6, 1, 11)) < 2e-3
    with pytest.raises(bb.deploy.UnsupportedError, match="'relu_' changes 'conv' in place, through a view"):
        bb.deploy.pack(trained(InPlace(part)), input_shape=(1, 11))


class Transformer(nn.Module):
    """A small vision transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.token, self.norm = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.zeros(1, 1, 8)), nn.LayerNorm(8)
        block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.blocks, self.head = nn.TransformerEncoder(block, 2, enable_nested_tensor=False), nn.Linear(8, 5)
        self.act = nn.Softplus()

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        if x.shape[1] > 4:
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1)
        out: Tensor = self.head(self.norm(self.blocks(x))[:, 0])
        return out


def test_a_network_that_cannot_be_traced_says_where_and_what_to_do() -> None:
    with pytest.raises(bb.deploy.UnsupportedError) as caught:
        bb.deploy.pack(bb.binarize_(Transformer()).eval(), input_shape=(3, 16, 16))
    said = str(caught.value)
    assert "\n" not in said
    for part in (
        "its forward cannot be traced",
        "may not branch on values or shapes",
        "'act' (Softplus)",
        "docs/deploy.md",
    ):
        assert part in said
    inner = nn.Sequential(nn.Flatten(), Branches())
    with pytest.raises(bb.deploy.UnsupportedError, match=r"module '1' \(Branches\) cannot be traced"):
        bb.deploy.pack(inner, input_shape=(3,))


def test_the_shape_of_the_input_comes_from_the_calibration_or_is_asked_for() -> None:
    net = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3)))
    with pytest.raises(ValueError, match=r"give calibration=x, a few typical inputs, or input_shape=\(C, H, W\)"):
        bb.deploy.pack(net)
    program = bb.deploy.load_program(bb.deploy.pack(net, calibration=torch.randn(2, 3, 8, 8)))
    assert program.input_shape == (3, 8, 8)


def test_settings_out_of_range() -> None:
    net = mlp()
    with pytest.raises(ValueError, match="num_samples"):
        bb.deploy.pack(net, num_samples=-1)
    with pytest.raises(ValueError, match="activations"):
        bb.deploy.pack(net, activations="int4")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="calibration"):
        bb.deploy.pack(net, calibration=torch.full((2, 20), torch.nan))
    with pytest.raises(ValueError, match=r"input_shape is \(3,\)"):
        bb.deploy.pack(net, calibration=torch.zeros(2, 20), input_shape=(3,))
    with pytest.raises(ValueError, match="no binary layer"):
        bb.deploy.pack(nn.Sequential(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="input shape"):
        bb.deploy.pack(resnet())
    net[1].natural.data.fill_(torch.nan)  # type: ignore[index, union-attr, operator]
    net[2].running_var.fill_(torch.inf)  # type: ignore[index, union-attr, operator]
    net[2].running_mean.fill_(torch.inf)  # type: ignore[index, union-attr, operator]
    with pytest.raises(ValueError, match="NaN or inf"):
        bb.deploy.pack(net)


def test_packing_leaves_the_network_alone() -> None:
    net = mlp().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    bb.deploy.pack(net, num_samples=2, calibration=torch.randn(4, 20))
    assert all(module.training for module in net.modules())
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


class Several(nn.Module):
    """Two inputs, and an argument that may be left out; one output, two, or two by name."""

    def __init__(self, gives: str) -> None:
        super().__init__()
        self.image, self.numbers = nn.Conv2d(2, 6, 3), nn.Linear(5, 6)
        self.head, self.more, self.gives = nn.Linear(12, 3), nn.Conv2d(6, 2, 1), gives

    def forward(self, image: Tensor, numbers: Tensor, mask: Tensor | None = None) -> Any:
        h = F.relu(self.image(image))
        if mask is not None:
            h = h * mask
        y = self.head(torch.cat([h.mean((2, 3)), torch.tanh(self.numbers(numbers))], 1))
        return {"one": y, "two": (y, self.more(h)), "named": {"y": y, "map": self.more(h)}}[self.gives]


@pytest.mark.parametrize("gives", ["one", "two", "named"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_several_inputs_and_outputs(gives: str, calibrated: bool) -> None:
    net = trained(Several(gives))
    x = (torch.randn(4, 2, 6, 6), 5 * torch.randn(4, 5))
    shapes = None if calibrated else [(2, 6, 6), (5,)]
    raw = bb.deploy.pack(
        net, calibration=x if calibrated else None, input_shape=shapes, activations="int16", num_samples=1
    )
    network = load(raw)
    with torch.no_grad():
        given = net(*x)
    expected = list(given.values()) if gives == "named" else [given] if gives == "one" else list(given)
    arrays = tuple(part.numpy() for part in x)
    found = network.parts(network.run(arrays))
    assert [part.shape for part in found] == [tuple(part.shape) for part in expected]
    for part, wanted in zip(found, expected, strict=True):
        assert torch.allclose(torch.tensor(part), wanted, atol=2e-3 * float(wanted.abs().max()))
    assert network.run_samples(arrays).shape == (1, *network.run(arrays).shape)
    with pytest.raises(ValueError, match="behind the batch"):
        network.run(arrays[::-1])


def test_several_inputs_that_do_not_fit_say_so() -> None:
    net = trained(Several("one"))
    with pytest.raises(ValueError, match="as many of each"):
        bb.deploy.pack(net, calibration=(torch.randn(4, 2, 6, 6), torch.randn(3, 5)))
    with pytest.raises(ValueError, match=r"input_shape is \(2, 6, 6\) and \(4,\), but inputs of calibration have"):
        bb.deploy.pack(net, calibration=(torch.randn(4, 2, 6, 6), torch.randn(4, 5)), input_shape=[(2, 6, 6), (4,)])


@pytest.mark.parametrize("exclude", [(), "0"])
def test_transposed_convolutions(exclude: Any) -> None:
    for settings in (
        {"kernel_size": 2, "stride": 2},
        {"kernel_size": 4, "stride": 2, "padding": 1},
        {"kernel_size": 3, "stride": (2, 3), "padding": (1, 0), "output_padding": (1, 2)},
        {"kernel_size": (3, 2), "stride": 1, "dilation": (2, 1), "groups": 2},
    ):
        net = trained(
            nn.Sequential(nn.ConvTranspose2d(4, 6, **settings), nn.ReLU(), nn.Conv2d(6, 2, 1)), exclude=exclude
        )  # type: ignore[arg-type]
        x = torch.randn(3, 4, 5, 6)
        assert difference(net, x) < 2e-3, settings
    padded = trained(nn.Sequential(nn.ConstantPad2d((1, 2, 0, 3), 0.5), nn.Conv2d(4, 2, 3)))
    assert difference(padded, torch.randn(3, 4, 5, 6)) < 2e-3
    sequence = trained(nn.Sequential(nn.ConvTranspose1d(4, 6, 4, 3, padding=1, output_padding=2), nn.Conv1d(6, 3, 1)))
    assert difference(sequence, torch.randn(3, 4, 7)) < 2e-3

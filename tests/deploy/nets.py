"""Small networks of every kind that a file can hold."""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn import _native, bernoulli
from bayesbinn.nn import binary_layers

ENGINES = [*_native.instruction_sets(), "numpy"]
SIZES = [1, 3, 7, 33, 63, 97]


class Sign(nn.Module):
    """±1 activations."""

    def forward(self, x: Tensor) -> Tensor:
        return bernoulli.sign(x)


class Scale(nn.Module):
    """Logits times one learnable number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Normalize(nn.Module):
    """(x - mean) / std per channel."""

    def __init__(self, channels: int, spatial: int) -> None:
        super().__init__()
        shape = (-1,) + (1,) * spatial
        self.register_buffer("mean", torch.linspace(0.1, 0.3, channels).reshape(shape))
        self.register_buffer("std", torch.linspace(0.5, 0.7, channels).reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Block(nn.Module):
    """Residual block."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def trained(net: nn.Module, **kwargs: object) -> nn.Module:
    """`net` made binary, with scales, and batch norm statistics, that are not 0 and 1."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 20)
            if module.affine:
                module.weight.data.normal_()
                module.bias.data.normal_()
    bb.binarize_(net, **{"scale": "learned", **kwargs})  # type: ignore[arg-type]
    for _, layer in binary_layers(net):
        if layer.scale is not None:
            layer.scale.data.uniform_(-2, 2)
    return net.eval()


def mlp(sizes: tuple[int, ...] = (20, 33, 17, 5)) -> nn.Module:
    """[dropout, linear, batch norm, ReLU] with a scale at the end."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(itertools.pairwise(sizes)):
        layers += [nn.Dropout(0.2), nn.Linear(before, after, bias=False), nn.BatchNorm1d(after, affine=False)]
        layers += [nn.ReLU()] if i + 2 < len(sizes) else [Scale()]
    return trained(nn.Sequential(*layers))


def resnet() -> nn.Module:
    """Real stem, residual blocks, depthwise and dilated convolution, all pools: input (3, 12, 12)."""
    net = nn.Sequential(
        Normalize(3, 2),
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        Block(8, 8, 1),
        Block(8, 12, 2),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 12, 3, groups=12, dilation=2, padding=2),
        nn.Hardtanh(),
        nn.AvgPool2d(3, 1, padding=1),
        nn.BatchNorm2d(12),
        Sign(),
        nn.Conv2d(12, 40, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(40, 5),
        nn.BatchNorm1d(5, affine=False),
        Scale(),
    )
    return trained(net, exclude="1")


def real_first() -> nn.Module:
    """A clamp of the input and a real linear layer before a binary one: input (20,)."""
    return trained(nn.Sequential(nn.Hardtanh(-1, 2), nn.Linear(20, 9), nn.ReLU(), nn.Linear(9, 4)), exclude="1")


class Squeeze(nn.Module):
    """Squeeze and excitation: channels times a number each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 2, 1), nn.Conv2d(2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.hardswish(self.down(x.mean((2, 3), keepdim=True)))))


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, layer norm over channels, GELU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm, self.size = nn.LayerNorm(channels), nn.Parameter(torch.rand(channels))
        self.wide, self.narrow = nn.Linear(channels, 2 * channels), nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.size * self.narrow(F.gelu(self.wide(y)))).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """All functions and norms, products and sums with spread operands, upsampling, joined parts: input (3, 8, 8)."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block, self.squeeze = nn.Conv2d(3, 8, 2, 2), ConvNeXtBlock(8), Squeeze(8)
            self.groups, self.rms = nn.GroupNorm(2, 8), nn.RMSNorm(8, eps=1e-5)
            self.functions = nn.Sequential(nn.SiLU(), nn.Mish(), nn.ELU(0.7), nn.LeakyReLU(0.2), nn.Hardsigmoid())
            self.more, self.head = nn.Sequential(nn.GELU("tanh"), nn.Tanh()), nn.Linear(20, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.squeeze(self.block(self.stem(x)))
            y = self.functions(self.groups(y)) - F.interpolate(F.avg_pool2d(y, 2), scale_factor=2.0)
            left, right = self.more(self.rms(y.flatten(2).transpose(1, 2))).chunk(2, -1)
            parts = [
                left.sum(1),
                right.amax(1),
                F.pad(y, (1, 0)).mean((1, 3)),
                x.reshape(len(x), -1, 8)[:, ::3].mean(1),
            ]
            return self.head(torch.cat(parts, 1))

    return trained(Net(), exclude="stem")


def vit() -> nn.Module:
    """Patches, a class token, positions, torch's encoder, attention by hand: input (3, 8, 8)."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.token = nn.Conv2d(3, 12, 4, 4), nn.Parameter(torch.randn(1, 1, 12))
            self.position, self.norm = nn.Parameter(torch.randn(1, 5, 12)), nn.LayerNorm(12)
            layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, norm_first=True, activation="gelu")
            self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
            self.qkv, self.head = nn.Linear(12, 36), nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = self.encoder(torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position)
            batch, tokens, width = x.shape
            q, k, v = self.qkv(self.norm(x)).reshape(batch, tokens, 3, 2, width // 2).permute(2, 0, 3, 1, 4)
            weights = (q @ k.transpose(-2, -1) * 0.4).softmax(dim=-1)
            return self.head((x + (weights @ v).transpose(1, 2).reshape(batch, tokens, width))[:, 0])

    return trained(Net())


def recurrent() -> nn.Module:
    """A GRU of two directions, an LSTM, an RNN kept real, the last state of one: input (7, 6)."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru, self.lstm = nn.GRU(6, 5, bidirectional=True, batch_first=True), nn.LSTM(10, 9)
            self.rnn, self.head = nn.RNN(9, 4, nonlinearity="relu", batch_first=True), nn.Linear(13, 3)

        def forward(self, x: Tensor) -> Tensor:
            states, _ = self.lstm(self.gru(x)[0].transpose(0, 1))
            return self.head(torch.cat([states.mean(0), self.rnn(states.transpose(0, 1))[1].squeeze(0)], 1))

    return trained(Net(), exclude="rnn")


NETWORKS = [  # together they hold every kind of operation
    (mlp, (20,)),
    (resnet, (3, 12, 12)),
    (real_first, (20,)),
    (convnext, (3, 8, 8)),
    (vit, (3, 8, 8)),
    (recurrent, (7, 6)),
]

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


NETWORKS = [(mlp, (20,)), (resnet, (3, 12, 12)), (real_first, (20,))]  # together they hold every kind of operation

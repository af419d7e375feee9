"""Networks written as people write them are packed, and agree with torch."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn.runtime import load


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        return x * (torch.rand(x.shape[0], *[1] * (x.ndim - 1)) < 0.9) / 0.9


class Attention(nn.Module):
    """One projection for queries, keys and values, with a norm of the queries."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.qkv, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm = nn.LayerNorm(width // heads)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        x = F.scaled_dot_product_attention(self.norm(q), k, v)
        return self.out(x.transpose(1, 2).reshape(batch, tokens, width))


class TransformerBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * width, width))
        self.drop, self.size = DropPath(), nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.size * self.attention(self.norm1(x)))
        return x + self.drop(self.mlp(self.norm2(x)))


class ViT(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, width, 8, 8), nn.Parameter(torch.randn(1, 1, width))
        self.position, self.blocks = nn.Parameter(torch.randn(1, 17, width)), nn.Sequential(TransformerBlock(width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Squeeze(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        down, up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), down, nn.ReLU(), up, nn.Hardsigmoid())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class MobileBlock(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        wide = 2 * channels
        first = (nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish())
        second = (nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.Hardswish())
        self.layers = nn.Sequential(*first, *second, Squeeze(wide), nn.Conv2d(wide, out, 1), nn.BatchNorm2d(out))
        self.same = channels == out and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.same else self.layers(x)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2, self.pool = self.block(3, 8), self.block(8, 16), nn.MaxPool2d(2)
        self.up, self.last, self.out = nn.ConvTranspose2d(16, 8, 2, 2), self.block(16, 8), nn.Conv2d(8, 1, 1)

    @staticmethod
    def block(channels: int, out: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        first = self.down1(x)
        return self.out(self.last(torch.cat([first, self.up(self.down2(self.pool(first)))], 1)))


class DenseNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers, self.head = (
            nn.ModuleList([nn.Conv2d(3 + 8 * i, 8, 3, padding=1) for i in range(3)]),
            nn.Linear(27, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.layers:
            features.append(F.relu(layer(torch.cat(features, 1))))
        return self.head(F.adaptive_avg_pool2d(torch.cat(features, 1), 1).view(x.size(0), -1))


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5)
        self.fc1, self.fc2 = nn.Linear(400, 120), nn.Linear(120, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), (2, 2)).view(-1, 16 * 5 * 5)
        return self.fc2(F.relu(self.fc1(x)))


class ShuffleNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.groups, self.head = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 1, groups=4), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        batch, channels, height, width = x.size()
        x = x.view(batch, 4, channels // 4, height, width).transpose(1, 2).contiguous().view(batch, -1, height, width)
        return self.head(self.groups(x).mean([2, 3]))


class Mixer(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.patches, self.norm1, self.norm2 = nn.Conv2d(3, width, 8, 8), nn.LayerNorm(width), nn.LayerNorm(width)
        self.tokens = nn.Sequential(nn.Linear(16, 16), nn.GELU(), nn.Linear(16, 16))
        self.channels, self.head = nn.Sequential(nn.Linear(width, width), nn.GELU()), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return self.head((x + self.channels(self.norm2(x))).mean(dim=1))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide, self.head = nn.Linear(3072, 64), nn.Linear(64, 128), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.wide(torch.tanh(self.first(x.flatten(1)))).chunk(2, dim=-1)
        return self.head(F.silu(gate) * value)


class QueryPool(nn.Module):
    """Attention whose query is a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.query = nn.Conv2d(3, 32, 8, 8), nn.Parameter(torch.randn(1, 1, 32))
        self.attention, self.head = nn.MultiheadAttention(32, 4, batch_first=True), nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).permute(0, 2, 1)
        out, _ = self.attention(self.query.repeat(x.size(0), 1, 1), tokens, tokens)
        return self.head(out.squeeze(1))


class Temporal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv1d(3, 16, 3, dilation=2), nn.Linear(16, 10)
        self.mix = nn.utils.parametrizations.weight_norm(nn.Conv1d(16, 16, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x.flatten(2)[:, :, :200], (4, 0))
        return self.head(self.mix(F.leaky_relu(self.conv(x), 0.2)).amax(-1))


class Causal(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(96, 32), nn.Linear(32, 10)
        layer = nn.TransformerEncoderLayer(32, 4, 64, 0.0, "gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.register_buffer("mask", torch.triu(torch.full((32, 32), float("-inf")), 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.first(x.permute(0, 2, 1, 3).flatten(2)), mask=self.mask)[:, -1])


class HandRMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.rand(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


def mobilenet() -> nn.Module:
    stem = (nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Hardswish())
    return nn.Sequential(
        *stem, MobileBlock(8, 8, 1), MobileBlock(8, 16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
    )


def hand_rms() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 32), HandRMSNorm(32), nn.SiLU(), nn.Linear(32, 10))


def prelu() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.PReLU(8), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10))


ZOO: list[Callable[[], nn.Module]] = [
    *(ViT, UNet, DenseNet, LeNet, ShuffleNet, Mixer, Gated, QueryPool, Temporal, Causal, mobilenet, hand_rms, prelu),
]


@pytest.mark.parametrize("make", ZOO, ids=lambda make: make.__name__)
def test_the_packed_network_agrees_with_torch(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    net, x = make(), torch.randn(8, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, on parametrisations
        net(x)
        net = bb.calibrate_(bb.binarize_(net), x).eval()
    with torch.no_grad():
        expected = net(x).numpy()
    packed = load(bb.deploy.pack(net, activations="int16", input_shape=x.shape[1:])).run(x.numpy())
    assert packed.shape == expected.shape
    assert np.abs(packed - expected).max() < 2e-4 * np.abs(expected).max()

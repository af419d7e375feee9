"""The networks that `train` knows: ordinary float modules, built once for all methods (`binarize_` does the rest)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UserError, unknown
from ..nn import Categorical, Likelihood
from ..nn.gpt import GPT, GPTShape
from .options import option


@dataclass(frozen=True)
class ModelConfig:
    """Network: what to build.

    `real_ends` keeps the first and last layer real; `affine` gives batch norm a learnable scale and shift;
    `output_scale` lets the network learn how large its logits are.
    """

    model: str = option(
        "mlp",
        "network; own: of your own code, for bayesbinn.fit",
        choices=("mlp", "vgg-small", "resnet18", "gpt", "own"),
    )
    width: int = option(256, "units of each hidden layer (mlp), of the stream (gpt)", 1, 10**6)
    depth: int = option(3, "number of hidden layers (mlp), of blocks (gpt)", maximum=10**4)
    width_multiplier: float = option(1.0, "factor on the channels (vgg-small, resnet18)", maximum=1000, above=0)
    dropout: float = option(0.2, "dropout rate before linear layers", maximum=0.99)
    affine: bool = option(True, "learnable scale and shift in batch norm")
    output_scale: bool = option(True, "learnable scale of the logits")
    real_ends: bool = option(False, "keep the first and the last layer real")
    heads: int = option(4, "attention heads of the queries (gpt)", 1, 1024)
    kv_heads: int = option(2, "attention heads of keys and values, each for several queries (gpt)", 1, 1024)
    feed_forward: int = option(0, "width of the feed-forward layers (gpt); 0: three times the width", maximum=10**6)
    context: int = option(256, "tokens that the network sees (gpt)", 2, 10**6)
    vocabulary: int = option(256, "tokens of text: 256 are its bytes, more are learned from it (gpt)", 256, 10**6)
    embedding: str = option("real", "weights of the embedding (gpt)", choices=("real", "binary"))


# what each network is built from; the others of these settings have no effect on it
_LAYERS = ("dropout", "affine", "output_scale")
TAKES = {
    "mlp": ("width", "depth", *_LAYERS),
    "vgg-small": ("width_multiplier", *_LAYERS),
    "resnet18": ("width_multiplier", *_LAYERS),
    "gpt": ("width", "depth", "heads", "kv_heads", "feed_forward", "context", "vocabulary", "embedding"),
    "own": (),
}


class Normalize(nn.Module):
    """(x − mean) / std per channel (or feature), with the statistics of the training data as buffers.

    Part of the network, so that a trained one takes inputs in the units of the data files.

    Shapes: mean, std (C,) for x (B, C, H, W) or (B, C).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor, std: Tensor, ndim: int) -> None:
        super().__init__()
        shape = (-1,) + (1,) * (ndim - 1)
        self.register_buffer("mean", mean.float().reshape(shape))
        self.register_buffer("std", std.float().reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class OutputScale(nn.Module):
    """Multiply the logits by one learnable number, since batch norm without it fixes how confident they can be."""

    def __init__(self, initial: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(float(initial)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class BasicBlock(nn.Module):
    """Residual block of two 3×3 convolutions (He et al., 2016); a 1×1 convolution is the shortcut if shapes change."""

    def __init__(self, channels_in: int, channels: int, stride: int, affine: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels, affine=affine)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, affine=affine)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels_in != channels:
            shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(shortcut, nn.BatchNorm2d(channels, affine=affine))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def mlp(config: ModelConfig, input_shape: tuple[int, ...], num_classes: int) -> list[nn.Module]:
    """[dropout, linear, batch norm, ReLU] × depth, then [dropout, linear, batch norm]."""
    features = int(torch.Size(input_shape).numel())
    layers: list[nn.Module] = [nn.Flatten()]
    for units in [config.width] * config.depth:
        layers += _dropout(config)
        layers += [nn.Linear(features, units, bias=False), nn.BatchNorm1d(units, affine=config.affine), nn.ReLU()]
        features = units
    return [*layers, *_head(config, features, num_classes)]


def vgg_small(config: ModelConfig, input_shape: tuple[int, ...], num_classes: int) -> list[nn.Module]:
    """(128C3)×2-MP2-(256C3)×2-MP2-(512C3)×2-MP2-FC1024×2-FC (Courbariaux et al., 2015; Meng et al., 2020).

    Pooling comes before batch norm: the same function up to batch statistics, at a quarter of its cost.
    """
    channels, height, width = _image(config, input_shape, minimum=8)
    layers: list[nn.Module] = []
    for base in (128, 256, 512):
        wide = _scaled(base, config)
        for pool in (False, True):
            layers.append(nn.Conv2d(channels, wide, 3, padding=1, bias=False))
            layers += [nn.MaxPool2d(2)] if pool else []
            layers += [nn.BatchNorm2d(wide, affine=config.affine), nn.ReLU()]
            channels = wide
    layers.append(nn.Flatten())
    features = channels * (height // 8) * (width // 8)
    for units in [_scaled(1024, config)] * 2:
        layers += _dropout(config)
        layers += [nn.Linear(features, units, bias=False), nn.BatchNorm1d(units, affine=config.affine), nn.ReLU()]
        features = units
    return [*layers, *_head(config, features, num_classes)]


def resnet18(config: ModelConfig, input_shape: tuple[int, ...], num_classes: int) -> list[nn.Module]:
    """ResNet-18 with the 3×3 stem customary for small images (He et al., 2016)."""
    channels, *_ = _image(config, input_shape, minimum=8)
    wide = _scaled(64, config)
    layers: list[nn.Module] = [
        nn.Conv2d(channels, wide, 3, padding=1, bias=False),
        nn.BatchNorm2d(wide, affine=config.affine),
        nn.ReLU(),
    ]
    channels = wide
    for base, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        wide = _scaled(base, config)
        layers += [BasicBlock(channels, wide, stride, config.affine), BasicBlock(wide, wide, 1, config.affine)]
        channels = wide
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return [*layers, *_head(config, channels, num_classes)]


def gpt(config: ModelConfig, input_shape: tuple[int, ...], num_tokens: int) -> list[nn.Module]:
    """A llama-style decoder, see `nn.gpt`."""
    wide = config.feed_forward or 3 * config.width
    try:
        shape = GPTShape(num_tokens, config.width, config.depth, config.heads, config.kv_heads, wide, *input_shape)
    except ValueError as error:
        raise UserError(f"model 'gpt': {error}") from None
    return [GPT(shape)]


OWN = "own"  # a network that a person brings: `fit` trains it, and only its own code can build it

TEXT = "gpt"  # the network that takes text, and nothing else

MODELS: dict[str, Callable[[ModelConfig, tuple[int, ...], int], list[nn.Module]]] = {
    "mlp": mlp,
    "vgg-small": vgg_small,
    "resnet18": resnet18,
    "gpt": gpt,
}


def build_model(
    config: ModelConfig,
    input_shape: tuple[int, ...],
    num_classes: int,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    end: Likelihood | None = None,
) -> nn.Sequential:
    """The float network for inputs of `input_shape` (C, H, W) or (F,), with `Normalize` in front.

    Args:
        config: what to build.
        input_shape: shape of one input, without the batch.
        num_classes: C, number of outputs.
        mean, std: (C,) of the training data; 0 and 1 if None (they are buffers, so a checkpoint brings its own).
        end: the likelihood that the network ends with, for other tasks than classification.

    Raises:
        UserError: for an unknown model, or an input shape that it cannot take.
    """
    if config.model == OWN:
        raise UserError("model 'own' is a network of your own code, which no name can build: give it to bayesbinn.fit")
    if config.model not in MODELS:
        raise unknown("model", config.model, MODELS)
    mean = torch.zeros(input_shape[0]) if mean is None else mean
    std = torch.ones(input_shape[0]) if std is None else std
    layers = MODELS[config.model](config, input_shape, num_classes)
    if config.model == TEXT:  # tokens are names, not numbers
        return nn.Sequential(*layers, *ending(end))
    return nn.Sequential(Normalize(mean, std, len(input_shape)), *layers, *ending(end))


def ending(likelihood: Likelihood | None) -> list[nn.Module]:
    """What a network ends with: classes need no module, since its outputs are their logits."""
    return [] if likelihood is None or isinstance(likelihood, Categorical) else [likelihood]


def _head(config: ModelConfig, features: int, num_classes: int) -> list[nn.Module]:
    head = [*_dropout(config), nn.Linear(features, num_classes, bias=False)]
    head.append(nn.BatchNorm1d(num_classes, affine=config.affine))
    return [*head, OutputScale()] if config.output_scale else head


def _dropout(config: ModelConfig) -> list[nn.Module]:
    return [nn.Dropout(config.dropout)] if config.dropout else []


def _scaled(channels: int, config: ModelConfig) -> int:
    return max(1, round(channels * config.width_multiplier))


def _image(config: ModelConfig, input_shape: tuple[int, ...], minimum: int) -> tuple[int, ...]:
    if len(input_shape) != 3 or min(input_shape[1:]) < minimum:
        raise UserError(
            f"model {config.model!r} needs images of at least {minimum}×{minimum} pixels, "
            f"the data has inputs of shape {input_shape}: use model 'mlp'"
        )
    return input_shape

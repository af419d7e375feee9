"""Draw the weights of a whole network, and fix them for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from .. import bernoulli, shards
from .convert import binary_layers
from .layers import BinaryLayer


def draw(net: nn.Module, generator: torch.Generator | None = None) -> dict[str, Tensor]:
    """One network from the posterior: {layer name: ±1 weight}, drawn independently per weight, P(w = +1) = σ(2λ).

    Layers whose binarizer has no posterior (such as `SignSTE`) give their mode; λ shared by two layers is drawn once.
    Where FSDP2 splits λ over processes, every process draws the whole network (the same one from the same seed).

    Args:
        net: a network with binary layers.
        generator: source of randomness, on the device of the parameters; torch's global generator if None.

    Raises:
        ValueError: if `net` has no binary layer.

    >>> from bayesbinn.nn import BinaryLinear
    >>> draw(nn.Sequential(BinaryLinear(2, 2)), torch.Generator().manual_seed(0))["0"].shape
    torch.Size([2, 2])
    """
    drawn: dict[int, Tensor] = {}
    weights = {}
    for name, layer in some_binary_layers(net):
        natural = layer.natural
        if id(natural) not in drawn:
            mode, own = not layer.binarizer.has_posterior, natural.detach()
            drawn[id(natural)] = bernoulli.sign(own) if mode else bernoulli.sample(own, None, generator)
        weights[name] = drawn[id(natural)]
    return {name: shards.whole(weight) for name, weight in weights.items()}


@contextmanager
def fixed_weights(net: nn.Module, weights: dict[str, Tensor]) -> Iterator[nn.Module]:
    """Inside, each binary layer computes with the given weight, in either mode; on exit it is as before.

    Raises:
        ValueError: if `weights` (as from `draw`) does not fit the layers of `net`.
    """
    layers = dict(some_binary_layers(net))
    if weights.keys() != layers.keys():
        raise ValueError(f"weights are for layers {sorted(weights)}, the network has {sorted(layers)}")
    for name, layer in layers.items():
        if weights[name].shape != layer.natural.shape:
            found, need = tuple(weights[name].shape), tuple(layer.natural.shape)
            raise ValueError(f"weights of layer {name!r} have shape {found}, the layer needs {need}")
    before = {name: layer._draw for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            layer._draw = weights[name]
        yield net
    finally:
        for name, layer in layers.items():
            layer._draw = before[name]


def generator_for(net: nn.Module, seed: int) -> torch.Generator:
    """A generator seeded with `seed`, on the device of the binary parameters of `net`."""
    device = next(layer.natural.device for _, layer in some_binary_layers(net))
    return torch.Generator(device).manual_seed(seed)


def has_posterior(net: nn.Module) -> bool:
    """Whether drawing from `net` means something: some binary layer's binarizer has a posterior."""
    return any(layer.binarizer.has_posterior for _, layer in binary_layers(net))


def some_binary_layers(net: nn.Module) -> list[tuple[str, BinaryLayer]]:
    """Name and layer of every binary layer.

    Raises:
        ValueError: if there is none.
    """
    layers = list(binary_layers(net))
    if not layers:
        raise ValueError(f"{type(net).__name__} has no binary layer: make it binary with binarize_(net)")
    return layers

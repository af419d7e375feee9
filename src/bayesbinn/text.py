"""A network of text, one token at a time, as `runtime.generation` asks it: in torch, or packed."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from .nn.draws import draw, fixed_weights, generator_for
from .nn.gpt import GPT, Cache
from .nn.inputs import evaluating
from .nn.layers import BinaryLayer
from .posterior import has_posterior
from .runtime.decoder import Decoder, Floats, Matrix
from .runtime.generation import Array


class Steps:
    """The network `net` under the mode, or under `weights`, with keys and values of the tokens so far.

    Args:
        net: a `GPT`, or what ends with its likelihood.
        weights: as from `draw`; None: the mode.

    Raises:
        ValueError: for a network without a `GPT`.

    >>> from bayesbinn.nn.gpt import GPTShape
    >>> shape = GPTShape(vocabulary=256, width=32, depth=1, heads=2, kv_heads=1, feed_forward=64, context=8)
    >>> Steps(GPT(shape)).prompt([1, 2, 3]).shape
    (256,)
    """

    def __init__(self, net: nn.Module, weights: dict[str, Tensor] | None = None) -> None:
        self.net, self.gpt, self.weights = net, gpt_of(net), weights
        self.cache: Cache = []

    @property
    def context(self) -> int:
        """T, the most tokens that it sees."""
        return self.gpt.shape.context

    def reset(self) -> None:
        """Forget all tokens."""
        self.cache = []

    @torch.no_grad()
    def prompt(self, tokens: Sequence[int]) -> Array:
        """The logits (V,) of what follows, after these tokens and those before them.

        Raises:
            ValueError: for more tokens than the context holds.
        """
        device = next(self.gpt.parameters()).device
        own = fixed_weights(self.net, self.weights) if self.weights else nullcontext()
        with evaluating(self.net), own:
            logits = self.gpt(torch.tensor([list(tokens)], device=device), self.cache)
        last: Array = logits[0, -1].float().cpu().numpy()
        return last


def gpt_of(net: nn.Module) -> GPT:
    """The `GPT` of a network.

    Raises:
        ValueError: for a network that has not one.
    """
    found = [module for module in net.modules() if isinstance(module, GPT)]
    if len(found) != 1:
        raise ValueError(f"text comes from a network with one GPT, this {type(net).__name__} has {len(found)}")
    return found[0]


def decoder_of(net: nn.Module, weights: dict[str, Tensor] | None = None) -> Decoder:
    """The network packed: one bit a weight, activations in 8 bits.

    Args:
        net: a `GPT` whose matrices are binary, or what ends with its likelihood.
        weights: as from `draw` of `net`; None: the mode.

    Raises:
        ValueError: for a real matrix, or a network without a `GPT`.
    """
    gpt = gpt_of(net)
    names = {module: name for name, module in net.named_modules()}
    tensors: dict[str, Floats | Matrix] = {}
    for name, module in gpt.named_modules():
        if isinstance(module, BinaryLayer):
            signs = module.weight if weights is None else weights[names[module]]
            tensors[name] = signs.to(torch.int8).cpu().numpy(), module.scales.cpu().float().numpy()
        elif isinstance(module, nn.RMSNorm | nn.Embedding):
            tensors[name] = module.weight.detach().float().cpu().numpy()
    return Decoder(gpt.shape, tensors)


def decoders_of(net: nn.Module, num_samples: int = 0, seed: int = 0) -> list[Decoder]:
    """As `steps_of`, packed.

    Raises:
        ValueError: as `steps_of` and `decoder_of`.
    """
    return [decoder_of(net, steps.weights) for steps in steps_of(net, num_samples, seed)]


def steps_of(net: nn.Module, num_samples: int = 0, seed: int = 0) -> list[Steps]:
    """The mode for S = 0, else S networks drawn from the posterior, each with keys and values of its own.

    Raises:
        ValueError: for draws from a network without a posterior.
    """
    if not num_samples:
        return [Steps(net)]
    if not has_posterior(net):
        raise ValueError(f"num_samples is {num_samples}, but this network has no posterior to draw from: use 0")
    generator = generator_for(net, seed)
    return [Steps(net, draw(net, generator)) for _ in range(num_samples)]

"""A torch network of text, one token at a time: what `runtime.generation` asks."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from .nn.draws import draw, fixed_weights, generator_for
from .nn.gpt import GPT, Cache
from .nn.inputs import evaluating
from .posterior import has_posterior
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
        found = [module for module in net.modules() if isinstance(module, GPT)]
        if len(found) != 1:
            raise ValueError(f"text comes from a network with one GPT, this {type(net).__name__} has {len(found)}")
        self.net, self.gpt, self.weights = net, found[0], weights
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

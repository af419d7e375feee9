"""Networks of at most 12 binary weights, and what holds for them exactly, by enumerating all 2ⁿ weight vectors."""

import itertools

import torch
import torch.nn.functional as F

from bayesbinn import bernoulli, binarize_, sampled_weights
from bayesbinn.nn import binary_layers


class Tiny:
    """A binary net on a few fixed inputs with labels; `loss` is the mean cross entropy of a batch of all of them."""

    def __init__(self, net, spread=1.0, binarizer=None, seed=0, num_data=6):
        torch.manual_seed(seed)
        self.net = binarize_(net, binarizer=binarizer, scale="none").double()
        self.layers = dict(binary_layers(self.net))
        with torch.no_grad():
            for layer in self.layers.values():
                layer.natural.copy_(torch.randn_like(layer.natural) * spread)
        self.x = torch.randn(num_data, 2, dtype=torch.float64)
        self.y = (torch.arange(num_data) % 2).double()[:, None]
        count = sum(layer.natural.numel() for layer in self.layers.values())
        assert count <= 12
        self.weights = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=count)), dtype=torch.float64)

    @property
    def natural(self):
        """λ of all layers as one vector (n,)."""
        return torch.cat([layer.natural.detach().flatten() for layer in self.layers.values()])

    @property
    def grad(self):
        return torch.cat([layer.natural.grad.flatten() for layer in self.layers.values()])

    def set_natural(self, natural):
        with torch.no_grad():
            for layer, part in zip(self.layers.values(), self._split(natural), strict=True):
                layer.natural.copy_(part.view_as(layer.natural))

    def _split(self, vector):
        return vector.split([layer.natural.numel() for layer in self.layers.values()])

    def named(self, vector):
        """A weight vector (n,) as {layer name: weight}, as `sampled_weights` takes it."""
        parts = zip(self.layers.items(), self._split(vector), strict=True)
        return {name: part.view_as(layer.natural) for (name, layer), part in parts}

    def probs(self, natural=None):
        """(2ⁿ,) q(w) = Π P(wᵢ) of every weight vector."""
        natural = self.natural if natural is None else natural
        return bernoulli.prob(self.weights * natural).prod(-1)

    def outputs(self):
        """(2ⁿ, B, 1) logits of every network."""
        outs = []
        for vector in self.weights:
            with torch.no_grad(), sampled_weights(self.net, weights=self.named(vector)):
                outs.append(self.net(self.x))
        return torch.stack(outs)

    def loss(self, logits):
        """Mean loss over the batch (..., B, 1) -> (...)."""
        y = self.y.expand_as(logits)
        return F.binary_cross_entropy_with_logits(logits, y, reduction="none").mean((-2, -1))

    def exact_gradient(self, losses):
        """(n,) ∂E_q[ℓ]/∂μ for losses (2ⁿ,): E is linear in each μᵢ, so this is ½ (E[ℓ | wᵢ=+1] − E[ℓ | wᵢ=−1])."""
        plus = bernoulli.prob(self.natural)
        joint = self.probs()[:, None] * losses[:, None]
        up = (joint * (self.weights > 0)).sum(0) / plus
        down = (joint * (self.weights < 0)).sum(0) / (1 - plus)
        return (up - down) / 2

"""An exactly unbiased gradient for the weights of a whole network, from two opposite draws of it."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from . import bernoulli
from .nn import binary_layers
from .posterior import has_posterior, sampled_weights


def disarm_loss(net: nn.Module, closure: Callable[[], Tensor], generator: torch.Generator | None = None) -> Tensor:
    """A loss whose `backward()` leaves an unbiased estimate of ∂E[loss]/∂μ in every λ, whatever the loss.

    The network is evaluated at w = sign(λ + δ) and at its antithetic partner w̃ = sign(λ − δ), and `antithetic_gradient`
    turns the difference of the two losses into ĝ_μ.  Real parameters get the mean of their two gradients.

    Changes step 2 of the frame, for all layers at once: the binarizers of the layers are not used, as an unbiased
    estimate needs the value of the loss, which no layer sees.  Layers without a posterior compute with their mode and
    get no gradient.  Both graphs are held until `backward()`; the time is that of two ordinary steps.

    Args:
        net: a network with binary layers.
        closure: evaluates the network on the batch and returns the loss (0-d), without `backward()`; called twice.
        generator: source of δ; torch's global generator if None.

    Returns:
        The mean of the two losses, differentiable; scale it, accumulate it, or call `backward()`.

    Raises:
        ValueError: if no layer of `net` has a posterior, or the loss is not 0-d.

    Source: Dong, Mnih & Tucker (2020), Eq. 8, written in μ; Yin, Ho, Yan, Qian & Zhou (2020) found the same (U2G).

    >>> from bayesbinn.nn import BinaryLinear
    >>> net, x = nn.Sequential(BinaryLinear(3, 1, init="zeros")), torch.ones(2, 3)
    >>> disarm_loss(net, lambda: net(x).square().mean()).backward()
    >>> net[0].natural.grad.shape
    torch.Size([1, 3])
    """
    if not has_posterior(net):
        raise ValueError(f"{type(net).__name__} has no binary layer with a posterior to draw from")
    layers = {name: layer for name, layer in binary_layers(net) if layer.binarizer.has_posterior}
    pairs = {id(layer.natural): _antithetic_pair(layer.natural, generator) for layer in layers.values()}
    modes = {name: (layer.weight, layer.weight) for name, layer in binary_layers(net) if name not in layers}
    chosen = modes | {name: pairs[id(layer.natural)] for name, layer in layers.items()}
    losses = []
    for member in (0, 1):
        with sampled_weights(net, weights={name: pair[member] for name, pair in chosen.items()}):
            losses.append(closure())
    if losses[0].ndim:
        raise ValueError(f"closure must return a 0-d loss, got shape {tuple(losses[0].shape)}")

    loss = (losses[0] + losses[1]) / 2
    difference = (losses[0] - losses[1]).detach()
    naturals = {id(layer.natural): layer.natural for layer in layers.values()}
    for key, natural in naturals.items():
        gradient = antithetic_gradient(natural.detach(), *pairs[key], difference)
        loss = loss + (gradient * (natural - natural.detach())).sum()  # adds 0, with this gradient
    return loss


def antithetic_gradient(natural: Tensor, weight: Tensor, partner: Tensor, difference: Tensor) -> Tensor:
    """ĝ_μ = ½ (ℓ(w) − ℓ(w̃)) · (w − w̃)/2 / (2σ(−2|λ|)), of the shape of `natural`: unbiased for ∂E[ℓ]/∂μ.

    Where w = w̃ the estimate is 0.  Elsewhere (w − w̃)/2 = w says which way the loss changed, and 2σ(−2|λ|) is the
    probability of w ≠ w̃.

    Args:
        natural: λ, any shape.
        weight, partner: w and w̃, as drawn from the same δ.
        difference: ℓ(w) − ℓ(w̃), broadcastable to `natural`.

    >>> one = torch.ones(2)
    >>> antithetic_gradient(torch.zeros(2), one, -one, torch.tensor(0.5))  # ½ (ℓ(+1) − ℓ(−1)) at λ = 0
    tensor([0.2500, 0.2500])
    """
    probability = 2 * torch.sigmoid(-2 * natural.abs())
    return torch.where(weight == partner, 0.0, difference / 2 * weight / probability)


@torch.no_grad()
def _antithetic_pair(natural: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
    noise = bernoulli.logistic_noise(natural, generator)
    return bernoulli.sample(natural, noise), bernoulli.sample(natural, -noise)

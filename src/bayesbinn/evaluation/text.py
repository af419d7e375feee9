"""What is measured of a network of text: bits per byte of its mode and of the mean of draws, token by token."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .. import metrics
from ..examples import Examples
from ..nn.draws import draw, fixed_weights, generator_for
from ..nn.inputs import evaluating
from ..posterior import has_posterior

CHUNK = 1 << 13  # tokens whose whole distributions are in memory at a time


@dataclass(frozen=True)
class Tokens:
    """What a network says of each token of N windows, all (N, T), in nats.

    Attributes:
        nll: −log p of the token that came, of the mode.
        entropy: of the mode's prediction.
        nll_of: (num_networks, N, T) of the mean of the first 1, 2, ... drawn networks; empty where none is drawn.
        mean_entropy, mutual_information: of the mean of all draws; the mode's entropy and 0 where none is drawn.
    """

    nll: Tensor
    entropy: Tensor
    nll_of: Tensor
    mean_entropy: Tensor
    mutual_information: Tensor


@torch.no_grad()
def measure_tokens(net: nn.Module, split: Examples, num_samples: int = 8, seed: int = 0) -> Tokens:
    """What `net` says of every token of `split`: x (N, T) and what follows y (N, T)."""
    device, length = next(net.parameters()).device, split.y.shape[1]
    draws = num_samples if has_posterior(net) else 0
    size = max(1, CHUNK // length)
    parts = []
    with evaluating(net):
        for start in range(0, len(split), size):
            x, y = (part[start : start + size].to(device) for part in (split.x, split.y))
            parts.append(_chunk(net, x, y, draws, seed))
    mode, drawn = zip(*((p[:2], p[2:]) for p in parts), strict=True)
    nll, entropy = (torch.cat(part) for part in zip(*mode, strict=True))
    nll_of = torch.cat([d[0] for d in drawn], 1)
    mean_entropy, information = (torch.cat([d[i] for d in drawn]) for i in (1, 2))
    return Tokens(nll, entropy, nll_of, mean_entropy, information)


def _chunk(net: nn.Module, x: Tensor, y: Tensor, draws: int, seed: int) -> tuple[Tensor, ...]:
    log_p = net(x).float().log_softmax(-1)
    nll, entropy = _nll(log_p, y), _entropy(log_p)
    if not draws:
        return nll.cpu(), entropy.cpu(), nll.new_empty(0, *nll.shape).cpu(), entropy.cpu(), torch.zeros(nll.shape)
    generator = generator_for(net, seed)  # the same networks for every chunk
    total, expected, found = torch.zeros_like(log_p), torch.zeros_like(entropy), []
    for count in range(1, draws + 1):
        with fixed_weights(net, draw(net, generator)):
            log_p = net(x).float().log_softmax(-1)
        total += log_p.exp()
        expected += _entropy(log_p)
        found.append(_nll((total / count).clamp(min=torch.finfo(total.dtype).tiny).log(), y).cpu())
    log_mean = (total / draws).clamp(min=torch.finfo(total.dtype).tiny).log()
    mean_entropy = _entropy(log_mean)
    information = (mean_entropy - expected / draws).clamp(min=0)
    return nll.cpu(), entropy.cpu(), torch.stack(found), mean_entropy.cpu(), information.cpu()


def _nll(log_p: Tensor, y: Tensor) -> Tensor:
    return -log_p.gather(-1, y[..., None])[..., 0]


def _entropy(log_p: Tensor) -> Tensor:
    return -(log_p.exp() * log_p).sum(-1)


def summary(nll: Tensor, bytes_per_token: float) -> dict[str, float]:
    """{"bits_per_byte", "nll" (nats per token), "perplexity" (per token)} of NLLs of any shape."""
    mean = float(nll.double().mean())
    return {"bits_per_byte": mean / math.log(2) / bytes_per_token, "nll": mean, "perplexity": math.exp(min(mean, 700))}


def evaluate_text(
    net: nn.Module, split: Examples, num_samples: int, bytes_per_token: float, seed: int
) -> dict[str, Any]:
    """The part of `scores.evaluate_voters` that is of text: mode, mean, curve over the networks, and figures."""
    found = measure_tokens(net, split, num_samples, seed)
    nlls = {0: found.nll} | {i + 1: nll for i, nll in enumerate(found.nll_of)}
    shown = [count for count in nlls if count & (count - 1) == 0 or count == len(nlls) - 1]
    return {
        "num_samples": len(nlls) - 1,
        "mode": summary(found.nll, bytes_per_token),
        "mean": summary(nlls[len(nlls) - 1], bytes_per_token) if len(nlls) > 1 else None,
        "curve": [{"samples": count, **summary(nlls[count], bytes_per_token)} for count in shown],
    }


def detection(within: Tensor, outside: Tensor, window: int) -> float:
    """AUROC of a token score, averaged over windows of `window` tokens, for "this text is of another kind".

    Args:
        within, outside: (N, T) scores of both texts, higher for the other kind; the rest of each row is left out.
    """

    def means(score: Tensor) -> Tensor:
        count = score.shape[1] // window
        return score[:, : count * window].reshape(-1, window).mean(1)

    return metrics.auroc(means(within), means(outside))

"""A llama-style decoder of text: ordinary float modules, made binary as any other network (`binarize_`)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..runtime.decoder import BASE as BASE
from ..runtime.decoder import EPS as EPS
from ..runtime.decoder import GPTShape as GPTShape

Cache = list[tuple[Tensor, Tensor]]  # keys and values of each block, (B, KV heads, T, head) each


class GPT(nn.Module):
    """p(next token | tokens so far): blocks of attention and SwiGLU between an embedding and a linear output.

    RMSNorm before each half of a block, rotary positions on neighbouring pairs, grouped-query attention, no biases:
    the architecture `llama` of llama.cpp (Touvron et al., 2023), name by name.

    Shapes: tokens (B, T) of any integer type, logits (B, T, V).

    >>> net = GPT(GPTShape(vocabulary=256, width=32, depth=2, heads=4, kv_heads=2, feed_forward=64, context=16))
    >>> net(torch.zeros(1, 5, dtype=torch.int64)).shape
    torch.Size([1, 5, 256])
    """

    cosine: Tensor
    sine: Tensor

    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.output_norm = nn.RMSNorm(shape.width, eps=EPS)
        self.output = nn.Linear(shape.width, shape.vocabulary, bias=False)
        cosine, sine = rotations(shape.context, shape.head)
        self.register_buffer("cosine", cosine, persistent=False)
        self.register_buffer("sine", sine, persistent=False)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        """The logits of what follows each token.

        Args:
            cache: of the tokens before these, an empty list at the start; extended in place.

        Raises:
            ValueError: for more tokens than the context holds.
        """
        before = cache[0][0].shape[2] if cache else 0
        end = before + tokens.shape[1]
        if end > self.shape.context:
            raise ValueError(f"the text has {end} tokens, the network's context holds {self.shape.context}: shorten it")
        x = self.token_embd(tokens.long())
        turn = self.cosine[before:end], self.sine[before:end]
        for i, block in enumerate(self.blk):
            x = block(x, turn, cache, i)
        logits: Tensor = self.output(self.output_norm(x))
        return logits


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed-forward(norm(x))."""

    def __init__(self, shape: GPTShape) -> None:
        super().__init__()
        width, narrow = shape.width, shape.kv_heads * shape.head
        self.shape = shape
        self.attn_norm = nn.RMSNorm(width, eps=EPS)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, narrow, bias=False)
        self.attn_v = nn.Linear(width, narrow, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, eps=EPS)
        self.ffn_gate = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, width, bias=False)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], cache: Cache | None, index: int) -> Tensor:
        x = x + self._attention(self.attn_norm(x), turn, cache, index)
        h = self.ffn_norm(x)
        down: Tensor = self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return x + down

    def _attention(self, h: Tensor, turn: tuple[Tensor, Tensor], cache: Cache | None, index: int) -> Tensor:
        batch, length, width = h.shape

        def heads(x: Tensor) -> Tensor:
            return x.view(batch, length, -1, self.shape.head).transpose(1, 2)

        q, k, v = rotated(heads(self.attn_q(h)), *turn), rotated(heads(self.attn_k(h)), *turn), heads(self.attn_v(h))
        v = v.to(k.dtype)
        if cache is not None:
            if index < len(cache):
                k, v = (torch.cat(pair, dim=2) for pair in zip(cache[index], (k, v), strict=True))
                cache[index] = k, v
            else:
                cache.append((k, v))
        # the last query sees all keys, the one before all but one, ...
        past = k.shape[2] - length
        mask = torch.ones(length, past + length, dtype=torch.bool, device=h.device).tril(past) if past else None
        y = F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=mask is None, enable_gqa=self.shape.heads != self.shape.kv_heads
        )
        out: Tensor = self.attn_output(y.transpose(1, 2).reshape(batch, length, width).to(h.dtype))
        return out


def rotations(context: int, head: int) -> tuple[Tensor, Tensor]:
    """(cos, sin) of position · BASE^(−2i/head), each (T, head/2) (Su et al., 2021)."""
    rates = BASE ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
    angles = torch.arange(context, dtype=torch.float64)[:, None] * rates
    return angles.cos().float(), angles.sin().float()


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """x (..., T, head) with its neighbouring pairs turned by angles whose (cos, sin) are (T, head/2) each."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2)

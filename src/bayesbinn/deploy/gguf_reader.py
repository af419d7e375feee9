"""A GGUF file of a decoder of text, as numbers, and what llama.cpp computes from them, in numpy; see `gguf`."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.gguf import floats_of, open_gguf

Floats = NDArray[np.float32]


def read_gguf(path: Path | str) -> tuple[dict[str, Any], dict[str, Floats]]:
    """(facts, tensors) of a GGUF file with tensors of F32, F16 and Q1_0, which come as float32, (O, I) or (I,).

    Raises:
        ImportError: without the package gguf.
        ValueError: for a file that is none, or a tensor of another type.
    """
    facts, tensors = open_gguf(path)
    return facts, {
        f"{name}.weight": floats_of(value) if isinstance(value, tuple) else value for name, value in tensors.items()
    }


def logits(facts: Mapping[str, Any], tensors: Mapping[str, Floats], tokens: NDArray[Any]) -> Floats:
    """What llama.cpp's architecture llama computes with float activations: tokens (T,) → (T, V)."""
    heads, few, size = (
        facts[f"llama.{k}"] for k in ("attention.head_count", "attention.head_count_kv", "rope.dimension_count")
    )
    eps, length = facts["llama.attention.layer_norm_rms_epsilon"], len(tokens)
    rates = facts["llama.rope.freq_base"] ** (-np.arange(0, size, 2) / size)
    angles = np.exp(1j * np.arange(length)[:, None] * rates)  # a pair of neighbours is a complex number
    later = np.triu(np.full((length, length), -np.inf), 1)

    def norm(x: NDArray[Any], name: str) -> NDArray[Any]:
        found: NDArray[Any] = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * tensors[f"{name}.weight"]
        return found

    def product(x: NDArray[Any], name: str) -> NDArray[Any]:
        found: NDArray[Any] = x @ tensors[f"{name}.weight"].T
        return found

    def turned(x: NDArray[Any]) -> NDArray[Any]:
        pairs = x[..., 0::2] + 1j * x[..., 1::2]
        pairs = pairs * angles
        return np.stack((pairs.real, pairs.imag), -1).reshape(x.shape)

    x = tensors["token_embd.weight"][tokens].astype(np.float64)
    for i in range(facts["llama.block_count"]):
        h = norm(x, f"blk.{i}.attn_norm")
        q, k, v = (product(h, f"blk.{i}.attn_{n}").reshape(length, -1, size).swapaxes(0, 1) for n in "qkv")
        k, v = (np.repeat(part, heads // few, 0) for part in (turned(k), v))
        scores = turned(q) @ k.swapaxes(1, 2) / math.sqrt(size) + later
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (shares / shares.sum(-1, keepdims=True)) @ v
        x = x + product(mixed.swapaxes(0, 1).reshape(length, -1), f"blk.{i}.attn_output")
        h = norm(x, f"blk.{i}.ffn_norm")
        gate = product(h, f"blk.{i}.ffn_gate")
        x = x + product(gate / (1 + np.exp(-gate)) * product(h, f"blk.{i}.ffn_up"), f"blk.{i}.ffn_down")
    return product(norm(x, "output_norm"), "output").astype(np.float32)

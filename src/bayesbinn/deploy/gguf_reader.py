"""A GGUF file of a decoder of text, as numbers, and what llama.cpp computes from them, in numpy; see `gguf`."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 128  # weights in a block of Q1_0
Floats = NDArray[np.float32]


def read_gguf(path: Path | str) -> tuple[dict[str, Any], dict[str, Floats]]:
    """(facts, tensors) of a GGUF file with tensors of F32, F16 and Q1_0, which come as float32, (O, I) or (I,).

    Raises:
        ImportError: without the package gguf.
        ValueError: for a file that is none, or a tensor of another type.
    """
    import gguf

    reader = gguf.GGUFReader(path)
    facts = {key: field.contents() for key, field in reader.fields.items()}
    tensors = {}
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in reversed(tensor.shape))
        decode = DECODED.get(tensor.tensor_type.name)
        if decode is None:
            known = ", ".join(DECODED)
            raise ValueError(f"{tensor.name} is of type {tensor.tensor_type.name}, this reads {known}")
        tensors[tensor.name] = decode(np.array(tensor.data), shape)
    return facts, tensors


def _blocks(raw: NDArray[Any], shape: tuple[int, ...]) -> Floats:
    blocks = np.ascontiguousarray(raw).reshape(-1, 2 + BLOCK // 8)
    scale = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32)
    signs = 2 * np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").astype(np.float32) - 1
    values: Floats = (signs * scale).reshape(shape)
    return values


DECODED: dict[str, Callable[[NDArray[Any], tuple[int, ...]], Floats]] = {
    "F32": lambda raw, shape: raw.reshape(shape).astype(np.float32),
    "F16": lambda raw, shape: raw.reshape(shape).astype(np.float32),
    "Q1_0": _blocks,
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

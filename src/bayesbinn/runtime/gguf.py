"""A decoder and its tokens from a GGUF file, as `deploy.gguf` writes it for llama.cpp."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .decoder import Decoder, Floats, GPTShape, Matrix

BLOCK = 128  # weights of a row that share a scale


def open_gguf(path: Path | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """(facts, tensors) of a file: float32 arrays, and where the tensor is Q1_0, (O, I) signs and (O, I / 128) scales.

    Raises:
        ImportError: without the package gguf.
        ValueError: for a file that is none, or a tensor of another type.
    """
    try:
        import gguf
    except ImportError:
        raise ImportError("GGUF files need the package gguf: pip install 'bayesbinn[gguf]'") from None
    try:
        reader = gguf.GGUFReader(path)
    except FileNotFoundError:
        raise ValueError(f"no file at {path}") from None
    except Exception as error:  # the package has no error of its own
        raise ValueError(f"{path} is no GGUF file that can be read: {error}") from None
    facts = {key: field.contents() for key, field in reader.fields.items()}
    tensors: dict[str, Any] = {}
    for tensor in reader.tensors:
        name, kind = tensor.name.removesuffix(".weight"), tensor.tensor_type.name
        shape = tuple(int(size) for size in reversed(tensor.shape))
        if kind in ("F32", "F16"):
            tensors[name] = np.array(tensor.data).reshape(shape).astype(np.float32)
        elif kind == "Q1_0":
            tensors[name] = _signs(np.array(tensor.data), shape)
        else:
            raise ValueError(f"{path}: {tensor.name} is of type {kind}, this reads F32, F16 and Q1_0")
    return facts, tensors


def read_decoder(path: Path | str) -> Decoder:
    """See `Decoder.from_gguf`."""
    facts, tensors = open_gguf(path)
    if facts.get("general.architecture") != "llama":
        raise ValueError(f"{path} is of architecture {facts.get('general.architecture')!r}, this reads 'llama'")

    def fact(name: str) -> Any:
        if f"llama.{name}" not in facts:
            raise ValueError(f"{path} lacks llama.{name}")
        return facts[f"llama.{name}"]

    if "token_embd" not in tensors:
        raise ValueError(f"{path} lacks the tensor token_embd.weight")
    embedding = tensors["token_embd"]
    if isinstance(embedding, tuple):
        embedding = tensors["token_embd"] = floats_of(embedding)
    for name, value in tensors.items():
        if isinstance(value, tuple):
            signs, scales = value
            if not (scales == scales[:, :1]).all():
                raise ValueError(f"{path}: {name} has several scales in a row, this takes one for each output")
            tensors[name] = signs, scales[:, 0]
    shape = GPTShape(
        vocabulary=len(embedding),
        width=fact("embedding_length"),
        depth=fact("block_count"),
        heads=fact("attention.head_count"),
        kv_heads=fact("attention.head_count_kv"),
        feed_forward=fact("feed_forward_length"),
        context=fact("context_length"),
    )
    eps, base = fact("attention.layer_norm_rms_epsilon"), facts.get("llama.rope.freq_base", 10_000.0)
    try:
        return Decoder(shape, tensors, float(eps), float(base))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def floats_of(blocks: Matrix) -> Floats:
    """(O, I) float32 of a tensor of Q1_0."""
    signs, scales = blocks
    return np.asarray(signs * np.repeat(scales, BLOCK, 1), np.float32)


def _signs(raw: NDArray[Any], shape: tuple[int, ...]) -> Matrix:
    blocks = np.ascontiguousarray(raw).reshape(-1, 2 + BLOCK // 8)
    scales = np.ascontiguousarray(blocks[:, :2]).view(np.float16).astype(np.float32).reshape(shape[0], -1)
    signs = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").astype(np.int8)
    return (2 * signs - 1).reshape(shape), scales

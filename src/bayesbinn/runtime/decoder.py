"""A decoder of text with ±1 matrices, one token at a time: by the compiled library, or in numpy with the same numbers.

It is `nn.gpt` with activations rounded to 8 bits before each product, each token's range to its own 255 levels.
"""

import ctypes
import struct
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _native

EPS, BASE = 1e-5, 10_000.0
TOP = 127  # levels on either side
ERROR_BYTES = 256
LARGEST = 1 << 24  # of each size
Floats = NDArray[np.float32]
Matrix = tuple[NDArray[np.int8], Floats]  # ±1 (outputs, inputs), and a scale for each output


@dataclass(frozen=True)
class GPTShape:
    """How large a decoder is.

    Attributes:
        vocabulary: V, number of tokens.
        width: D, of the stream that the blocks read and write.
        depth: number of blocks.
        heads: of queries; each is D / heads wide.
        kv_heads: of keys and values, each shared by heads / kv_heads queries (Ainslie et al., 2023).
        feed_forward: width of the feed-forward layer.
        context: T, the longest text, in tokens.

    Raises:
        ValueError: for numbers that do not go together.
    """

    vocabulary: int
    width: int
    depth: int
    heads: int
    kv_heads: int
    feed_forward: int
    context: int

    def __post_init__(self) -> None:
        for name, size in vars(self).items():
            if not 1 <= size <= LARGEST:
                raise ValueError(f"{name} must be from 1 to 2^24, got {size}")
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(
                f"width {self.width} is not an even number for each of {self.heads} heads: take a multiple of "
                f"{2 * self.heads}"
            )
        if self.heads % self.kv_heads:
            raise ValueError(f"heads {self.heads} is no multiple of kv_heads {self.kv_heads}: change one of them")

    @property
    def head(self) -> int:
        """Width of one head."""
        return self.width // self.heads

    @property
    def matrices(self) -> dict[str, tuple[int, int]]:
        """(outputs, inputs) of every matrix by its name, but for the embedding."""
        d, f, n = self.width, self.feed_forward, self.kv_heads * self.head
        own = {"attn_q": (d, d), "attn_k": (n, d), "attn_v": (n, d), "attn_output": (d, d)}
        own |= {"ffn_gate": (f, d), "ffn_up": (f, d), "ffn_down": (d, f)}
        blocks = {f"blk.{i}.{name}": size for i in range(self.depth) for name, size in own.items()}
        return {**blocks, "output": (self.vocabulary, d)}

    @property
    def norms(self) -> list[str]:
        """Names of the RMSNorms, in order."""
        return [f"blk.{i}.{name}" for i in range(self.depth) for name in ("attn_norm", "ffn_norm")] + ["output_norm"]


class Decoder:
    """A decoder that has seen `position` tokens.  One thread; one call at a time.

    Args:
        shape: its sizes.
        tensors: by the names of llama.cpp without `.weight`: (signs, scales) of each matrix, (D,) of each norm, and
            `token_embd`: (V, D) float32, or signs (V, D) and scales (D,).
        eps: of RMSNorm.
        base: of the rotary positions.

    Raises:
        ValueError: for a tensor that is missing, of another shape, or not ±1.
        MemoryError: where there is too little.

    >>> shape = GPTShape(vocabulary=5, width=4, depth=1, heads=2, kv_heads=1, feed_forward=6, context=8)
    >>> ones = {name: (np.ones(size, np.int8), np.ones(size[0], np.float32)) for name, size in shape.matrices.items()}
    >>> norms = {name: np.ones(4, np.float32) for name in shape.norms}
    >>> Decoder(shape, {**ones, **norms, "token_embd": np.ones((5, 4), np.float32)}).prompt([0, 1]).shape
    (5,)
    """

    def __init__(
        self, shape: GPTShape, tensors: Mapping[str, Floats | Matrix], eps: float = EPS, base: float = BASE
    ) -> None:
        self.shape, self.eps, self.base = shape, eps, base
        self.position = 0
        checked = _checked(shape, tensors)
        library = _native.library()
        self._native = None if library is None else _NativeDecoder(library, shape, checked, eps, base)
        self._numpy = _NumpyDecoder(shape, checked, eps, base) if self._native is None else None

    @classmethod
    def from_gguf(cls, path: Path | str) -> "Decoder":
        """The decoder of a GGUF file of architecture llama whose matrices are Q1_0, with one scale for each row.

        Raises:
            ImportError: without the package gguf.
            ValueError: for a file that is none, or holds another network.
        """
        from .gguf import read_decoder

        return read_decoder(path)

    @property
    def context(self) -> int:
        """T, the most tokens that it sees."""
        return self.shape.context

    def reset(self) -> None:
        """Forget all tokens."""
        self.position = 0
        (self._native or self._numpy).reset()  # type: ignore[union-attr]

    def prompt(self, tokens: Sequence[int]) -> Floats:
        """The logits (V,) of what follows, after these tokens and those before them.

        Raises:
            ValueError: for no token, one that is none, more than the context holds, or logits that are not finite.
        """
        wrong = next((token for token in tokens if not 0 <= token < self.shape.vocabulary), None)
        if wrong is not None:
            raise ValueError(f"token {wrong} is none of the {self.shape.vocabulary} of this network")
        end = self.position + len(tokens)
        if not len(tokens) or end > self.context:
            raise ValueError(f"the text has {end} tokens, the network's context holds {self.context}: shorten it")
        logits = (self._native or self._numpy).run(np.array(tokens, np.int64))  # type: ignore[union-attr]
        self.position = end
        return logits

    def step(self, token: int) -> Floats:
        """The logits (V,) of what follows one more token."""
        return self.prompt([token])


def _checked(shape: GPTShape, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors in their order.

    Raises:
        ValueError: naming the first that is not as it must be.
    """
    found: dict[str, Any] = {}
    names = ["token_embd", *shape.norms, *shape.matrices]
    for name in names:
        if name not in tensors:
            raise ValueError(f"the decoder lacks the tensor {name}")
        value = tensors[name]
        if name in shape.norms:
            found[name] = _array(name, value, (shape.width,))
            continue
        size = shape.matrices.get(name, (shape.vocabulary, shape.width))
        if name == "token_embd" and not isinstance(value, tuple):
            found[name] = _array(name, value, size)
            continue
        if not isinstance(value, tuple):
            raise ValueError(f"{name} is real, this decoder needs ±1 and a scale for each output")
        scales = size[1:] if name == "token_embd" else size[:1]
        signs, scale = np.asarray(value[0], np.int8), _array(f"the scale of {name}", value[1], scales)
        if signs.shape != size or not (np.abs(signs) == 1).all():
            raise ValueError(f"{name} must be ±1 of shape {size}, got {signs.shape}")
        found[name] = signs, scale
    return found


def _array(name: str, value: Any, shape: tuple[int, ...]) -> Floats:
    array = np.ascontiguousarray(value, np.float32)
    if array.shape != shape or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite numbers of shape {shape}, got shape {array.shape}")
    return array


class _NativeDecoder:
    """The library's."""

    def __init__(self, library: ctypes.CDLL, shape: GPTShape, tensors: dict[str, Any], eps: float, base: float) -> None:
        self._library, self._vocabulary, self._decoder = library, shape.vocabulary, None
        embedding = tensors["token_embd"]
        binary = isinstance(embedding, tuple)
        bits = [_packed(embedding[0])] if binary else []
        floats = [embedding[1] if binary else embedding.ravel()]
        for group in _groups(shape):
            *norm, names = group
            floats += [tensors[name] for name in norm]
            bits.append(_packed(np.concatenate([tensors[name][0] for name in names])))
            floats += [tensors[name][1] for name in names]
        words, numbers = np.concatenate(bits), np.concatenate(floats)
        packed = struct.pack("@7qiff", *astuple(shape), binary, eps, base)
        error = ctypes.create_string_buffer(ERROR_BYTES)
        isa = _native.isa_index(library, _native.chosen())
        self._decoder = library.bbn_decoder_create(
            packed, words.ctypes.data, words.size, numbers.ctypes.data, numbers.size, isa, error, ERROR_BYTES
        )
        if not self._decoder:
            message = error.value.decode()
            raise (MemoryError if message == "out of memory" else ValueError)(f"the decoder cannot be made: {message}")

    def reset(self) -> None:
        self._library.bbn_decoder_reset(self._decoder)

    def run(self, tokens: NDArray[np.int64]) -> Floats:
        logits = np.empty(self._vocabulary, np.float32)
        status = self._library.bbn_decoder_run(
            self._decoder, tokens.ctypes.data, tokens.size, logits.ctypes.data, logits.size
        )
        if status:
            raise ValueError(OVERFLOW)
        return logits

    def __del__(self) -> None:
        if getattr(self, "_decoder", None):
            self._library.bbn_decoder_free(self._decoder)
            self._decoder = None


OVERFLOW = "a logit is not finite: the scales or the embedding are too large"


def _groups(shape: GPTShape) -> list[tuple[Any, ...]]:
    """Names of the tensors in the order of the library: a norm, if there is one, and the matrices that are one."""
    groups: list[tuple[Any, ...]] = []
    for i in range(shape.depth):
        groups += [
            (f"blk.{i}.attn_norm", [f"blk.{i}.attn_{name}" for name in "qkv"]),
            ([f"blk.{i}.attn_output"],),
            (f"blk.{i}.ffn_norm", [f"blk.{i}.ffn_gate", f"blk.{i}.ffn_up"]),
            ([f"blk.{i}.ffn_down"],),
        ]
    return [*groups, ("output_norm", ["output"])]


def _packed(signs: NDArray[np.int8]) -> NDArray[np.uint8]:
    return np.packbits(signs > 0, bitorder="little")


class _NumpyDecoder:
    """The slow twin: the same levels and sums, float operations in numpy's order."""

    def __init__(self, shape: GPTShape, tensors: dict[str, Any], eps: float, base: float) -> None:
        self.shape, self.tensors, self.eps = shape, tensors, eps
        rates = base ** (-np.arange(0, shape.head, 2) / shape.head)
        self.turns = np.exp(1j * np.arange(shape.context)[:, None] * rates)
        self.reset()

    def reset(self) -> None:
        self.past: list[list[Any]] = [[] for _ in range(self.shape.depth)]

    def run(self, tokens: NDArray[np.int64]) -> Floats:
        for token in tokens:
            x = self._embedded(token)
            for i in range(self.shape.depth):
                x = x + self._attention(x, f"blk.{i}.", self.past[i])
                h = self._norm(x, f"blk.{i}.ffn_norm")
                gate, up = (multiplied(self.tensors[f"blk.{i}.ffn_{name}"], h) for name in ("gate", "up"))
                silu = gate / (1 + np.exp(-np.clip(gate, -87, 88)))
                x = x + multiplied(self.tensors[f"blk.{i}.ffn_down"], (silu * up).astype(np.float32))
        logits = multiplied(self.tensors["output"], self._norm(x, "output_norm"))
        if not np.isfinite(logits).all():
            raise ValueError(OVERFLOW)
        return logits

    def _embedded(self, token: int) -> Floats:
        embedding = self.tensors["token_embd"]
        if isinstance(embedding, tuple):
            return np.asarray(embedding[0][token] * embedding[1], np.float32)
        return np.asarray(embedding[token])

    def _norm(self, x: Floats, name: str) -> Floats:
        return np.asarray(x / np.sqrt(np.mean(x * x) + np.float32(self.eps)) * self.tensors[name], np.float32)

    def _attention(self, x: Floats, block: str, past: list[Any]) -> Floats:
        shape, h = self.shape, self._norm(x, f"{block}attn_norm")
        q, k, v = (multiplied(self.tensors[f"{block}attn_{name}"], h).reshape(-1, shape.head) for name in "qkv")
        turn = self.turns[len(past)]

        def turned(rows: Floats) -> Floats:
            pairs = (rows[:, 0::2] + 1j * rows[:, 1::2]) * turn
            return np.stack((pairs.real, pairs.imag), -1).reshape(rows.shape).astype(np.float32)

        past.append((turned(k), v))
        keys, values = (np.stack(rows, 1) for rows in zip(*past, strict=True))  # (KV heads, T, head)
        shared = shape.heads // shape.kv_heads
        scores = np.einsum("hd,htd->ht", turned(q), np.repeat(keys, shared, 0)) / np.sqrt(np.float32(shape.head))
        shares = np.exp(scores - scores.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        mixed = np.einsum("ht,htd->hd", shares, np.repeat(values, shared, 0)).astype(np.float32)
        return multiplied(self.tensors[f"{block}attn_output"], mixed.ravel())


def multiplied(matrix: Matrix, x: Floats) -> Floats:
    """scale · (W q) · step, q the 255 levels of x (I,) between its least and its largest value, 0 among them.

    >>> x, ones = np.array([127.0, -127.0], np.float32), np.ones(1, np.float32)
    >>> multiplied((np.array([[1, -1]], np.int8), ones), x).tolist()
    [254.0]
    """
    signs, scale = matrix
    low, high = min(0.0, float(x.min())), max(0.0, float(x.max()))
    step = np.float32(max(np.float32(np.float32(high) - np.float32(low)) / np.float32(2 * TOP), np.float32(1e-30)))
    inverse = np.float32(1) / step
    zero = np.rint(np.clip(np.float32(-low) * inverse, 0, 2 * TOP)) - TOP
    levels = np.rint(np.clip(x * inverse, -TOP - zero, TOP - zero)) + zero
    sums = signs.astype(np.int64) @ (levels - zero).astype(np.int64)
    return np.asarray(sums.astype(np.float32) * step * scale, np.float32)

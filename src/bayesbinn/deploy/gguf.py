"""A decoder of text (`nn.gpt`) as a GGUF file, which llama.cpp runs: every ±1 matrix in Q1_0, one bit a weight.

Q1_0 is blocks of 128 weights of a row: a float16 scale, then 16 bytes, lowest bit first; 1 is +scale, 0 is −scale.
"""

import math
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .. import __version__
from ..files import writer
from ..nn.convert import binary_layers
from ..nn.draws import draw, fixed_weights, generator_for
from ..nn.gpt import BASE, EPS, GPT, GPTShape
from ..nn.inputs import evaluating
from ..nn.layers import BinaryLayer
from ..nn.twins import BinaryEmbedding
from ..posterior import has_posterior
from ..runtime.gguf import BLOCK
from .bits import pack_signs
from .gguf_reader import Floats, logits, read_gguf

END = "ÿ"  # of the byte 255, which no UTF-8 text has: a harmless end of text, as llama.cpp wants one
TOKENS = 32  # that the check runs
ROUNDING = 1e-3  # of the largest logit: what float32 may differ by


@dataclass(frozen=True)
class GGUFReport:
    """What was written, and how far it is from the network.

    Attributes:
        num_bytes: of the file.
        binary, real: numbers of weights in matrices of one bit, and in all the rest.
        difference: largest difference of a logit between the file (activations float) and the network, on `tokens`.
        tokens: how many the check ran.
        notes: sentences on what is not as one might expect.
    """

    num_bytes: int
    binary: int
    real: int
    difference: float
    tokens: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.num_bytes:,} bytes, {2 * (self.binary + self.real):,} for the weights in float16: {self.binary:,} "
            f"weights of one bit, {self.real:,} real; read again and the same; float16 rounds a number by at most "
            f"1/2048, which moves a logit by at most {self.difference:.1e} on {self.tokens} tokens"
        )


def save_gguf(
    net: nn.Module,
    path: Path | str,
    tokens: Sequence[str],
    merges: Sequence[str] = (),
    *,
    sample: int = 0,
    seed: int = 0,
    name: str = "bayesbinn",
    about: Mapping[str, str | float] | None = None,
) -> GGUFReport:
    """Write a `GPT` as a GGUF file of architecture llama, which is checked before it gets its name.

    The file is read again: every matrix must be the network's bit for bit, and its logits, computed in numpy with the
    sizes and constants that the file states, must be torch's.

    Args:
        net: a `GPT`, or a network whose first module is one.
        tokens, merges: V tokens in byte-level characters, as GPT-2 writes them, and the pairs that make them, as of
            `data.tokens.written`.
        sample: 0 is the mode; k is the k-th network that `posterior.draw` draws from a generator seeded with `seed`.
        about: more facts, stored as bayesbinn.KEY.

    Raises:
        ImportError: without the package gguf.
        ValueError: for another network, sizes that Q1_0 cannot hold, or a sample of a network without a posterior.

    >>> import tempfile
    >>> from bayesbinn.data.tokens import written
    >>> from bayesbinn.nn import binarize_
    >>> net = GPT(GPTShape(256, width=128, depth=1, heads=2, kv_heads=1, feed_forward=128, context=8))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = save_gguf(binarize_(net, quiet=True), f"{folder}/net.gguf", *written(""))
    >>> report.binary, report.real
    (131072, 33152)
    """
    found = next(iter(net.children()), net) if isinstance(net, nn.Sequential) else net
    if not isinstance(found, GPT):
        raise ValueError(f"GGUF holds decoders of text (model 'gpt'), this network is a {type(found).__name__}")
    if len(tokens) != found.shape.vocabulary:
        raise ValueError(
            f"got {len(tokens)} tokens, the network has {found.shape.vocabulary}: give those it was trained on"
        )
    if sample < 0:
        raise ValueError(f"sample must be 0 (the mode) or above, got {sample}")
    _check_sizes(found)
    import gguf  # only here: the package is an extra

    weights = _drawn(found, sample, seed) if sample else {}
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{writer()}.new")
    facts = {
        "version": __version__,
        "network": f"sample {sample} of seed {seed}" if sample else "mode",
        **(about or {}),
    }
    try:
        with fixed_weights(found, weights) if weights else nullcontext(), evaluating(found):
            parts = _parts(found)
            _write(gguf, temporary, found.shape, parts, (tokens, merges), name, facts)
            difference, count = _check(gguf, temporary, found, parts)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        size = temporary.stat().st_size
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    binary = sum(part.values.size for part in parts.values() if part.kind == "Q1_0")
    real = sum(part.values.size for part in parts.values()) - binary
    return GGUFReport(size, binary, real, difference, count, _notes(found, parts))


@dataclass(frozen=True)
class _Part:
    """A tensor of the file: its values (O, I) or (I,) in float32, those as the file rounds them, and its bytes."""

    kind: str  # of gguf.GGMLQuantizationType
    values: Floats
    stored: Floats
    raw: NDArray[Any]


def _check_sizes(net: GPT) -> None:
    """Refuse ±1 matrices whose rows are no whole blocks."""
    for name, layer in binary_layers(net):
        size = layer.natural.shape[-1]
        if isinstance(layer, BinaryEmbedding) or size % BLOCK == 0:
            continue
        setting, step = ("feed_forward", BLOCK) if name.endswith("ffn_down") else ("width", _step(net.shape))
        below = size // step * step
        near = " or ".join(str(value) for value in (below, below + step) if value)
        raise ValueError(
            f"{setting} {size} is no multiple of {BLOCK}, the weights of a block of GGUF's Q1_0: train with "
            f"{setting} {near}"
        )


def _step(shape: GPTShape) -> int:
    """Widths that are whole blocks, and an even number for each head, are the multiples of this."""
    return math.lcm(BLOCK, 2 * shape.heads)


def _drawn(net: GPT, sample: int, seed: int) -> dict[str, Tensor]:
    if not has_posterior(net):
        raise ValueError(f"sample {sample} needs a posterior, and this network is one network: leave sample out")
    generator = generator_for(net, seed)
    for _ in range(sample - 1):
        draw(net, generator)
    return draw(net, generator)


def _parts(net: GPT) -> dict[str, _Part]:
    """Every tensor of the file by its name, in the order of the network."""
    binary = any(isinstance(module, BinaryLayer) for module in net.modules())
    parts = {}
    for name, module in net.named_modules():
        if isinstance(module, BinaryLayer):
            parts[f"{name}.weight"] = _signs(name, module)
        elif isinstance(module, nn.Embedding | nn.Linear | nn.RMSNorm):
            values = module.weight.detach().cpu().float().numpy()
            # small beside the rest only in a float network, whose file is in float16 as such files are
            single = isinstance(module, nn.RMSNorm) or (binary and isinstance(module, nn.Embedding))
            parts[f"{name}.weight"] = _floats(name, values, "F32" if single else "F16")
    return parts


def _signs(name: str, layer: BinaryLayer) -> _Part:
    signs, scales = layer.weight.cpu().float(), layer.scales.cpu().float()
    if isinstance(layer, BinaryEmbedding):
        values = (signs * scales).numpy()
        blocks = scales.numpy().reshape(-1, BLOCK) if len(scales) % BLOCK == 0 else scales.numpy()[None]
        if values.shape[1] % BLOCK or np.ptp(blocks, axis=1).any():  # Q1_0 has one scale for 128 numbers of a vector
            return _floats(name, values, "F32")
        scale = np.broadcast_to(blocks[:, 0], (len(values), len(blocks)))
    else:
        values = (signs * scales[:, None]).numpy()
        scale = np.repeat(scales.numpy()[:, None], values.shape[1] // BLOCK, 1)
    half = _half(name, scale)
    bits = pack_signs(signs).reshape(len(values), -1, BLOCK // 8)
    raw = np.concatenate((half.view(np.uint8).reshape(*half.shape, 2), bits), 2).reshape(len(values), -1)
    stored = signs.numpy() * np.repeat(half.astype(np.float32), BLOCK, 1)
    return _Part("Q1_0", values, stored, raw)


def _floats(name: str, values: Floats, kind: str) -> _Part:
    raw = values if kind == "F32" else _half(name, values)
    return _Part(kind, values, raw.astype(np.float32), raw)


def _half(name: str, values: NDArray[Any]) -> NDArray[np.float16]:
    largest = float(np.abs(values).max())
    if not largest <= np.finfo(np.float16).max:  # also of a NaN
        raise ValueError(f"{name} holds {largest:g}, float16 ends at 65504: its training went astray, train again")
    return np.ascontiguousarray(values, np.float32).astype(np.float16)


def _notes(net: GPT, parts: dict[str, _Part]) -> tuple[str, ...]:
    kinds = {name: part.kind for name, part in parts.items()}
    if "Q1_0" not in kinds.values():
        return ("the network has real weights: its matrices are written in float16",)
    notes = []
    if real := [name for name, kind in kinds.items() if kind == "F16"]:
        notes.append(f"real in this network, and written in float16: {', '.join(real)}")
    if isinstance(net.token_embd, BinaryEmbedding) and kinds["token_embd.weight"] == "F32":
        notes.append(
            f"the binary embedding is written in float32: Q1_0 has one scale for {BLOCK} numbers of a vector, this has "
            "one for each (train with --scale fan_in or none for bits)"
        )
    return tuple(notes)


def _write(
    gguf: Any,
    path: Path,
    shape: GPTShape,
    parts: dict[str, _Part],
    vocabulary: tuple[Sequence[str], Sequence[str]],
    name: str,
    facts: Mapping[str, str | float],
) -> None:
    file = gguf.GGUFWriter(path, "llama")
    tokens, merges = vocabulary
    binary = any(part.kind == "Q1_0" for part in parts.values())
    file.add_name(name)
    file.add_file_type(gguf.LlamaFileType.MOSTLY_Q1_0 if binary else gguf.LlamaFileType.MOSTLY_F16)
    file.add_quantization_version(gguf.GGML_QUANT_VERSION)
    file.add_vocab_size(shape.vocabulary)
    file.add_context_length(shape.context)
    file.add_embedding_length(shape.width)
    file.add_block_count(shape.depth)
    file.add_feed_forward_length(shape.feed_forward)
    file.add_head_count(shape.heads)
    file.add_head_count_kv(shape.kv_heads)
    file.add_layer_norm_rms_eps(EPS)
    file.add_rope_dimension_count(shape.head)
    file.add_rope_freq_base(BASE)
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre("gpt-2")
    file.add_token_list(list(tokens))
    file.add_token_types([int(gguf.TokenType.NORMAL)] * len(tokens))
    # llama.cpp wants one merge: of characters that no byte is written in, it never happens
    file.add_token_merges(list(merges) or ["☐ ☐"])
    # without these, llama.cpp takes token 11 for the end of every text of a gpt2 vocabulary
    end = list(tokens).index(END)
    file.add_bos_token_id(end)
    file.add_eos_token_id(end)
    file.add_add_bos_token(False)
    file.add_add_eos_token(False)
    for key, value in facts.items():
        (file.add_string if isinstance(value, str) else file.add_float32)(f"bayesbinn.{key}", value)
    for tensor, part in parts.items():
        file.add_tensor(tensor, part.raw, raw_dtype=gguf.GGMLQuantizationType[part.kind])
    try:
        file.write_header_to_file()
        file.write_kv_data_to_file()
        file.write_tensors_to_file()
    finally:
        file.close()


def _check(gguf: Any, path: Path, net: GPT, parts: dict[str, _Part]) -> tuple[float, int]:
    """(largest difference of a logit, on how many tokens) of the file and the network.

    Raises:
        ValueError: for a file that is not the network.
    """
    facts, tensors = read_gguf(path)
    if tensors.keys() != parts.keys():
        raise ValueError(f"the file holds other tensors than the network: {sorted(tensors.keys() ^ parts.keys())}")
    for name, part in parts.items():
        if not np.array_equal(tensors[name].view(np.uint32), part.stored.view(np.uint32)):
            raise ValueError(f"{name} in the file is not the network's")
    device = next(net.parameters()).device
    count = min(TOKENS, net.shape.context)
    tokens = np.random.default_rng(0).integers(net.shape.vocabulary, size=count)
    with torch.no_grad():
        expected = net(torch.from_numpy(tokens)[None].to(device))[0].float().cpu().numpy()
    exact = logits(facts, {name: part.values for name, part in parts.items()}, tokens)
    off, allowed = float(np.abs(exact - expected).max()), ROUNDING * float(np.abs(expected).max())
    if not off <= allowed:
        raise ValueError(
            f"the file's logits differ from the network's by {off:.1e}, rounding explains {allowed:.1e}: a module "
            "computes something else than llama.cpp will"
        )
    return float(np.abs(logits(facts, tensors, tokens) - expected).max()), count

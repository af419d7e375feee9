"""Text as numbers: bytes, or a byte-pair encoding learned from the text."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..errors import UserError
from .source import Array

BYTES = 256


class Bytes:
    """Each byte is a token.

    >>> Bytes().encode(b"hi").tolist(), Bytes().decode([104, 105])
    ([104, 105], b'hi')
    """

    vocabulary = BYTES

    def encode(self, text: bytes) -> Array:
        """(T,) uint8."""
        return np.frombuffer(text, np.uint8)

    def decode(self, tokens: Iterable[int]) -> bytes:
        """The text of tokens."""
        return bytes(tokens)

    def to_json(self) -> str:
        """What `tokenizer_of` makes it of again."""
        return ""


class BytePairs:
    """Byte-pair encoding (Sennrich et al., 2016) on bytes, as of GPT-2: no text is unknown to it.

    Args:
        made: a `tokenizers.Tokenizer` with a byte-level model.
    """

    def __init__(self, made: Any) -> None:
        self.made = made
        self.vocabulary: int = made.get_vocab_size()
        self.bytes_of = _bytes_of()

    def encode(self, text: bytes) -> Array:
        """(T,) uint32.

        Raises:
            UserError: for a text that is not UTF-8.
        """
        try:
            return np.array(self.made.encode(text.decode()).ids, np.uint32)
        except UnicodeDecodeError as error:
            raise UserError(f"the text is not UTF-8 ({error}): take bytes as tokens, --vocabulary {BYTES}") from None

    def decode(self, tokens: Iterable[int]) -> bytes:
        """The text of tokens."""
        words = (self.made.id_to_token(int(token)) for token in tokens)
        return bytes(self.bytes_of[character] for word in words for character in word)

    def to_json(self) -> str:
        """As in a `tokenizer.json` of the library tokenizers."""
        text: str = self.made.to_str()
        return text


Tokenizer = Bytes | BytePairs


def learn_byte_pairs(texts: Iterable[str], vocabulary: int) -> BytePairs:
    """The byte-pair encoding of at most `vocabulary` tokens that shortens the texts most.

    Raises:
        UserError: without the library tokenizers.
    """
    t = _library()
    made = t.Tokenizer(t.models.BPE())
    made.pre_tokenizer = t.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = t.decoders.ByteLevel()
    alphabet = sorted(t.pre_tokenizers.ByteLevel.alphabet())
    trainer = t.trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(texts, trainer)
    return BytePairs(made)


def tokenizer_of(text: str) -> Tokenizer:
    """The tokenizer that gave this by `to_json`.

    Raises:
        UserError: for text that is none, or without the library tokenizers.
    """
    if not text:
        return Bytes()
    try:
        json.loads(text)
        return BytePairs(_library().Tokenizer.from_str(text))
    except UserError:
        raise
    except Exception as error:  # the library raises bare ones
        raise UserError(f"the stored tokenizer cannot be read: {error}") from None


def written(text: str) -> tuple[list[str], list[str]]:
    """(tokens, merges) of what `to_json` gave, each token in byte-level characters, a merge as two tokens and a space.

    Raises:
        UserError: for text that is no byte-pair encoding.

    >>> tokens, merges = written(Bytes().to_json())
    >>> tokens[ord("a")], tokens[ord(" ")], len(tokens), merges
    ('a', 'Ġ', 256, [])
    """
    if not text:
        return sorted(table := _bytes_of(), key=table.__getitem__), []
    try:
        model = json.loads(text)["model"]
        tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
        return tokens, [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"the stored tokenizer cannot be read: {error!r}") from None


def read_written(tokens: list[str], merges: list[str]) -> Tokenizer:
    """The tokenizer that was `written`.

    Raises:
        UserError: for tokens of another kind, or without the library tokenizers.
    """
    if tokens == written("")[0]:
        return Bytes()
    t = _library()
    try:
        pairs = [tuple(merge.split(" ")) for merge in merges]
        made = t.Tokenizer(t.models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=pairs))
    except Exception as error:  # the library raises bare ones
        raise UserError(f"the file's tokens cannot be read: {error}") from None
    made.pre_tokenizer = t.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = t.decoders.ByteLevel()
    return BytePairs(made)


def _library() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        raise UserError(
            f"a vocabulary above {BYTES} needs the library tokenizers: pip install 'bayesbinn[text]', or take bytes, "
            f"--vocabulary {BYTES}"
        ) from None
    return tokenizers


def _bytes_of() -> dict[str, int]:
    """The byte of each character that byte-level tokens are written in: its own where it prints, else from 256 on."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = (byte for byte in range(BYTES) if byte not in plain)
    return {chr(byte): byte for byte in plain} | {chr(BYTES + i): byte for i, byte in enumerate(others)}

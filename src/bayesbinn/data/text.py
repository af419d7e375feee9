"""Text to learn from: files that stay on disk, cut into windows of T tokens and what follows each token."""

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..examples import Examples
from .sets import Data
from .source import Array
from .tokens import BYTES, Bytes, Tokenizer, learn_byte_pairs

PREFIX = "text:"
TEST = 10  # the last one of so many parts of a text is for the test
PIECE = 1 << 20  # bytes that are read and encoded at a time
PARTS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}


class Windows:
    """N windows of T tokens of a text, from `shift` on; what it looks like is a tensor (N, T) int64.

    Only what is asked for is read: the tokens lie in a file.

    >>> Windows(np.arange(10, dtype=np.uint8), length=4, shift=1)[torch.tensor([1])].tolist()
    [[5, 6, 7, 8]]
    """

    def __init__(self, tokens: Array, length: int, shift: int) -> None:
        self.tokens, self.length, self.shift = tokens, length, shift
        self.shape = torch.Size([(len(tokens) - 1) // length, length])
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return self.shape[0]

    def numel(self) -> int:
        """N · T."""
        return self.shape.numel()

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        rows = range(len(self))[chosen] if isinstance(chosen, slice) else chosen.tolist()
        starts = np.array(rows, np.int64)[:, None] * self.length + self.shift
        return torch.from_numpy(self.tokens[starts + np.arange(self.length)].astype(np.int64))

    def to(self, device: torch.device) -> "Windows":
        """Itself: batches move, the text stays on disk."""
        return self


def load_text(
    name: str, context: int, vocabulary: int = BYTES, validation: float = 0.0, tokenizer: Tokenizer | None = None
) -> Data:
    """The text of a file, or of the files of a folder, to learn from.

    Args:
        name: text:FILE, of which the last tenth is for the test; or text:DIR: all its files in the order of their
            names, as one text, or those of DIR/train, DIR/test and perhaps DIR/val.
        context: T, tokens in one window.
        vocabulary: number of tokens: 256 are the bytes, more are learned on the training part by byte-pair encoding.
        validation: share of the training part, its end, to hold out.
        tokenizer: of a network that is trained already, in place of `vocabulary`.

    Raises:
        UserError: for a missing or empty text, one that is shorter than a window, or a vocabulary of fewer than 256.
    """
    if vocabulary < BYTES:
        raise UserError(f"vocabulary must be at least {BYTES}, which are the bytes, got {vocabulary}")
    parts, notes = _parts(name)
    if tokenizer is None:
        tokenizer = Bytes() if vocabulary == BYTES else learn_byte_pairs(_texts(parts["train"]), vocabulary)
    notes += (
        [f"the text of {name} gave {tokenizer.vocabulary} tokens, not {vocabulary}"]
        if tokenizer.vocabulary < vocabulary
        else []
    )
    encoded = {part: _encoded(pieces, tokenizer) for part, pieces in parts.items()}
    if validation and "validation" not in encoded:
        held = round(validation * len(encoded["train"]))
        encoded["validation"] = encoded["train"][len(encoded["train"]) - held :]
        encoded["train"] = encoded["train"][: len(encoded["train"]) - held]
    elif validation:
        raise UserError(f"{name} holds a validation part already: leave validation out")
    examples: dict[str, Examples] = {}
    for part, tokens in encoded.items():
        if len(tokens) <= context:
            raise UserError(
                f"the {part} part of {name} has {len(tokens)} tokens, a window takes {context} and one more: give more "
                "text or lower context"
            )
        x, y = Windows(tokens, context, 0), Windows(tokens, context, 1)
        examples[part] = Examples(x, y)  # type: ignore[arg-type]  # it has of a tensor what training asks of one
    size = sum(len(piece) for piece in parts["train"])
    rest = len(encoded["validation"]) if validation else 0
    return Data(
        name,
        examples["train"],
        examples.get("validation"),
        examples["test"],
        classes=(),
        mean=torch.zeros(1),
        std=torch.ones(1),
        offset=(),
        features=(),
        limits=(),
        fingerprint=_digest(encoded),
        notes=tuple(notes),
        task="text",
        tokenizer=tokenizer.to_json(),
        vocabulary=tokenizer.vocabulary,
        bytes_per_token=size / (len(encoded["train"]) + rest),
    )


def _parts(name: str) -> tuple[dict[str, list[Array]], list[str]]:
    """(the files of each part as bytes on disk, what to say about them)."""
    path = Path(name.removeprefix(PREFIX)).expanduser()
    if path.is_dir():
        found = {
            part: [f for folder in folders for f in _files(path / folder)]
            for part, folders in PARTS.items()
            if any((path / folder).is_dir() for folder in folders)
        }
        if "train" in found and "test" in found:
            return {part: _mapped(name, files) for part, files in found.items()}, []
        files = _files(path)
    elif path.is_file():
        files = [path]
    else:
        raise UserError(f"no text at {path}: give text:FILE, or text:DIR with files in it")
    pieces = _mapped(name, files)
    total = sum(len(piece) for piece in pieces)
    first = total - total // TEST
    note = f"{name} has no test part: its last {total - first:,} of {total:,} bytes become it"
    return {"train": _cut(pieces, 0, first), "test": _cut(pieces, first, total)}, [note]


def _files(folder: Path) -> list[Path]:
    return sorted(f for f in folder.rglob("*") if f.is_file() and not f.name.startswith(".")) if folder.is_dir() else []


def _mapped(name: str, files: Sequence[Path]) -> list[Array]:
    try:
        mapped: list[Array] = [np.memmap(f, np.uint8, "r") for f in files if f.stat().st_size]
    except OSError as error:
        raise UserError(f"{name}: {error.filename} cannot be read: {error.strerror}") from None
    if not mapped:
        raise UserError(f"{name} holds no text: give a file, or a folder with files, that is not empty")
    return mapped


def _cut(pieces: Sequence[Array], first: int, end: int) -> list[Array]:
    """Bytes first to end of the pieces one after the other."""
    cut, start = list[Array](), 0
    for piece in pieces:
        own = piece[max(0, first - start) : max(0, end - start)]
        cut += [own] if len(own) else []
        start += len(piece)
    return cut


def _texts(pieces: Sequence[Array]) -> Iterator[str]:
    for piece in pieces:
        for text in _whole_lines(piece):
            yield text.decode(errors="replace")


def _whole_lines(piece: Array) -> Iterator[bytes]:
    """About PIECE bytes at a time, cut behind a line's end, so that no token and no character is."""
    rest = b""
    for start in range(0, len(piece), PIECE):
        read = rest + piece[start : start + PIECE].tobytes()
        end = read.rfind(b"\n") + 1 or len(read)
        if start + PIECE >= len(piece):
            end = len(read)
        yield read[:end]
        rest = read[end:]


def _encoded(pieces: Sequence[Array], tokenizer: Tokenizer) -> Array:
    """All tokens, on disk: one file of bytes is its own tokens."""
    if isinstance(tokenizer, Bytes) and len(pieces) == 1:
        return pieces[0]
    kind: Any = (
        np.uint8 if tokenizer.vocabulary <= BYTES else np.uint16 if tokenizer.vocabulary <= 1 << 16 else np.uint32
    )
    with tempfile.TemporaryFile() as file:  # gone with the mapping
        count = 0
        for piece in pieces:
            for text in _whole_lines(piece):
                tokens = tokenizer.encode(text).astype(kind)
                file.write(tokens.tobytes())
                count += len(tokens)
        file.flush()
        return np.memmap(file, kind, "r", shape=(count,))


def _digest(encoded: dict[str, Array]) -> str:
    digest = hashlib.sha256()
    for part, tokens in encoded.items():
        digest.update(f"{part} {len(tokens)} {tokens.dtype} ".encode())
        for start in range(0, len(tokens), PIECE):
            digest.update(np.ascontiguousarray(tokens[start : start + PIECE]).tobytes())
    return digest.hexdigest()[:16]

"""Text from files: windows, parts, tokens, and what cannot be learned from."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bayesbinn.data import absolute, load_text, tokenizer_of
from bayesbinn.data.text import Windows
from bayesbinn.data.tokens import BytePairs, Bytes
from bayesbinn.errors import UserError

LINES = "".join(f"line {i} of the text, über alles\n" for i in range(400))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text(LINES)
    return path


def test_windows_look_like_a_tensor() -> None:
    tokens = np.arange(50, dtype=np.uint8)
    for shift in (0, 1):
        windows = Windows(tokens, 6, shift)
        whole = torch.arange(8 * 6).reshape(8, 6) + shift
        assert windows.shape == whole.shape
        assert len(windows) == 8
        assert windows.numel() == 48
        assert torch.equal(windows[torch.tensor([7, 0, 3])], whole[[7, 0, 3]])
        assert torch.equal(windows[2:5], whole[2:5])
        assert torch.equal(windows[6:100:2], whole[6:100:2])
        assert windows[2:2].shape == (0, 6)


def test_the_last_tenth_of_a_file_is_the_test_part(file: Path) -> None:
    data = load_text(f"text:{file}", 16)
    raw = file.read_bytes()
    first = len(raw) - len(raw) // 10
    assert bytes(data.train.x[:10].flatten().tolist()) == raw[:160]
    assert bytes(data.test.x[:2].flatten().tolist()) == raw[first : first + 32]
    assert torch.equal(data.train.y[:3][:, :-1], data.train.x[:3][:, 1:])
    assert (data.num_outputs, data.input_shape, data.task, data.bytes_per_token) == (256, (16,), "text", 1.0)
    assert "has no test part" in data.notes[0]


def test_files_of_a_folder_are_one_text_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name, text in (("b.txt", LINES[900:]), ("a.txt", LINES[:900])):
        (tmp_path / name).write_text(text)
    one, whole = load_text(f"text:{tmp_path}", 8), tmp_path / "whole.txt"
    whole.write_text(LINES)
    other = load_text(f"text:{whole}", 8)
    assert torch.equal(one.train.x[:], other.train.x[:])
    assert torch.equal(one.test.y[:], other.test.y[:])
    assert one.fingerprint == other.fingerprint


def test_parts_of_a_folder(tmp_path: Path) -> None:
    for part, text in (("train", "abc " * 50), ("val", "def " * 20), ("test", "ghi " * 30)):
        (tmp_path / part).mkdir()
        (tmp_path / part / "x.txt").write_text(text)
    data = load_text(f"text:{tmp_path}", 4)
    assert data.validation is not None
    assert bytes(data.validation.x[:1].flatten().tolist()) == b"def "
    assert bytes(data.test.x[:1].flatten().tolist()) == b"ghi "
    assert data.notes == ()
    with pytest.raises(UserError, match="holds a validation part already: leave validation out"):
        load_text(f"text:{tmp_path}", 4, validation=0.1)


def test_validation_is_the_end_of_the_training_part(file: Path) -> None:
    whole, data = load_text(f"text:{file}", 16), load_text(f"text:{file}", 16, validation=0.25)
    assert data.validation is not None
    tokens = [part.x.tokens for part in (data.train, data.validation)]  # type: ignore[attr-defined]
    assert np.array_equal(np.concatenate(tokens), whole.train.x.tokens)  # type: ignore[attr-defined]
    assert len(tokens[1]) == round(0.25 * len(whole.train.x.tokens))  # type: ignore[attr-defined]


def test_byte_pairs_give_the_text_back_and_are_stored(file: Path) -> None:
    pytest.importorskip("tokenizers")
    data = load_text(f"text:{file}", 16, vocabulary=300)
    made = tokenizer_of(data.tokenizer)
    assert isinstance(made, BytePairs)
    assert made.vocabulary == data.num_outputs == 300
    raw = LINES.encode()
    assert made.decode(made.encode(raw)) == raw
    assert len(made.encode(raw)) < len(raw) / 2
    tokens = data.train.x.tokens  # type: ignore[attr-defined]
    first = len(raw) - len(raw) // 10
    assert made.decode(tokens) == raw[:first]
    assert data.bytes_per_token == pytest.approx(first / len(tokens))
    again = load_text(f"text:{file}", 16, tokenizer=made)
    assert again.fingerprint == data.fingerprint


def test_bytes_of_every_kind() -> None:
    raw = bytes(range(256))
    assert Bytes().decode(Bytes().encode(raw)) == raw
    assert isinstance(tokenizer_of(""), Bytes)
    with pytest.raises(UserError, match="the stored tokenizer cannot be read"):
        tokenizer_of("{}")


def test_a_name_with_an_absolute_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("text:a.txt") == f"text:{tmp_path / 'a.txt'}"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: None, "no text at .*: give text:FILE"),
        (lambda p: p.mkdir(), "holds no text: give a file, or a folder with files"),
        (lambda p: p.write_bytes(b""), "holds no text"),
        (lambda p: p.write_bytes(b"abc" * 20), "the test part of .* has 6 tokens, a window takes 16 and one more"),
    ],
)
def test_what_cannot_be_learned_from(tmp_path: Path, make: object, message: str) -> None:
    path = tmp_path / "x"
    make(path)  # type: ignore[operator]
    with pytest.raises(UserError, match=message):
        load_text(f"text:{path}", 16)


def test_a_text_that_is_no_utf_8(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    path = tmp_path / "x"
    path.write_bytes(b"\xff\xfe abc\n" * 500)
    with pytest.raises(UserError, match=r"is not UTF-8 .* take bytes as tokens, --vocabulary 256"):
        load_text(f"text:{path}", 16, vocabulary=300)

"""Checkpoints: whole or not there, whenever the process dies; damage is noticed, never loaded."""

import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bayesbinn.errors import UserError
from bayesbinn.files import write_text
from bayesbinn.training.checkpoint import (
    FILE,
    flatten_optimizer,
    has_checkpoint,
    load_checkpoint,
    save_checkpoint,
    unflatten_optimizer,
)
from tests.runs import contents


class Death(BaseException):
    """Not an Exception, so that no handler of the code under test takes it for an ordinary error."""


class DiesAt:
    """Inside, the k-th operation on the file system is not done: the process is gone.

    Python reports each of them to audit hooks before it happens, so no point is forgotten, whatever calls it.
    """

    operations = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"})
    remaining: int | None = None
    installed = False

    def __init__(self, k):
        self.k = k

    def __enter__(self):
        if not DiesAt.installed:
            sys.addaudithook(self.hook)  # cannot be removed, so there is one, and it sleeps
            DiesAt.installed = True
        DiesAt.remaining = self.k
        return self

    def __exit__(self, kind, *_):
        self.survived = kind is None
        DiesAt.remaining = None
        return kind is Death

    @staticmethod
    def hook(event, args):
        if DiesAt.remaining is not None and event in DiesAt.operations:
            if DiesAt.remaining == 0:
                raise Death
            DiesAt.remaining -= 1


def save(run, number):
    value = torch.full((3,), float(number))
    save_checkpoint(run, {"weight": value}, {"momentum": value * 2}, {"number": number})


def loaded(run):
    """The number of the checkpoint, all of whose parts must agree."""
    model, training, state = load_checkpoint(run)
    assert model["weight"].tolist() == [state["number"]] * 3
    assert training["momentum"].tolist() == [2 * state["number"]] * 3
    return state["number"]


def test_round_trip_of_every_kind_of_tensor(tmp_path):
    shared = torch.randn(4, 3)
    model = {"a": shared, "b": shared, "c": shared.t(), "d": torch.randn(6)[::2], "e": torch.tensor(7)}
    training = {"rng": torch.get_rng_state(), "signs": shared > 0, "sum": torch.tensor(0.1, dtype=torch.float64)}
    save_checkpoint(tmp_path, model, training, {"number": 1, "nested": {"list": [1, 2.5, None]}})
    found_model, found_training, state = load_checkpoint(tmp_path)
    for found, given in ((found_model, model), (found_training, training)):
        assert found.keys() == given.keys()
        assert all(torch.equal(found[k], given[k]) and found[k].dtype == given[k].dtype for k in given)
    assert state["nested"] == {"list": [1, 2.5, None]}


def test_nothing_else_stays_behind(tmp_path):
    save(tmp_path, 1)
    save(tmp_path, 2)
    assert contents(tmp_path).keys() == {FILE}
    assert loaded(tmp_path) == 2


def test_files_of_others_stay(tmp_path):
    for number in range(2):
        save(tmp_path, number)
        (tmp_path / "notes.txt").write_text("mine")
    assert contents(tmp_path)["notes.txt"] == b"mine"


def test_death_at_every_operation_of_a_save(tmp_path):
    seen = []
    for k in count():
        run = tmp_path / str(k)
        run.mkdir()
        save(run, 1)
        with DiesAt(k) as process:
            save(run, 2)
        seen.append(loaded(run))
        save(run, 3)
        assert loaded(run) == 3
        assert [p.name for p in run.iterdir()] == [FILE]
        if process.survived:
            break
    assert len(seen) > 2  # the hook sees the operations
    assert seen == sorted(seen)  # first the old one, from some point on the new one
    assert set(seen) == {1, 2}


def test_death_at_the_very_first_save(tmp_path):
    seen = []
    for k in count():
        run = tmp_path / str(k)
        run.mkdir()
        with DiesAt(k) as process:
            save(run, 1)
        seen.append(loaded(run) if has_checkpoint(run) else None)
        save(run, 2)
        assert loaded(run) == 2
        if process.survived:
            break
    assert seen[0] is None
    assert seen[-1] == 1


def test_a_text_is_written_whole_or_not_at_all(tmp_path):
    file, seen = tmp_path / "config.toml", []
    for k in count():
        write_text(file, "old")
        with DiesAt(k) as process:
            write_text(file, "the new content")
        seen.append(file.read_text())
        if process.survived:
            break
    assert seen == ["old", "old", "the new content"]


def test_a_failing_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save(tmp_path, 2)
    monkeypatch.undo()
    assert loaded(tmp_path) == 1
    save(tmp_path, 3)
    assert loaded(tmp_path) == 3


@pytest.mark.parametrize("damage", ["empty", "half", "a bit of a tensor", "a bit of the state", "one byte more"])
def test_damage_is_noticed(tmp_path, damage):
    save(tmp_path, 1)
    file = tmp_path / FILE
    good = file.read_bytes()
    digit = good.index(b"number") + good[good.index(b"number") :].index(b"1")
    file.write_bytes({
        "empty": b"",
        "half": good[: len(good) // 2],
        "a bit of a tensor": good[:-5] + bytes([good[-5] ^ 1]) + good[-4:],
        "a bit of the state": good[:digit] + b"7" + good[digit + 1 :],
        "one byte more": good + b"}",
    }[damage])  # fmt: skip
    with pytest.raises(UserError, match=r"checkpoint.safetensors is damaged \(.*\): restore it from a copy"):
        load_checkpoint(tmp_path)


def test_state_that_is_no_state(tmp_path):
    records = ("[]", "{}", "null", '{"format": 1}', '{"format": "one"}', '{"format": 1, "state": "[]", "crc32": 7}')
    for metadata in (None, {}, *({"checkpoint": record} for record in records)):
        save_file({"model.weight": torch.ones(1)}, tmp_path / FILE, metadata)
        with pytest.raises(UserError, match="is damaged"):
            load_checkpoint(tmp_path)


def test_newer_format(tmp_path):
    save_file({}, tmp_path / FILE, {"checkpoint": '{"format": 2}'})
    with pytest.raises(UserError, match="has format 2, this version reads up to 1: update bayesbinn"):
        load_checkpoint(tmp_path)


def test_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match=r"holds no checkpoint yet: train it with bayesbinn train --output .* --resume"):
        load_checkpoint(tmp_path)


def test_a_reader_sees_one_moment_whatever_is_replaced_meanwhile(tmp_path):
    """Two processes write in turns as fast as they can, without a lock; every reading is whole."""
    write = (
        "import sys, torch\nfrom pathlib import Path\n"
        "from tests.training.test_checkpoint import save\nnumber = int(sys.argv[2])\n"
        "while True:\n    save(Path(sys.argv[1]), number); number += 2"
    )
    save(tmp_path, 0)
    start = [sys.executable, "-c", write, str(tmp_path)]
    writers = [subprocess.Popen([*start, str(first)], cwd=Path(__file__).parents[2]) for first in (1, 2)]
    try:
        seen = set()
        while len(seen) < 100 or {number % 2 for number in seen} != {0, 1}:
            seen.add(loaded(tmp_path))
            assert all(process.poll() is None for process in writers)
    finally:
        for process in writers:
            process.kill()
            process.wait()
    assert loaded(tmp_path) >= 0


@pytest.mark.parametrize("kind", ["adam", "momentum", "plain"])
def test_optimizers_survive_being_taken_apart(tmp_path, kind):
    def optimizer():
        params = [torch.ones(3, requires_grad=True), torch.ones(2, 2, requires_grad=True)]
        if kind == "adam":
            return params, torch.optim.Adam(params, 0.1)
        return params, torch.optim.SGD(params, 0.1, momentum=0.9 if kind == "momentum" else 0)

    def step(params, optimizer):
        for p in params:
            p.grad = p.detach() * 0.5
        optimizer.step()

    params, one = optimizer()
    step(params, one)
    tensors, plain = flatten_optimizer("one", one)
    save_checkpoint(tmp_path, {}, tensors | {"other.0.step": torch.zeros(())}, {"one": plain})
    _, tensors, state = load_checkpoint(tmp_path)
    again, two = optimizer()
    two.load_state_dict(unflatten_optimizer("one", tensors, state["one"]))
    with torch.no_grad():
        for p, q in zip(params, again, strict=True):
            q.copy_(p)
    step(params, one)
    step(again, two)
    assert all(torch.equal(p, q) for p, q in zip(params, again, strict=True))

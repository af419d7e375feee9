"""One folder, one writer: refused while its process lives, taken over when it is gone."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from bayesbinn import locks
from bayesbinn.errors import UserError
from bayesbinn.files import HOST, writer
from bayesbinn.locks import LOCK, one_writer
from tests.runs import contents

HOLD = """
import sys, time
from pathlib import Path
from bayesbinn.locks import one_writer
with one_writer(Path(sys.argv[1])):
    (Path(sys.argv[1]) / "config.toml").write_text("")
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that writes into tmp_path / "run"."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_and_told_by_whom(holder, tmp_path):
    before = contents(tmp_path)
    message = rf"run is being written by process {holder.pid} on {HOST}: wait for its end, or choose another"
    with pytest.raises(UserError, match=message), one_writer(tmp_path / "run"):
        raise AssertionError
    assert contents(tmp_path) == before


def test_a_lock_goes_with_a_killed_process_and_so_does_what_it_was_writing(holder, tmp_path):
    run = tmp_path / "run"
    for name in (f".checkpoint.safetensors.{HOST}-{holder.pid}.new", f".checkpoint.safetensors.{HOST}-1.new"):
        (run / name).touch()
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (run / LOCK).read_text() == f"{HOST}-{holder.pid}"
    with one_writer(run):
        assert (run / LOCK).read_text() == writer()
    assert contents(run).keys() == {"config.toml", f".checkpoint.safetensors.{HOST}-1.new"}


def test_within_one_process_too(tmp_path):
    with one_writer(tmp_path):  # noqa: SIM117
        with pytest.raises(UserError, match=f"process {os.getpid()} on"), one_writer(tmp_path):
            raise AssertionError
    with one_writer(tmp_path):
        pass


@pytest.mark.parametrize("folder", ["run", "a/b/run"])
def test_a_folder_that_stayed_empty_goes_again(tmp_path, folder):
    with one_writer(tmp_path / folder):
        assert (tmp_path / folder / LOCK).exists()
    assert contents(tmp_path) == {}
    (tmp_path / "there").mkdir()
    with one_writer(tmp_path / "there"):
        pass
    assert contents(tmp_path) == {"there": None}


@pytest.fixture
def hurried(monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.05)
    monkeypatch.setattr(locks, "PATIENCE", 0.5)


@pytest.mark.parametrize("where", ["another host", "no locks"])
def test_where_the_lock_does_not_reach_a_sign_of_life_decides(tmp_path, monkeypatch, hurried, where):
    host = "other-host" if where == "another host" else HOST
    (tmp_path / LOCK).write_text(f"{host}-77")
    if where == "no locks":
        monkeypatch.setattr(locks, "_lock", lambda lock: False)
    with pytest.warns(UserWarning, match=f"was last written by process 77 on {host}: looking for 0.5 s whether"):  # noqa: SIM117
        with one_writer(tmp_path):
            assert (tmp_path / LOCK).read_text() == writer()

    (tmp_path / LOCK).write_text(f"{host}-77")
    touch = "import os, sys, time\nwhile True: os.utime(sys.argv[1]); time.sleep(.05)"
    alive = subprocess.Popen([sys.executable, "-c", touch, str(tmp_path / LOCK)])
    try:
        seen = (tmp_path / LOCK).stat().st_mtime_ns
        while (tmp_path / LOCK).stat().st_mtime_ns == seen:
            time.sleep(0.01)
        refused = pytest.raises(UserError, match=f"is being written by process 77 on {host}: wait for its end")
        with pytest.warns(UserWarning, match="looking for"), refused, one_writer(tmp_path):
            raise AssertionError
    finally:
        alive.kill()
        alive.wait()
    assert (tmp_path / LOCK).read_text() == f"{host}-77"


def test_an_owner_gives_signs_of_life(tmp_path, hurried):
    with one_writer(tmp_path):
        seen = (tmp_path / LOCK).stat().st_mtime_ns
        end = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime_ns == seen:
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_lock_that_its_owner_has_just_removed_is_no_lock(tmp_path, monkeypatch):
    lock, calls = locks._lock, []

    def removed_before(descriptor):
        calls.append(descriptor)
        if len(calls) == 1:
            (tmp_path / LOCK).unlink()
        return lock(descriptor)

    monkeypatch.setattr(locks, "_lock", removed_before)
    with one_writer(tmp_path):
        assert (tmp_path / LOCK).read_text() == writer()
    assert len(calls) == 2


def test_where_nobody_can_write(tmp_path):
    (tmp_path / "file").touch()
    for folder, message in (
        ("file", "exists and is not an empty folder"),
        ("file/run", "cannot write in .*file: choose"),
    ):
        with pytest.raises(UserError, match=message), one_writer(tmp_path / folder):
            raise AssertionError


def test_an_owner_that_has_not_signed_yet(tmp_path):
    lock = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(UserError, match="is being written by another process: wait"), one_writer(tmp_path):
        raise AssertionError
    signing = threading.Timer(0.1, os.write, (lock, b"here-7"))
    signing.start()
    with pytest.raises(UserError, match="is being written by process 7 on here: wait"), one_writer(tmp_path):
        raise AssertionError
    signing.join()
    os.close(lock)

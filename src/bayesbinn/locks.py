"""One folder, one writer: a lock that goes with the process that holds it."""

import errno
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .errors import UserError
from .files import HOST, writer

try:
    import fcntl
except ImportError:  # Windows has no such locks: the sign of life decides
    fcntl: Any = None  # type: ignore[no-redef]

LOCK = ".lock"
BEAT = 5.0  # seconds between two signs of life of the owner
PATIENCE = 30.0  # seconds without one after which an owner that the lock does not reach counts as gone


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Inside, this process alone writes into `folder`, which is made, and removed at the end if it stayed empty.

    The operating system's lock on FOLDER/.lock goes with its process, so a kill leaves none behind.  Where it does not
    reach (other machines on a shared disk, a disk without locks) the owner's sign of life decides: it touches that file
    every `BEAT` seconds.

    Raises:
        UserError: if another process writes there, naming it and its host; or if nobody can.
    """
    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    lock = _acquire(folder)
    ended = threading.Event()
    beat = threading.Thread(target=_beat, args=(lock, ended), daemon=True)
    beat.start()
    try:
        yield
    finally:
        ended.set()
        beat.join()
        with suppress(OSError):  # the folder went away
            (folder / LOCK).unlink()
        os.close(lock)
        with suppress(OSError):  # something came of it
            for path in made:
                path.rmdir()


def _acquire(folder: Path) -> int:
    looks = 100  # at a lock whose owner is about to sign it
    while True:
        lock = _open(folder)
        try:
            reaches = _lock(lock)
            host, _, process = os.read(lock, 1000).decode(errors="replace").rpartition("-")
            if reaches is None and not host and looks:
                looks -= 1
                time.sleep(0.01)
            elif reaches is None or (host and not (reaches and host == HOST) and _lives(folder, host, process)):
                who = f"process {process} on {host}" if host else "another process"
                raise UserError(f"{folder} is being written by {who}: wait for its end, or choose another --output")
            elif _still_there(lock, folder / LOCK):
                for left in folder.glob(f".*.{host}-{process}.new") if host else ():
                    left.unlink()  # what a killed owner was writing
                os.ftruncate(lock, 0)
                os.lseek(lock, 0, os.SEEK_SET)
                os.write(lock, writer().encode())
                return lock
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)


def _still_there(lock: int, path: Path) -> bool:
    """Whether the owner before has not just left and removed the file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(lock), path.stat())
    return False


def _open(folder: Path) -> int:
    for _ in range(100):  # another process may just have left, and removed its empty folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            continue
        except FileExistsError:
            raise UserError(f"{folder} exists and is not an empty folder: choose another --output") from None
        except (PermissionError, NotADirectoryError):
            break
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    raise UserError(f"cannot write in {there}: choose another --output")


def _lock(lock: int) -> bool | None:
    """True if this process has the lock now, None if another one has it, False if this disk has no locks."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except (OSError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        return False
    return True


def _lives(folder: Path, host: str, process: str) -> bool:
    """Whether an owner that the lock does not reach gives a sign of life."""
    warnings.warn(
        f"{folder} was last written by process {process} on {host}: looking for {PATIENCE:g} s whether it still is",
        stacklevel=6,
    )
    seen, end = _touched(folder), time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(BEAT / 2)
        if _touched(folder) != seen:
            return True
    return False


def _touched(folder: Path) -> int | None:
    with suppress(FileNotFoundError), (folder / LOCK).open("rb") as file:  # opened anew, so that NFS asks its server
        return os.fstat(file.fileno()).st_mtime_ns
    return None


def _beat(lock: int, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        with suppress(OSError):
            os.utime(lock)

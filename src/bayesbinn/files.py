"""Files that are there whole or not at all."""

import os
import socket
from pathlib import Path

HOST = socket.gethostname()


def writer() -> str:
    """Names this process among all that may share a disk."""
    return f"{HOST}-{os.getpid()}"


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all (a name of this process alone, flush to disk, rename)."""
    temporary = path.with_name(f".{path.name}.{writer()}.new")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise

"""Files that are there whole or not at all."""

import os
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all (temporary name, flush to disk, rename)."""
    temporary = path.with_name(f".{path.name}.new")
    write_bytes(temporary, text.encode())
    temporary.replace(path)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

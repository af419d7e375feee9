"""Files that are there whole or not at all, and what can be read of one that is damaged."""

import json
import os
import socket
from collections.abc import Set
from pathlib import Path
from typing import Any

HOST = socket.gethostname()


def writer() -> str:
    """Names this process among all that may share a disk."""
    return f"{HOST}-{os.getpid()}"


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of a text, in UTF-8."""
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


def update_json(path: Path, **parts: Any) -> None:
    """Replace these parts of the object in a JSON file, which need not exist yet; the others stay."""
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_text(path, json.dumps({**stored, **parts}, indent=1, ensure_ascii=False) + "\n")


def read_json_lines(path: Path, keys: Set[str]) -> tuple[list[dict[str, Any]], list[str]]:
    """The objects in a file of one JSON object a line, and a note if lines are damaged: those are left out.

    Args:
        path: of the file; without it there are no lines and no note.
        keys: what every object must have.

    Returns:
        (objects, notes): notes is empty, or one sentence.
    """
    if not path.exists():
        return [], []
    found, damaged = [], []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict) and value.keys() >= keys:
            found.append(value)
        else:
            damaged.append(number)
    if not damaged:
        return found, []
    return found, [
        f"{path} is damaged: {len(damaged)} of {len(lines)} lines cannot be read, the first is line {damaged[0]}; they "
        "are left out"
    ]

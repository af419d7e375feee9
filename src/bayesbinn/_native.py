"""Finds the compiled library; `BAYESBINN_ISA` forces one of its instruction sets, or "numpy" for none.

The library is optional: where it is missing, `library()` is None and plain numpy and torch serve the same results.
"""

import ctypes
import functools
import os
import sys
from collections.abc import Callable
from ctypes import c_char_p, c_int, c_int64, c_void_p
from pathlib import Path
from typing import Any

from .errors import UserError

ABI = 8
STEM = "_bayesbinn"
# result and arguments of what csrc/bayesbinn.h declares; a job is the bytes of its struct
SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "bbn_abi": (c_int, ()),
    "bbn_isa_count": (c_int, ()),
    "bbn_isa_name": (c_char_p, (c_int,)),
    "bbn_isa_find": (c_int, (c_char_p,)),
    "bbn_create": (
        c_void_p,
        (c_void_p, c_int64, c_void_p, c_int64, c_int, c_int, c_int64, c_char_p, c_int),
    ),
    "bbn_run": (c_int, (c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_int64)),
    "bbn_predict": (
        c_int,
        (c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_void_p, c_int64),
    ),
    "bbn_num_inputs": (c_int64, (c_void_p,)),
    "bbn_num_outputs": (c_int64, (c_void_p,)),
    "bbn_free": (None, (c_void_p,)),
    "bbn_decoder_create": (
        c_void_p,
        (c_char_p, c_void_p, c_int64, c_void_p, c_int64, c_int, c_char_p, c_int),
    ),
    "bbn_decoder_run": (c_int, (c_void_p, c_void_p, c_int64, c_void_p, c_int64)),
    "bbn_decoder_reset": (None, (c_void_p,)),
    "bbn_decoder_free": (None, (c_void_p,)),
    "bbn_draw": (c_int, (c_char_p, c_int, c_int)),
    "bbn_update": (c_int, (c_char_p, c_int, c_int)),
}


def load_library(path: Path) -> ctypes.CDLL | None:
    """The library at `path`, its functions declared; None if it cannot be loaded or is of another version."""
    try:
        found = ctypes.CDLL(str(path))
        if found.bbn_abi() != ABI:
            return None
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(found, name)
            function.restype, function.argtypes = result, arguments
        return found
    except (OSError, AttributeError):
        return None


@functools.cache
def _open() -> ctypes.CDLL | None:
    folders = [Path(folder) for folder in sys.modules[__package__ or ""].__path__]  # two for an editable install
    for path in sorted(path for folder in folders for path in folder.glob(f"{STEM}.*")):
        if path.suffix in (".so", ".dylib", ".dll") and (found := load_library(path)):
            return found
    return None


def numpy_wanted() -> bool:
    """Whether `BAYESBINN_ISA=numpy` asks to do without the library."""
    return os.environ.get("BAYESBINN_ISA") == "numpy"


def library() -> ctypes.CDLL | None:
    """The compiled library, or None where there is none (or `BAYESBINN_ISA=numpy`)."""
    return None if numpy_wanted() else _open()


def kernel(name: str) -> tuple[Any, int] | None:
    """A training kernel of csrc/bayesbinn.h and the index of the instruction set to call it with; None: no library.

    The kernel takes (struct as bytes, index, threads).

    Raises:
        ValueError: as `chosen`.
    """
    return _kernel(name, os.environ.get("BAYESBINN_ISA"), _open)


@functools.cache
def _kernel(name: str, wanted: str | None, find: Callable[[], ctypes.CDLL | None]) -> tuple[Any, int] | None:
    found = None if wanted == "numpy" else find()  # `wanted` and `find` are arguments for the cache's sake
    return None if found is None else (getattr(found, name), isa_index(found, chosen()))


def isa_index(found: ctypes.CDLL, name: str) -> int:
    """The library's index of an instruction set; -1 if it has none of that name, or this machine cannot run it."""
    return int(found.bbn_isa_find(name.encode()))


def instruction_sets() -> list[str]:
    """Names of the instruction sets that the library has and this machine can run, slowest first.

    >>> isinstance(instruction_sets(), list)
    True
    """
    found = _open()
    if found is None:
        return []
    names = [found.bbn_isa_name(i).decode() for i in range(found.bbn_isa_count())]
    return [name for name in names if isa_index(found, name) >= 0]


def check_choice() -> None:
    """Refuse a `BAYESBINN_ISA` that this machine cannot run, before anything is done.

    Raises:
        UserError: as `chosen`.
    """
    if os.environ.get("BAYESBINN_ISA") and not numpy_wanted():
        chosen()


def chosen() -> str:
    """The instruction set in force: `BAYESBINN_ISA`, or the best there is.

    Raises:
        UserError: if `BAYESBINN_ISA` names none that this machine can run.
    """
    available = instruction_sets()
    wanted = os.environ.get("BAYESBINN_ISA")
    if not wanted:
        return available[-1]
    if wanted not in available:
        raise UserError(f"BAYESBINN_ISA is {wanted!r}, this machine can run {', '.join([*available, 'numpy'])}")
    return wanted

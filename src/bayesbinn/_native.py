"""Finds the compiled library; `BAYESBINN_ISA` forces one of its instruction sets, or "numpy" for none.

The library is optional: where it is missing, `library()` is None and plain numpy and torch serve the same results.
"""

import ctypes
import functools
import os
import sys
from pathlib import Path

ABI = 1
STEM = "_bayesbinn"


@functools.cache
def _open() -> ctypes.CDLL | None:
    folders = [Path(folder) for folder in sys.modules[__package__ or ""].__path__]  # two for an editable install
    for path in sorted(path for folder in folders for path in folder.glob(f"{STEM}.*")):
        if path.suffix in (".so", ".dylib", ".dll"):
            try:
                found = ctypes.CDLL(str(path))
                if found.bbn_abi() == ABI:
                    return found
            except (OSError, AttributeError):
                continue
    return None


def numpy_wanted() -> bool:
    """Whether `BAYESBINN_ISA=numpy` asks to do without the library."""
    return os.environ.get("BAYESBINN_ISA") == "numpy"


def library() -> ctypes.CDLL | None:
    """The compiled library, or None where there is none (or `BAYESBINN_ISA=numpy`)."""
    return None if numpy_wanted() else _open()


def instruction_sets() -> list[str]:
    """Names of the instruction sets that the library has and this machine can run, slowest first.

    >>> isinstance(instruction_sets(), list)
    True
    """
    found = _open()
    if found is None:
        return []
    found.bbn_isa_name.restype = ctypes.c_char_p
    names = (found.bbn_isa_name(i) for i in range(found.bbn_isa_count()))
    return [name.decode() for name in names if name and found.bbn_isa_available(name)]


def chosen() -> str:
    """The instruction set in force: `BAYESBINN_ISA`, or the best there is.

    Raises:
        ValueError: if `BAYESBINN_ISA` names none that this machine can run.
    """
    available = instruction_sets()
    wanted = os.environ.get("BAYESBINN_ISA")
    if not wanted:
        return available[-1]
    if wanted not in available:
        raise ValueError(f"BAYESBINN_ISA is {wanted!r}, this machine can run {', '.join([*available, 'numpy'])}")
    return wanted

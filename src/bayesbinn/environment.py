"""What a result was made with."""

import ctypes
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from . import __version__


def environment() -> dict[str, Any]:
    """Command line, versions, processor and threads: stored beside every figure.

    >>> sorted(environment())
    ['bayesbinn', 'command', 'cpu', 'platform', 'python', 'threads', 'torch']
    """
    program, *arguments = sys.argv
    name = Path(program).name
    return {
        "command": " ".join(["bayesbinn" if name in ("bayesbinn", "__main__.py") else name, *arguments]),
        "bayesbinn": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(terse=True),
        "cpu": _cpu(),
        "threads": torch.get_num_threads(),
    }


def keep_freed_memory() -> bool:
    """Ask the C library to keep freed memory (up to 2 GB) for the next step; whether it can (glibc).

    Every step frees the weights drawn and the gradients.  Handed back to the system, they return page by page, each
    cleared on first touch: more time than draw and update take.  For the whole process, so a program's choice.
    Without maps, tensors of any size come from the heap, which is what keeps them.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_threshold, mmap_max = -1, -4  # of malloc.h
    return bool(mallopt(trim_threshold, 2**31 - 1) and mallopt(mmap_max, 0))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())

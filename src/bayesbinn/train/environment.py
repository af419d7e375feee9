"""What a result was made with."""

import platform
import sys
from pathlib import Path
from typing import Any

import torch

from .. import __version__


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


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())

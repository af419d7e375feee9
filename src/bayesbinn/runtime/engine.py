"""Chooses what runs a program: the compiled library where there is one, numpy elsewhere."""

import warnings
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from .. import _native
from .program import Program


class Engine(Protocol):
    """What runs a program: see `NumpyEngine` for the meaning of `run`."""

    name: str

    def run(self, x: NDArray[np.float32], first: int, count: int) -> NDArray[np.float32]: ...


_told = False
NOT_FINITE = "x holds NaN or inf (or numbers beyond float32): clean the input first"


def make_engine(program: Program, threads: int) -> Engine:
    """The compiled engine, or, saying so once, the numpy one.  `BAYESBINN_ISA=numpy` asks for numpy."""
    global _told
    library = _native.library()
    if library is not None:
        from .native_engine import NativeEngine

        return NativeEngine(library, program, threads)
    if not _told and not _native.numpy_wanted():
        _told = True
        warnings.warn("bayesbinn: no compiled library here, numpy runs the same network more slowly", stacklevel=3)
    from .numpy_engine import NumpyEngine

    return NumpyEngine(program, threads)

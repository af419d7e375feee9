"""A trained run to use, and the command line in this process (`python -m bayesbinn` where the process is the point)."""

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from bayesbinn.cli import main
from bayesbinn.training import train
from tests.runs import TINY, blobs


@pytest.fixture
def cli():
    """Call `bayesbinn ARGUMENTS` and return click's result, with exit_code, stdout and stderr."""

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, [str(a) for a in arguments])

    return call


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """images.npz and vectors.npz; runs named images, vectors, ste and float; x.npy of inputs for images."""
    folder = tmp_path_factory.mktemp("cli")
    for name, shape in (("images", (8, 8)), ("vectors", (8,))):
        np.savez(folder / f"{name}.npz", **blobs(shape))
    for name, data, more in (
        *(("images", "images", {}), ("vectors", "vectors", {})),
        *(("ste", "images", {"method": "ste"}), ("float", "images", {"method": "float"})),
    ):
        train({**TINY, "epochs": 1, "data": f"npz:{folder}/{data}.npz", **more}, folder / name)
    np.save(folder / "x.npy", blobs((8, 8))["x_test"][:3])
    return folder


@pytest.fixture
def here(folder, monkeypatch) -> Path:
    """The same, as the working directory."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("BAYESBINN_DATA", raising=False)
    return folder


@pytest.fixture
def environment() -> dict[str, str]:
    """Of a real process: this source tree, one thread."""
    source = Path(__file__).parents[2] / "src"
    return {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}

"""The compiled library under AddressSanitizer and UBSan, over the tests of training and of inference."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TESTS = [
    "tests/test_ops.py",
    "tests/runtime/test_network.py",
    "tests/runtime/test_door.py",
    "tests/deploy/test_bit_exact.py",
    "tests/deploy/test_plans.py",
    "tests/deploy/test_mixture.py",
    "tests/runtime/test_decoder.py",
]
FLAGS = {"-DBBN_SANITIZE=ON", "-DBBN_WERROR=ON"}
RUN = """
import sys
from pathlib import Path
import pytest
from bayesbinn import _native
library = _native.load_library(Path(sys.argv[1]))
assert library is not None
_native._open = lambda: library
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-m", "not slow", *sys.argv[2:]]))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (shutil.which("cmake") and shutil.which("gcc")):
        pytest.skip("needs cmake and gcc")
    folder = tmp_path_factory.mktemp("sanitized")
    configure = ["cmake", "-S", str(ROOT), "-B", str(folder), "-DCMAKE_C_COMPILER=gcc", *FLAGS]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", str(folder), "-j2"], check=True, stdout=subprocess.DEVNULL)
    return folder / "_bayesbinn.so"


def sanitized(library: Path, code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Python with the sanitizers loaded."""
    names = ("libasan.so", "libubsan.so")
    found = [subprocess.check_output(["gcc", f"-print-file-name={name}"], text=True).strip() for name in names]
    environment = os.environ | {
        "LD_PRELOAD": " ".join(found),
        "ASAN_OPTIONS": "detect_leaks=0",  # Python's own, at its end
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    command = [sys.executable, "-c", code, str(library), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_training_and_inference(library: Path) -> None:
    done = sanitized(library, RUN, *TESTS)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    assert " passed" in done.stdout


@pytest.mark.slow
def test_that_the_sanitizers_are_awake(library: Path) -> None:
    """They see a draw that reads beyond its weights."""
    code = """
import ctypes, struct, sys
from pathlib import Path
import numpy as np
from bayesbinn import _native
library = _native.load_library(Path(sys.argv[1]))
seed, weights = np.zeros(1, np.int64), np.zeros(100, np.float32)
out = np.zeros(200, np.float32)
job = struct.pack("qPPPii", 200, seed.ctypes.data, weights.ctypes.data, out.ctypes.data, 0, 0)
library.bbn_draw(job, 0, 1)
"""
    done = sanitized(library, code)
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr

"""The NEON kernels of training, run under qemu where a cross compiler and the emulator are installed."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from bayesbinn import _ops, _philox

ROOT = Path(__file__).parents[1]
COMPILER, EMULATOR = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None or EMULATOR is None:
        pytest.skip("needs aarch64-linux-gnu-gcc and qemu-aarch64")
    out = tmp_path_factory.mktemp("neon") / "driver"
    sources = [path for path in sorted((ROOT / "csrc").glob("*.c")) if "avx" not in path.name]
    flags = ["-std=gnu11", "-O3", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-math-errno", "-static"]
    command = [COMPILER, *flags, *map(str, sources), str(ROOT / "tests" / "emulated_training.c"), "-o", str(out)]
    subprocess.run([*command, "-lpthread", "-lm"], check=True)
    return out


@pytest.mark.parametrize("isa", ["portable", "neon"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_neon_is_bit_exact(driver: Path, isa: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYESBINN_ISA", "numpy")
    natural, grad = (torch.randn(40_001) * 4).to(dtype), torch.randn(40_001).to(dtype)
    natural[:5] = torch.tensor([torch.inf, -torch.inf, -0.0, 1e-40, 16.0])
    seed = torch.tensor(2**61 + 7)
    head = np.array([len(natural), int(seed), dtype == torch.bfloat16], np.int64)
    sent = head.tobytes() + b"".join(t.view(torch.uint8).numpy().tobytes() for t in (natural, grad))
    assert EMULATOR is not None
    done = subprocess.run([EMULATOR, str(driver), isa, "2"], input=sent, capture_output=True, check=True).stdout
    split = 4 * len(natural)
    assert done[:split] == _philox.draw(natural, seed, torch.float32).numpy().tobytes()
    monkeypatch.setattr(_ops, "new_seed", lambda *_: seed)
    _ops.learn_(natural, grad, 0.4, lr=0.25, ratio=13.2)  # the numbers in the driver
    assert natural.view(torch.uint8).numpy().tobytes() == done[split:]

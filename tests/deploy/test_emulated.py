"""The NEON kernels, run under qemu where a cross compiler and the emulator are installed."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn.runtime.native_engine import encode
from tests.deploy.nets import NETWORKS, SIZES, Sign, trained
from tests.deploy.reference import reference

ROOT = Path(__file__).parents[2]
COMPILER, EMULATOR = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if COMPILER is None or EMULATOR is None:
        pytest.skip("needs aarch64-linux-gnu-gcc and qemu-aarch64")
    out = tmp_path_factory.mktemp("neon") / "driver"
    sources = [path for path in sorted((ROOT / "csrc").glob("*.c")) if "avx" not in path.name]
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-math-errno", "-static"]
    command = [COMPILER, *flags, *map(str, sources), str(Path(__file__).with_name("driver.c")), "-o", str(out)]
    subprocess.run([*command, "-lpthread", "-lm"], check=True)
    return out


def run(driver: Path, isa: str, raw: bytes, x: torch.Tensor) -> None:
    program = bb.deploy.load_program(raw)
    words, data = encode(program)
    count = 1 + program.num_samples
    shape = (count, len(x), *program.output_shape)
    head = np.array([len(words), len(data), len(x), 0, count, np.prod(shape), x[0].numel()], np.int64)
    sent = head.tobytes() + words.tobytes() + data.tobytes() + x.numpy().tobytes()
    assert EMULATOR is not None
    done = subprocess.run([EMULATOR, str(driver), isa, "2"], input=sent, capture_output=True, check=True)
    found = np.frombuffer(done.stdout, np.float32).reshape(shape)
    for sample in range(count):
        assert np.array_equal(reference(program, x, sample).numpy(), found[sample])


@pytest.mark.parametrize("isa", ["portable", "neon"])
def test_neon_is_bit_exact(driver: Path, isa: str) -> None:
    for activations in ("int8", "int16"):
        for make, shape in NETWORKS:
            raw = bb.deploy.pack(make(), num_samples=1, activations=activations, input_shape=shape)  # type: ignore[arg-type]
            run(driver, isa, raw, torch.randn(3, *shape))
    for size in SIZES:
        for first in ([], [Sign()]):
            net = trained(nn.Sequential(*first, nn.Linear(size, 97)))
            run(driver, isa, bb.deploy.pack(net), torch.randn(5, size))
            net = trained(nn.Sequential(*first, nn.Conv2d(size, 33, 3, padding=1)))
            run(driver, isa, bb.deploy.pack(net, input_shape=(size, 5, 4)), torch.randn(2, size, 5, 4))
    net = trained(nn.Sequential(nn.Linear(9001, 3)))
    run(driver, isa, bb.deploy.pack(net, activations="int16"), torch.randn(2, 9001))

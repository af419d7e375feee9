"""The library for other machines: NEON under qemu, Windows under wine, what zig links for the others."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn import _native
from bayesbinn.runtime.native_engine import encode
from csrc import cross
from tests.deploy.nets import NETWORKS, SIZES, Sign, trained
from tests.deploy.reference import reference

ROOT = Path(__file__).parents[2]
COMPILER, EMULATOR = shutil.which("aarch64-linux-gnu-gcc"), shutil.which("qemu-aarch64")


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    if COMPILER is None or EMULATOR is None:
        pytest.skip("needs aarch64-linux-gnu-gcc and qemu-aarch64")
    out = tmp_path_factory.mktemp("neon") / "driver"
    sources = [ROOT / "csrc" / f"{name}.c" for name in [*cross.COMMON, *cross.OWN["aarch64"]]]
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fno-math-errno", "-static"]
    command = [COMPILER, *flags, *map(str, sources), str(Path(__file__).with_name("driver.c")), "-o", str(out)]
    subprocess.run([*command, "-lpthread", "-lm"], check=True)
    return [EMULATOR, str(out)]


def run(driver: Sequence[str], isa: str, raw: bytes, x: torch.Tensor) -> None:
    program = bb.deploy.load_program(raw)
    words, data = encode(program)
    count = 1 + program.num_samples
    shape = (count, len(x), *program.output_shape)
    head = np.array([len(words), len(data), len(x), 0, count, np.prod(shape), x[0].numel()], np.int64)
    sent = head.tobytes() + words.tobytes() + data.tobytes() + x.numpy().tobytes()
    done = subprocess.run([*driver, isa, "2"], input=sent, capture_output=True, check=True)
    found = np.frombuffer(done.stdout, np.float32).reshape(shape)
    for sample in range(count):
        assert np.array_equal(reference(program, x, sample).numpy(), found[sample])


@pytest.mark.parametrize("isa", ["portable", "neon"])
def test_neon_is_bit_exact(driver: list[str], isa: str) -> None:
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


def zig() -> None:
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs ziglang: pip install ziglang")


@pytest.mark.slow
def test_windows_is_bit_exact(tmp_path: Path) -> None:
    """Every instruction set that this machine has, by wine; the library itself exports what bayesbinn.h declares."""
    zig()
    library = tmp_path / "bayesbinn.dll"
    cross.build("x86_64-windows-gnu", library)
    raw = library.read_bytes()
    assert all(name in raw for name in (b"bbn_create", b"bbn_run", b"bbn_draw", b"bbn_update"))
    program = tmp_path / "driver.exe"
    cross.build("x86_64-windows-gnu", program, link=["-Wl,-s"], main=Path(__file__).with_name("driver.c"))
    wine = shutil.which("wine64") or shutil.which("wine64", path="/usr/lib/wine")
    if wine is None:
        pytest.skip("built; to run it needs wine64")
    os.environ["WINEPREFIX"], os.environ["WINEDEBUG"] = str(tmp_path / "wine"), "-all"
    for isa in _native.instruction_sets():
        for make, shape in NETWORKS:
            raw = bb.deploy.pack(make(), num_samples=1, input_shape=shape)
            run([wine, str(program)], isa, raw, torch.randn(3, *shape))


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", [name for name in cross.TARGETS if not name.startswith(("x86_64-windows", "wasm32"))]
)
def test_desktops_link(target: str, tmp_path: Path) -> None:
    zig()
    cross.build(target, tmp_path / "library")
    raw = (tmp_path / "library").read_bytes()
    assert raw[:4] == (b"\xcf\xfa\xed\xfe" if "macos" in target else b"\x7fELF")
    assert b"bbn_create" in raw


@pytest.mark.slow
def test_musl_on_arm_is_bit_exact(tmp_path: Path) -> None:
    zig()
    if EMULATOR is None:
        pytest.skip("needs qemu-aarch64")
    program = tmp_path / "driver"
    cross.build("aarch64-linux-musl", program, link=["-static"], main=Path(__file__).with_name("driver.c"))
    for isa in ("portable", "neon"):
        for make, shape in NETWORKS:
            raw = bb.deploy.pack(make(), num_samples=1, input_shape=shape)
            run([EMULATOR, str(program)], isa, raw, torch.randn(3, *shape))


@pytest.mark.slow
def test_the_shipped_webassembly_is_what_its_script_builds(tmp_path: Path) -> None:
    zig()
    version = subprocess.run([sys.executable, "-m", "ziglang", "version"], capture_output=True, text=True, check=True)
    if version.stdout.strip() != cross.ZIG:
        pytest.skip(f"needs ziglang {cross.ZIG}, has {version.stdout.strip()}")
    cross.build("wasm32-wasi", tmp_path / "runtime.wasm")
    assert (tmp_path / "runtime.wasm").read_bytes() == cross.SHIPPED.read_bytes()

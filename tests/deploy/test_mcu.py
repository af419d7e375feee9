"""The C export on emulated microcontrollers: the runtime's bits, in the memory that was told."""

import ctypes
import itertools
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bayesbinn as bb
from bayesbinn.deploy.c_plan import plan
from bayesbinn.deploy.export_c import c_budget, save_c, to_c
from benchmarks import mcu
from tests.deploy.nets import NETWORKS, trained
from tests.deploy.reference import reference

ROOT = Path(__file__).parents[2]


class Meeting(nn.Module):
    """Values that are read twice, as floats and as levels."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1), nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.a(x))
        y = self.b(h)
        return torch.flatten(F.max_pool2d(self.c(h) + y + h, 3, 2, 1), 1)


def programs(activations: str = "int8") -> dict[str, tuple[bb.deploy.Program, Tensor]]:
    torch.manual_seed(0)
    found = {}
    for make, shape in [*NETWORKS, (lambda: trained(Meeting()), (3, 6, 6))]:
        for calibration in (None, torch.randn(32, *shape)):
            raw = bb.deploy.pack(make(), activations=activations, calibration=calibration, input_shape=shape)  # type: ignore[arg-type]
            name = f"{len(found) // 2} {'per input' if calibration is None else 'calibrated'}"
            found[name] = bb.deploy.load_program(raw), torch.randn(2, *shape)
    return found


@pytest.mark.parametrize("activations", ["int8", "int16"])
@pytest.mark.parametrize("ram", [None, 10**6])
def test_every_plan_gives_the_same_bits(activations: str, ram: int | None, tmp_path: Path) -> None:
    """In as little memory as possible, where layers are computed twice, and in plenty."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    for name, (program, x) in programs(activations).items():
        save_c(program, tmp_path / name, ram=ram)
        library = tmp_path / name / "net.so"
        flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-shared", "-fPIC"]
        subprocess.run([compiler, *flags, str(tmp_path / name / "net.c"), "-o", str(library)], check=True)
        run = ctypes.CDLL(str(library)).net_run
        for row, expected in zip(x.numpy(), reference(program, x).numpy(), strict=True):
            found, row = np.empty_like(expected), np.ascontiguousarray(row)
            run(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(found.ctypes.data))
            assert np.array_equal(expected, found), name


def test_room_saves_time() -> None:
    program = programs()["1 per input"][0]
    least = plan(program)
    much = plan(program, 10**6)
    twice = [[step for step in p.steps if step.twice and step.op is not None] for p in (least, much)]
    assert len(twice[0]) > len(twice[1]) == 0
    assert least.ram < much.ram <= plan(program, much.ram).ram


def test_buffers_of_one_time_do_not_meet() -> None:
    for program, _ in programs().values():
        planned = plan(program)
        last = {buffer: time for time, step in enumerate(planned.steps) for buffer in step.sources}
        for time in range(len(planned.steps)):
            alive = {b for t, s in enumerate(planned.steps) if t <= time for b in (s.to,) if last.get(b, t) > time}
            spans = sorted((planned.offsets[b], planned.offsets[b] + b.bytes) for b in alive if b in planned.offsets)
            assert all(high <= low for (_, high), (low, _) in itertools.pairwise(spans))
            assert all(high <= planned.ram for _, high in spans)


def test_what_does_not_fit_is_refused() -> None:
    program = programs()["0 per input"][0]
    need = c_budget(program, target="cortex-m3")
    to_c(program, target="cortex-m3", ram=need.ram, flash=need.flash)
    with pytest.raises(ValueError, match=f"needs {need.ram} bytes of ram, {need.ram - 1} are allowed"):
        to_c(program, ram=need.ram - 1)
    with pytest.raises(ValueError, match="bytes of flash"):
        to_c(program, target="cortex-m3", flash=need.flash - 1)
    with pytest.raises(ValueError, match="target must be one of any, cortex-m0plus"):
        to_c(program, target="cortex-m9")


def test_an_arduino_library(tmp_path: Path) -> None:
    paths = save_c(programs()["0 per input"][0], tmp_path, "digits", arduino=True)
    names = {str(path.relative_to(tmp_path)) for path in paths}
    assert names == {"library.properties", "src/digits.h", "src/digits.c", "examples/digits/digits.ino"}
    assert "includes=digits.h" in (tmp_path / "library.properties").read_text()
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("needs g++ to check the sketch")
    arduino = (
        "struct { void begin(long) {} template <class T> void print(T) {} template <class T> void println(T) {}"
        " void println() {} } Serial;\nunsigned long micros() { return 0; }\nvoid delay(int) {}\n"
    )
    sketch = arduino + (tmp_path / "examples" / "digits" / "digits.ino").read_text()
    (tmp_path / "sketch.cpp").write_text(sketch + "int main() { setup(); loop(); return 0; }\n")
    sources = [str(tmp_path / "sketch.cpp"), "-x", "c", str(tmp_path / "src" / "digits.c")]
    subprocess.run([compiler, "-Wall", f"-I{tmp_path / 'src'}", *sources, "-o", str(tmp_path / "a")], check=True)
    subprocess.run([str(tmp_path / "a")], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("target", mcu.BOARDS)
def test_emulated_processors_give_the_same_bits(target: str, tmp_path: Path) -> None:
    """And the linker finds what the budget told, within 2 % (of flash: or 300 bytes, where networks are tiny)."""
    if name := mcu.missing(target):
        pytest.skip(f"needs {name}")
    for name, (program, x) in programs().items():
        (tmp_path / name).mkdir()
        expected = reference(program, x).numpy()
        file, flash, ram = mcu.build(tmp_path / name, target, program, x.numpy())
        found, instructions = mcu.run(target, file, expected[0].size)
        assert np.array_equal(found.reshape(expected.shape), expected), name
        assert instructions > 1000
        budget = c_budget(program, target=target)
        assert ram == budget.ram
        assert abs(flash - budget.flash) <= max(0.02 * flash, 300), name


@pytest.mark.slow
def test_rust_calls_it_as_the_page_says(tmp_path: Path) -> None:
    rust, make = shutil.which("rustc"), shutil.which("make")
    if rust is None or make is None:
        pytest.skip("needs rustc and make")
    program, x = programs()["0 per input"]
    save_c(program, tmp_path)
    subprocess.run([make, "-s", "-C", str(tmp_path)], check=True)
    code = (ROOT / "docs" / "anywhere.md").read_text().split("```rust\n")[1].split("```")[0]
    for name, size in (("INPUTS", x.shape[1]), ("OUTPUTS", reference(program, x).shape[1])):
        code, changed = re.subn(rf"(const {name}: usize =) \d+;", rf"\1 {size};", code)
        assert changed == 1
    (tmp_path / "main.rs").write_text(code)
    subprocess.run(
        [rust, "--edition=2021", "main.rs", "-C", f"link-arg={tmp_path / 'net.o'}"], cwd=tmp_path, check=True
    )
    for row, expected in zip(x.numpy(), reference(program, x).numpy(), strict=True):
        sent = " ".join(map(repr, row.tolist()))
        done = subprocess.run([tmp_path / "main"], input=sent, capture_output=True, text=True, check=True)
        assert np.array_equal(np.array(done.stdout.strip("[]\n").split(", "), np.float32), expected)

"""Random plans of float operations: every engine and the C export give the bits of the reference, ONNX its numbers."""

import contextlib
import ctypes
import shutil
import subprocess
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from bayesbinn.deploy.export_c import save_c
from bayesbinn.deploy.export_onnx import to_onnx
from bayesbinn.deploy.twin import TORCH
from bayesbinn.runtime import FormatError, Network
from bayesbinn.runtime.container import read, write
from bayesbinn.runtime.functions import COMPUTE, exp
from bayesbinn.runtime.operation import FUNCTIONS
from bayesbinn.runtime.program import Program, check
from tests.deploy.nets import ENGINES
from tests.deploy.plans import random_plan, with_samples
from tests.deploy.reference import reference


def program_and_inputs(seed: int) -> tuple[Program, torch.Tensor]:
    program = check(read(write(*random_plan(seed))))
    return program, torch.randn(3, *program.input_shape, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_bits_of_the_reference(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYESBINN_ISA", engine)

    @given(st.integers(0, 1 << 30))
    @settings(max_examples=40, deadline=None, derandomize=True)
    def compare(seed: int) -> None:
        program, x = program_and_inputs(seed)
        network = Network(program, threads=1 + seed % 2)
        assert network.engine == engine
        assert np.array_equal(network.run(x.numpy()), reference(program, x).numpy())

    compare()


@pytest.mark.parametrize("engine", ENGINES)
def test_networks_with_real_numbers_of_their_own(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYESBINN_ISA", engine)
    several = 0

    @given(st.integers(0, 1 << 30))
    @settings(max_examples=25, deadline=None, derandomize=True)
    def compare(seed: int) -> None:
        nonlocal several
        program = check(read(write(*with_samples(random_plan(seed), 2, seed))))
        x = torch.randn(3, *program.input_shape, generator=torch.Generator().manual_seed(seed)) * 2
        network = Network(program, threads=1 + seed % 2)
        found = [network.run(x.numpy(), sample) for sample in range(3)]
        for sample, output in enumerate(found):
            assert np.array_equal(output, reference(program, x, sample).numpy())
        assert np.array_equal(network.run_samples(x.numpy()), np.stack(found[1:]))
        several += any(op.own for op in program.ops) and not np.array_equal(*found[:2])

    compare()
    assert several > 5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"own": 1}, "own must be true or false"),
        ({"own": False}, r"scale must be float32 of shape \(4,\)"),
        ({"op": "clamp"}, "unknown field"),
    ],
)
def test_own_numbers_are_checked(change: dict[str, object], said: str) -> None:
    tensors = {name: np.ones((3, 4), np.float32) for name in ("a", "b")}
    op = {"op": "affine", "inputs": [0], "scale": "a", "shift": "b", "own": True}
    plan = {"version": 3, "producer": "test", "input": [4], "num_samples": 2, "ops": [op]}
    check(read(write(plan, tensors)))
    with pytest.raises(FormatError, match=said):
        check(read(write({**plan, "ops": [op | change]}, tensors)))


def test_the_c_export_gives_the_bits_of_the_reference(tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    names = [f"net{seed}" for seed in range(60)]
    for seed, name in enumerate(names):
        save_c(program_and_inputs(seed)[0], tmp_path, name)
    sources = [str(tmp_path / f"{name}.c") for name in names]
    flags = ["-std=c99", "-O1", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, *sources, "-o", str(tmp_path / "nets.so")], check=True)
    library = ctypes.CDLL(str(tmp_path / "nets.so"))
    for seed, name in enumerate(names):
        program, x = program_and_inputs(seed)
        for row, expected in zip(x.numpy(), reference(program, x).numpy(), strict=True):
            found, row = np.empty_like(expected), np.ascontiguousarray(row)
            getattr(library, f"{name}_run")(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(found.ctypes.data))
            assert np.array_equal(expected, found), name


def test_onnxruntime_gives_the_numbers_of_the_reference() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    for seed in range(60):
        program, x = program_and_inputs(seed)
        session = onnxruntime.InferenceSession(to_onnx(program), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {"x": x.numpy()})
        assert np.allclose(found, reference(program, x).numpy(), rtol=1e-3, atol=1e-4), seed


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_within_their_bound_of_torch(name: str) -> None:
    """3e-7 of max(1, |x|), in float64."""
    x = np.concatenate([np.linspace(-100, 100, 400_001), np.geomspace(1e-30, 3e38, 1001)]).astype(np.float32)
    parameter = 0.3 if name in ("elu", "leaky_relu") else 0.0
    expected = TORCH[name](torch.from_numpy(x).double(), parameter).numpy()
    with np.errstate(over="ignore"):
        found = COMPUTE[name](x, parameter)
    assert found.dtype == np.float32
    assert (np.abs(found - expected) <= 3e-7 * np.maximum(1, np.abs(x.astype(np.float64)))).all()


def test_exp_is_within_two_units_in_the_last_place() -> None:
    x = np.linspace(-87, 88, 1_000_001).astype(np.float32)
    assert np.abs(exp(x) / np.exp(x.astype(np.float64)) - 1).max() < 2 * 2.0**-23
    wild, limits = np.array([-np.inf, np.nan, np.inf], np.float32), np.array([-87, -87, 88], np.float32)
    assert np.array_equal(exp(wild), exp(limits))


def test_a_field_of_another_kind_is_refused_by_name() -> None:
    """Every field of random plans, replaced by what it cannot be."""
    strange = [None, True, "x", [], {}, [1], 0.5, -1, 1 << 40]
    for seed in range(30):
        plan, tensors = random_plan(seed)
        for op in plan["ops"]:
            for field, kept in list(op.items()):
                for value in strange:
                    op[field] = value
                    with contextlib.suppress(FormatError):  # any other exception is a fault
                        check(read(write(plan, tensors)))
                    op[field] = kept

"""The one door to the engines: whatever is wrong with an argument, a Python error comes before C sees it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

import bayesbinn as bb
from bayesbinn.runtime import Network, load
from bayesbinn.runtime.engine import make_engine
from bayesbinn.runtime.program import Program
from tests.deploy.nets import ENGINES, mlp

SHAPE = (20,)
DTYPES = ["f2", "<f4", ">f4", "f8", "i1", "u4", ">i8", "?", "c8", "O", "U3", "S3", "M8[s]", "V4"]


@pytest.fixture(scope="module")
def raw() -> bytes:
    torch.manual_seed(0)
    return bb.deploy.pack(mlp(), num_samples=2)


@pytest.fixture(scope="module", params=ENGINES)
def network(request: pytest.FixtureRequest, raw: bytes) -> Network:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BAYESBINN_ISA", request.param)
        return load(raw)


def layouts(x: np.ndarray, how: int) -> np.ndarray:
    """The same values in another place: strided, reversed, transposed, broadcast, misaligned, read-only."""
    match how:
        case 1:
            return np.repeat(x, 2, -1)[..., ::2]
        case 2:
            return np.ascontiguousarray(x[::-1])[::-1]
        case 3:
            return np.asfortranarray(x)
        case 4:
            return np.broadcast_to(x[:1], x.shape)
        case 5 if x.dtype.kind not in "OV":
            raw = np.zeros(x.nbytes + 1, np.uint8)
            moved = raw[1:].view(x.dtype) if x.size else x.ravel()
            moved[:] = x.ravel()
            return moved.reshape(x.shape)
        case 6:
            x = x.copy()
            x.flags.writeable = False
    return x


@st.composite
def inputs(draw: Callable[..., Any]) -> np.ndarray:
    """Arrays of any shape and dtype, of which some are right."""
    shape = draw(st.sampled_from([(1, 20), (3, 20), (20,), (0, 20), (2, 21), (2, 19), (2, 20, 1), (), (2, 4, 5)]))
    dtype = draw(st.sampled_from(DTYPES))
    values = np.array(draw(st.lists(st.integers(-9, 9), min_size=4, max_size=4)))
    x = np.resize(values, shape).astype(np.int64 if dtype.startswith(("M8", "V")) else dtype)
    x = x.view(dtype) if dtype.startswith("M8") else x.astype("V8") if dtype == "V4" else x
    return layouts(x, draw(st.integers(0, 6)) if x.ndim and len(x) else 0)


@given(x=inputs(), sample=st.sampled_from([0, 1, 2, 3, -1, 1 << 40, -(1 << 70), 1.0, None, "1", np.int16(2), True]))
def test_run_answers_or_says_what_is_wrong(network: Network, x: np.ndarray, sample: Any) -> None:
    right = x.shape[1:] == SHAPE and len(x) > 0 and x.dtype.kind in "fiu"
    right = right and not isinstance(sample, float | str | None) and 0 <= sample <= 2
    if not right:
        with pytest.raises((TypeError, ValueError), match="must"):
            network.run(x, sample)
        return
    plain = np.array(x, "<f4", order="C")
    assert np.array_equal(network.run(x, sample), network.run(plain, int(sample)))


@given(
    first=st.integers(-(1 << 65), 1 << 65) | st.integers(-2, 4),
    count=st.integers(-(1 << 65), 1 << 65) | st.integers(-2, 4),
)
def test_networks_that_do_not_exist(network: Network, first: int, count: int) -> None:
    x = np.zeros((2, 20), np.float32)
    if first >= 0 and count >= 1 and first + count <= 3:
        assert network._engine.run(x, first, count).shape == (count, 2, 5)
    else:
        with pytest.raises(ValueError, match=r"(sample|num_samples) must be"):
            network._engine.run(x, first, count)


@given(arrays.arrays(np.float32, (2, 20), elements=st.floats(width=32)))
def test_any_float_gives_a_number_or_an_error(network: Network, x: np.ndarray) -> None:
    if np.isfinite(x).all():
        assert network.run(x).shape == (2, 5)
    else:
        with pytest.raises(ValueError, match="NaN or inf"):
            network.run(x)


def test_things_that_are_no_arrays(network: Network) -> None:
    for x in (None, "x", [[1], [1, 2]], object(), {"x": 1}, [[None] * 20], 3, b"x" * 80):
        with pytest.raises((TypeError, ValueError)):
            network.run(x)  # type: ignore[arg-type]


def run_once(program: Program) -> None:
    make_engine(program, 1, 1 << 30, 1 << 40).run(np.zeros((2, *program.input_shape)), 0, 1)


def twisted(program: Program, index: int, **changes: Any) -> Program:
    ops = list(program.ops)
    ops[index] = dataclasses.replace(ops[index], **changes)
    return dataclasses.replace(program, ops=tuple(ops))


@pytest.mark.parametrize("isa", ENGINES[:-1])
def test_a_program_that_lies_about_itself(raw: bytes, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs come from `check`, which lets none of these through; by hand they are refused all the same."""
    monkeypatch.setenv("BAYESBINN_ISA", isa)
    program = bb.deploy.load_program(raw)
    first = program.ops[0]
    assert first.bits is not None
    assert first.scale is not None
    changes: list[dict[str, Any]] = [
        {"bits": first.bits[:, :-1]},
        {"bits": first.bits.astype(np.int8)},
        {"bits": first.bits[:1]},
        {"scale": first.scale[:-1]},
        {"scale": first.scale.astype(np.float64)},
        {"shift": None},
        {"shape": (1 << 24, 1, 1)},
        {"shape": (1 << 70, 1, 1)},
        {"shape": (7, 1, 1)},
        {"kernel": (1 << 30, 1)},
        {"inputs": (5,)},
        {"inputs": (-1,)},
        {"groups": 0},
        {"kind": "no such thing"},
    ]
    lies = [twisted(program, 0, **change) for change in changes]
    lies += [dataclasses.replace(program, num_samples=7)]
    lies += [dataclasses.replace(program, input_shape=(size,)) for size in (10, 19, 21, 40)]
    for lie in lies:
        with pytest.raises((TypeError, ValueError, OverflowError, ZeroDivisionError)):
            run_once(lie)


def test_one_logit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Softmax of one logit is 1 whatever it is: no prediction."""
    for engine in ENGINES:
        monkeypatch.setenv("BAYESBINN_ISA", engine)
        network = load(bb.deploy.pack(bb.binarize_(nn.Sequential(nn.Linear(4, 1))).eval(), num_samples=2))
        x = np.ones((3, 4))
        for ask in (network.predict, network.predict_uncertainty):
            for num_samples in (None, 0, 2):
                with pytest.raises(ValueError, match="one in all: train it with two, or take the sigmoid of run"):
                    ask(x, num_samples)
        assert network.run(x).shape == (3, 1)

"""A small file that asks for much is refused before anything is taken."""

import resource
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from bayesbinn.runtime import load
from bayesbinn.runtime.container import write
from bayesbinn.runtime.engine import CALL_OPERATIONS, MAX_MEMORY
from tests.deploy.nets import ENGINES

POOL8 = 17 * 9**2 * 8**2


def plan(shape: list[int], *ops: dict[str, Any]) -> bytes:
    return write({"version": 1, "producer": "a test", "input": shape, "num_samples": 0, "ops": list(ops)}, {})


def residual(size: int) -> bytes:
    """24 values that all live until 23 additions have read them."""
    clamps = [{"op": "clamp", "inputs": [0], "clamp": [-i - 1, i + 1]} for i in range(24)]
    adds = [{"op": "add", "inputs": [1 if i == 0 else 24 + i, i + 2]} for i in range(23)]
    return plan([size], *clamps, *adds)


def pool(size: int) -> bytes:
    """A window as large as the image, at every pixel."""
    return plan([1, size, size], {"op": "max_pool", "inputs": [0], "kernel": [size, size], "padding": [size // 2] * 2})


@pytest.fixture(params=ENGINES, autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BAYESBINN_ISA", request.param)
    return str(request.param)


def test_memory_is_refused_before_it_is_taken() -> None:
    raw = residual(1 << 24)
    assert len(raw) < 3000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"it needs \d{10} bytes of memory, max_memory allows 1073741824"):
        load(raw)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # kB: 64 MiB


def test_memory_that_is_allowed_is_touched_only_by_a_run(engine: str) -> None:
    if engine == "numpy":
        pytest.skip("numpy takes its memory when it runs")
    # in a process of its own: a command run in this one may have asked malloc to keep what is freed
    code = (
        "import resource, sys; from bayesbinn.runtime import load; used = lambda: "
        "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss; before = used(); raw = sys.stdin.buffer.read(); "
        "network = load(raw); print(used() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=residual(1 << 22), capture_output=True, check=True)
    assert int(done.stdout) < 64 << 10  # of 400 MB
    with pytest.raises(ValueError, match="max_memory allows 100000000"):
        load(residual(1 << 22), max_memory=100_000_000)


def test_operations_are_refused_before_they_are_done() -> None:
    raw = pool(512)
    assert len(raw) < 400
    need = 17 * 513**2 * 512**2
    with pytest.raises(ValueError, match=f"one input takes {need} operations, max_operations allows 20000000000"):
        load(raw)
    assert load(pool(8), max_operations=POOL8).run(np.ones((1, 1, 8, 8))).max() == 1
    with pytest.raises(ValueError, match=f"one input takes {POOL8} operations, max_operations allows {POOL8 - 1}"):
        load(pool(8), max_operations=POOL8 - 1)


def test_what_is_needed_is_what_is_allowed() -> None:
    """The limit that the message names is enough, and one byte less is not."""
    raw = residual(1000)
    with pytest.raises(ValueError, match="it needs") as refused:
        load(raw, max_memory=1)
    need = int(str(refused.value).split("needs ")[1].split()[0])
    assert load(raw, max_memory=need).run(np.ones((1, 1000))).shape == (1, 1000)
    with pytest.raises(ValueError, match=f"it needs {need} bytes"):
        load(raw, max_memory=need - 1)


@pytest.mark.parametrize("name", ["threads", "max_memory", "max_operations"])
def test_limits_that_are_none(name: str) -> None:
    for bad in (0, -1, 1 << 63, (1 << 64) + 1):
        with pytest.raises(ValueError, match=f"{name} must be 1 to "):
            load(pool(8), **{name: bad})
    for kind in (1.5, "2", None):
        with pytest.raises(TypeError, match=f"{name} must be an integer"):
            load(pool(8), **{name: kind})  # type: ignore[arg-type]
    load(pool(8), **{name: np.int64(MAX_MEMORY if name != "threads" else 2)})


def test_a_long_call_is_made_of_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that Ctrl-C is heard; the answers are those of one call."""
    network = load(pool(8))
    x = np.random.default_rng(0).normal(size=(50, 1, 8, 8)).astype(np.float32)
    expected, parts = network.run(x), []
    engine = network._engine
    compute = engine._compute
    assert engine._rows == CALL_OPERATIONS // POOL8 or network.engine == "numpy"
    monkeypatch.setattr(engine, "_compute", lambda x, *rest: (parts.append(len(x)), compute(x, *rest)))
    monkeypatch.setattr(engine, "_rows", 16)
    assert np.array_equal(network.run(x), expected)
    assert parts == [16, 16, 16, 2]


def test_every_network_of_a_long_call(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import runtime_faults

    network = load(runtime_faults.files()["small"])
    x = runtime_faults.inputs(network, 1, 7)[0]
    engine = network._engine
    expected = engine.run(x, 0, 2)
    monkeypatch.setattr(engine, "_rows", 3)
    assert np.array_equal(engine.run(x, 0, 2), expected)

"""One loaded network, many callers: threads, forked processes, servers, copies."""

import copy
import json
import pickle
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bayesbinn import _native
from bayesbinn.runtime import load
from benchmarks import runtime_faults
from tests.deploy.nets import ENGINES

ROOT = Path(__file__).parents[2]
needs_library = pytest.mark.skipif(not _native.instruction_sets(), reason="no compiled library")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    paths = {}
    for name, raw in runtime_faults.files().items():
        paths[name] = tmp_path_factory.mktemp("files") / f"{name}.bbnn"
        paths[name].write_bytes(raw)
    return paths


@pytest.mark.parametrize("name", ["mlp", "conv"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
def test_four_threads_get_the_answers_of_one(
    engine: str, threads: int, name: str, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BAYESBINN_ISA", engine)
    answers = {"portable": 120, "numpy": 120}.get(engine, 800)
    assert runtime_faults.wrong_answers(files[name].read_bytes(), answers, threads=threads, batch=2) == 0


def in_process(expression: str, path: Path) -> object:
    """An expression over `raw`, in a Python of its own that knows no torch: forking this one would be rash."""
    code = (
        "import json, pathlib, sys; from benchmarks.runtime_faults import *;"
        "raw = pathlib.Path(sys.argv[1]).read_bytes();"
        f"print(json.dumps({expression})); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    return json.loads(done.stdout)


@needs_library
@pytest.mark.parametrize("name", ["mlp", "conv"])
@pytest.mark.parametrize("busy", [False, True])
def test_a_fork_gives_the_child_a_network_that_works(name: str, busy: bool, files: dict[str, Path]) -> None:
    """Run, loaded anew and freed in the child, also while another thread of the parent is in a call."""
    assert in_process(f"hangs(raw, 20, threads=2, busy={busy}, patience=10)", files[name]) == [0, 0]


@needs_library
def test_loads_and_frees_leave_memory_flat(files: dict[str, Path]) -> None:
    growth = in_process("growth(raw, 500) + growth(raw, 200, threads=2)", files["small"])
    assert isinstance(growth, int)
    assert growth < 1 << 20


@needs_library
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "conv"])
def test_for_long(name: str, files: dict[str, Path]) -> None:
    """The figures of `benchmarks/faults.py --runtime`, half as long."""
    raw = files[name].read_bytes()
    assert runtime_faults.wrong_answers(raw, 50_000, threads=1) == 0
    assert runtime_faults.wrong_answers(raw, 10_000, threads=2) == 0
    for busy in (False, True):
        assert in_process(f"hangs(raw, 200, threads=2, busy={busy})", files[name]) == [0, 0]


def ask(port: int, x: np.ndarray, size: int) -> list[tuple[int, bytes]]:
    """(process, output) for each input, one after the other over one connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection, connection.makefile("rwb") as stream:
        answers = []
        for row in x:
            stream.write(row.tobytes())
            stream.flush()
            answer = stream.read(4 + size)
            answers.append((int.from_bytes(answer[:4], "little"), answer[4:]))
        return answers


@pytest.mark.parametrize("kind", ["threads", "prefork"])
def test_a_server_of_one_network(kind: str, files: dict[str, Path]) -> None:
    """Six clients at a time; the network was loaded, and had been at work, before its server forked."""
    network = load(files["conv"])
    batches = runtime_faults.inputs(network, 12, 10)
    expected = [[row.tobytes() for row in network.run(x)] for x in batches]
    command = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("server.py")), str(files["conv"]), kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port, size = int(server.stdout.readline()), len(expected[0][0])
        with ThreadPoolExecutor(6) as clients:
            answers = list(clients.map(lambda x: ask(port, x, size), batches))
        server.communicate(timeout=30)
    assert server.returncode == 0
    assert [[output for _, output in answer] for answer in answers] == expected
    processes = {process for answer in answers for process, _ in answer}
    assert server.pid not in processes if kind == "prefork" else processes == {server.pid}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_copy_is_a_network_of_its_own(engine: str, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYESBINN_ISA", engine)
    network = load(files["mlp"], threads=2)
    x = runtime_faults.inputs(network, 1, 3)[0]
    expected = network.run(x)
    copies = [copy.copy(network), copy.deepcopy(network), pickle.loads(pickle.dumps(network))]
    del network
    for other in copies:
        assert np.array_equal(other.run(x), expected)

"""A machine without a compiler: the package builds as pure Python there, and its results are the same."""

import importlib.util
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import bayesbinn as bb
from tests.deploy.nets import mlp, resnet

ROOT = Path(__file__).parents[1]
RUN = """
import sys, warnings
sys.path[:0] = sys.argv[1:3]
import numpy as np
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    from bayesbinn.runtime import load
    network = load(sys.argv[3])
assert network.engine == "numpy", network.engine
assert "no compiled library" in str(told[0].message)
assert "torch" not in sys.modules
x = np.load(sys.argv[4])
np.savez(sys.argv[5], mode=network.run(x), samples=network.run_samples(x), probs=network.predict(x))
"""


@pytest.mark.slow
def test_an_sdist_holds_what_builds_it_and_nothing_else(tmp_path: Path) -> None:
    """A file that git does not know, such as one with secrets, must not be shipped; types must."""
    pytest.importorskip("scikit_build_core", reason="needs scikit-build-core")
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tree = tmp_path / "tree"
    for name in filter(None, tracked.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
    for name in (".env", "secret.txt", "src/bayesbinn/token.json", "csrc/notes.md"):
        (tree / name).write_text("secret")
    code = f"from scikit_build_core.build import build_sdist; print(build_sdist({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {n for n in tracked.split("\0") if n.startswith(("src/", "csrc/"))} | {"pyproject.toml", "LICENSE"}
    assert needed <= names, needed - names
    assert not {n for n in names if n.startswith((".", "tests", "docs", "experiments", "benchmarks"))}
    assert not names & {"secret.txt", "src/bayesbinn/token.json", "csrc/notes.md"}


@pytest.mark.slow
def test_without_a_compiler_the_results_are_the_same(tmp_path: Path) -> None:
    if importlib.util.find_spec("scikit_build_core") is None:
        pytest.skip("needs scikit-build-core")
    (tmp_path / "bin").mkdir()
    nothing = {"PATH": str(tmp_path / "bin"), "CC": str(tmp_path / "no-such-compiler"), "HOME": str(tmp_path)}
    build = [sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(tmp_path)]
    done = subprocess.run([*build, str(ROOT)], env=nothing, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "installed")
    assert "bayesbinn/runtime/__init__.py" in names
    assert not [name for name in names if name.endswith((".so", ".dylib", ".dll"))]

    torch.manual_seed(0)
    for name, net, shape in (("mlp", mlp(), (20,)), ("resnet", resnet(), (3, 12, 12))):
        raw = bb.deploy.pack(net, num_samples=2, input_shape=shape)
        here = bb.runtime.load(raw)
        x = np.random.default_rng(0).normal(size=(7, *here.program.input_shape)).astype(np.float32)
        (tmp_path / f"{name}.bbnn").write_bytes(raw)
        np.save(tmp_path / f"{name}.npy", x)
        paths = [
            tmp_path / "installed",
            Path(np.__file__).parents[1],
            tmp_path / f"{name}.bbnn",
            tmp_path / f"{name}.npy",
        ]
        # -S: the working copy, if it is installed as editable, stays out of the way
        command = [sys.executable, "-S", "-c", RUN, *map(str, paths), str(tmp_path / f"{name}.npz")]
        done = subprocess.run(command, env=nothing, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / f"{name}.npz") as found:
            assert np.array_equal(found["mode"], here.run(x))
            assert np.array_equal(found["samples"], here.run_samples(x))
            assert np.array_equal(found["probs"], here.predict(x))

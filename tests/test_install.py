"""What is shipped: the sdist, a wheel from it with and without a compiler, and that all give the same results."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import bayesbinn as bb
from tests.deploy.nets import mlp, resnet

ROOT = Path(__file__).parents[1]
ENDS = (".bbnn", ".npy", ".npz")
RUN = """
import sys, warnings
sys.path[:0] = sys.argv[2:4]
import numpy as np
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import bayesbinn
    from bayesbinn.runtime import load
    network = load(sys.argv[4])
assert bayesbinn.__file__.startswith(sys.argv[2]), bayesbinn.__file__
assert (network.engine == "numpy") == (sys.argv[1] == "numpy"), network.engine
assert [str(w.message) for w in told if "no compiled library" in str(w.message)] or network.engine != "numpy"
assert "torch" not in sys.modules
x = np.load(sys.argv[5])
np.savez(sys.argv[6], mode=network.run(x), samples=network.run_samples(x), probs=network.predict(x))
"""
SCRIPT = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory, tracked: list[str]) -> Path:
    """Made from what git tracks, with files beside it that it does not."""
    pytest.importorskip("scikit_build_core", reason="needs scikit-build-core")
    tmp_path = tmp_path_factory.mktemp("sdist")
    tree = tmp_path / "tree"
    for name in tracked:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, tree / name)
    for name in (".env", "secret.txt", "src/bayesbinn/token.json", "csrc/notes.md"):
        (tree / name).write_text("secret")
    code = f"from scikit_build_core.build import build_sdist; print(build_sdist({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.tar.gz")
    return file


@pytest.mark.slow
def test_an_sdist_holds_what_builds_it_and_nothing_else(sdist: Path, tracked: list[str]) -> None:
    """A file that git does not know, such as one with secrets, must not be shipped; types must."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    needed = {n for n in tracked if n.startswith(("src/", "csrc/"))} | {"pyproject.toml", "LICENSE"}
    assert needed <= names, needed - names
    assert not {n for n in names if n.startswith((".", "tests", "docs", "experiments", "benchmarks"))}
    assert not names & {"secret.txt", "src/bayesbinn/token.json", "csrc/notes.md"}


@pytest.mark.slow
@pytest.mark.parametrize("compiler", [True, False], ids=["with a compiler", "without a compiler"])
def test_a_wheel_of_the_sdist_in_an_empty_environment_gives_the_same_results(
    tmp_path: Path, sdist: Path, compiler: bool
) -> None:
    (tmp_path / "bin").mkdir()
    for tool in ("cmake", "ninja"):  # which pip would fetch, but for --no-build-isolation
        if found := shutil.which(tool):
            (tmp_path / "bin" / tool).symlink_to(Path(found).resolve())
    nothing = {"PATH": str(tmp_path / "bin"), "CC": str(tmp_path / "no-such-compiler"), "HOME": str(tmp_path)}
    env = dict(os.environ) if compiler else nothing
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(tmp_path), str(sdist)]
    done = subprocess.run(build, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        libraries = [name for name in archive.namelist() if name.endswith((".so", ".dylib", ".dll"))]
    assert bool(libraries) == compiler
    assert ("-py3-none-any" in wheel.name) != compiler, wheel.name

    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (package,) = (tmp_path / "venv").rglob("bayesbinn/__init__.py")

    torch.manual_seed(0)
    for name, net, shape in (("mlp", mlp(), (20,)), ("resnet", resnet(), (3, 12, 12))):
        raw = bb.deploy.pack(net, num_samples=2, input_shape=shape)
        here = bb.runtime.load(raw)
        x = np.random.default_rng(0).normal(size=(7, *here.program.input_shape)).astype(np.float32)
        (tmp_path / f"{name}.bbnn").write_bytes(raw)
        np.save(tmp_path / f"{name}.npy", x)
        paths = [package.parents[1], Path(np.__file__).parents[1], *(tmp_path / f"{name}{end}" for end in ENDS)]
        command = [str(python), "-c", RUN, "native" if compiler else "numpy", *map(str, paths)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        with np.load(tmp_path / f"{name}.npz") as found:
            assert np.array_equal(found["mode"], here.run(x))
            assert np.array_equal(found["samples"], here.run_samples(x))
            # outputs are the same bits; the softmax takes the exp of libm or of numpy, which differ in the last bit
            assert np.allclose(found["probs"], here.predict(x), rtol=0, atol=1e-12)


@pytest.mark.slow
def test_a_wheel_beside_torch_is_the_whole_program(tmp_path: Path, sdist: Path) -> None:
    """In an environment with the wheel and, after it, the packages of this one: command, module, README's script."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(tmp_path), str(sdist)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "venv", with_pip=False)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    install = [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (package,) = (tmp_path / "venv").rglob("bayesbinn/__init__.py")
    # a .pth file's folders come after the wheel's own, and bring no .pth files of theirs (the editable install here)
    (package.parents[1] / "beside.pth").write_text(
        f"{Path(np.__file__).parents[1]}\n{Path(torch.__file__).parents[1]}\n"
    )

    def told(*command: str | Path) -> str:
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            list(map(str, command)), cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    version = f"bayesbinn, version {bb.__version__}\n"
    assert told(scripts / "bayesbinn", "--version") == version
    assert told(python, "-m", "bayesbinn", "--version") == version
    assert Path(told(python, "-c", "import bayesbinn; print(bayesbinn.__file__)").strip()) == package
    for text in SCRIPT.findall((ROOT / "README.md").read_text(encoding="utf-8")):
        if "MyNet" not in text:  # else a sketch: the network is the reader's
            told(python, "-W", "error", "-c", text)

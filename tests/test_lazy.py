"""The package's front: names appear when they are used, the same for type checkers and at run time."""

import ast
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import bayesbinn as bb


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout


def test_the_runtime_is_light_and_imports_no_torch() -> None:
    code = (
        "import time, sys, numpy; t = time.perf_counter(); import bayesbinn.runtime; t = time.perf_counter() - t;"
        "assert 'torch' not in sys.modules; print(t)"
    )
    assert min(float(run(code)) for _ in "123") < 0.2


def test_what_type_checkers_see_is_what_is_there_at_run_time() -> None:
    tree = ast.parse(Path(bb.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert {name for module, name in seen if module is None} == set(bb._MODULES)
    assert {(m, n) for m, n in seen if m} == {(m, n) for m, names in bb._NAMES.items() for n in names}
    for module, name in seen:
        assert isinstance(getattr(bb, name), ModuleType) == (module is None)
        assert name in dir(bb)


def test_modules_are_there_before_anything_imports_them() -> None:
    code = "import bayesbinn as bb; print(*(getattr(bb, name).__name__ for name in ('posterior', *bb._MODULES)))"
    assert run(code).split()[1:] == [f"bayesbinn.{name}" for name in bb._MODULES]


def test_no_name_hides_a_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(bb.__path__)}
    assert not modules & set(bb._HOME)
    assert set(bb._MODULES) <= modules
    run("import bayesbinn.prediction, bayesbinn as bb; assert callable(bb.predict)")


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'bayesbinn' has no attribute 'nothing'"):
        bb.nothing  # noqa: B018

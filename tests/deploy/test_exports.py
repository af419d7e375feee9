"""Exports compute what the packed network computes."""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn.deploy.export_c import save_c, to_c
from tests.deploy.nets import Sign, convnext, mlp, real_first, recurrent, resnet, trained, vit
from tests.deploy.reference import reference

CASES = {
    "mlp": (mlp, (20,), None),
    "calibrated": (mlp, (20,), 64),
    "resnet": (resnet, (3, 12, 12), None),
    "real first": (real_first, (20,), None),
    "sequence": (lambda: trained(nn.Sequential(nn.Conv1d(4, 9, 5, 2), nn.BatchNorm1d(9), nn.ReLU())), (4, 30), None),
    "convnext": (convnext, (3, 8, 8), None),
    "vit": (vit, (3, 8, 8), 16),
    "recurrent": (recurrent, (7, 6), None),
    "recurrent, calibrated": (recurrent, (7, 6), 8),
    "sign": (lambda: trained(nn.Sequential(Sign(), nn.Linear(70, 9), nn.ReLU(), nn.Linear(9, 3))), (70,), None),
}
WARNINGS = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off"]


def program_of(case: str, activations: str = "int8") -> tuple[nn.Module, bb.runtime.program.Program, torch.Tensor]:
    build, shape, calibration = CASES[case]
    net = build()
    given = None if calibration is None else torch.randn(calibration, *shape)
    raw = bb.deploy.pack(net, activations=activations, calibration=given, input_shape=shape)  # type: ignore[arg-type]
    return net, bb.deploy.load_program(raw), torch.randn(5, *shape)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("activations", ["int6", "int8", "int16"])
def test_c_is_bit_exact(case: str, activations: str, tmp_path: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    _, program, x = program_of(case, activations)
    save_c(program, tmp_path, "small")
    library = tmp_path / "small.so"
    subprocess.run([compiler, *WARNINGS, "-shared", "-fPIC", str(tmp_path / "small.c"), "-o", str(library)], check=True)
    run = ctypes.CDLL(str(library)).small_run
    for row, expected in zip(x.numpy(), reference(program, x).numpy(), strict=True):
        found = np.empty_like(expected)
        row = np.ascontiguousarray(row)
        run(ctypes.c_void_p(row.ctypes.data), ctypes.c_void_p(found.ctypes.data))
        assert np.array_equal(expected, found)


@pytest.mark.parametrize(
    ("target", "emulator"), [("aarch64-linux-gnu", "qemu-aarch64"), ("arm-linux-gnueabihf", "qemu-arm")]
)
def test_c_runs_on_arm(target: str, emulator: str, tmp_path: Path) -> None:
    compiler, qemu = shutil.which(f"{target}-gcc"), shutil.which(emulator)
    if compiler is None or qemu is None:
        pytest.skip(f"needs {target}-gcc and {emulator}")
    _, program, x = program_of("resnet")
    save_c(program, tmp_path)
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nint main(void) {\n    static float x[NET_INPUTS], y[NET_OUTPUTS];\n'
        "    while (fread(x, sizeof x, 1, stdin) == 1) {\n        net_run(x, y);\n"
        "        fwrite(y, sizeof y, 1, stdout);\n    }\n    return 0;\n}\n"
    )
    sources = [str(tmp_path / name) for name in ("net.c", "main.c")]
    subprocess.run([compiler, *WARNINGS, "-static", *sources, "-o", str(tmp_path / "net")], check=True)
    done = subprocess.run([qemu, str(tmp_path / "net")], input=x.numpy().tobytes(), capture_output=True, check=True)
    expected = reference(program, x).numpy()
    assert np.array_equal(expected, np.frombuffer(done.stdout, np.float32).reshape(expected.shape))


def test_c_needs_no_heap_and_nothing_else() -> None:
    _, program, _ = program_of("resnet")
    files = to_c(program)
    assert set(files) == {"net.h", "net.c", "Makefile"}
    assert "malloc" not in files["net.c"]
    assert [line for line in files["net.c"].splitlines() if line.startswith("#include")] == ['#include "net.h"']
    with pytest.raises(ValueError, match="identifier"):
        to_c(program, "my net")


@pytest.mark.parametrize("case", CASES)
def test_onnx_runs_in_onnxruntime(case: str) -> None:
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from bayesbinn.deploy.export_onnx import to_onnx

    net, program, x = program_of(case)
    raw = to_onnx(program)
    found = ort.InferenceSession(raw, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})[0]
    expected = net(x).detach().numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()


def test_onnx_linear_layers_take_two_bits() -> None:
    pytest.importorskip("onnx")
    from bayesbinn.deploy.export_onnx import to_onnx

    net = trained(nn.Sequential(nn.Linear(1024, 1024, bias=False)))
    raw = to_onnx(bb.deploy.load_program(bb.deploy.pack(net)))
    assert len(raw) < 1024 * 1024 * 0.4


def test_onnx_activations_are_what_the_page_says() -> None:
    """8 bits in the linear layers of an int8 network, and float in an int16 network."""
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from bayesbinn.deploy.export_onnx import to_onnx

    net = trained(nn.Sequential(nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 9)))
    x = torch.randn(5, 512)
    errors = {}
    for activations in ("int8", "int16"):
        raw = to_onnx(bb.deploy.load_program(bb.deploy.pack(net, activations=activations)))  # type: ignore[arg-type]
        found = ort.InferenceSession(raw, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})[0]
        errors[activations] = float(np.abs(found - net(x).detach().numpy()).max() / np.abs(found).max())
    assert errors["int16"] < 1e-5 < errors["int8"] < 0.05


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:Output shapes disagree")  # qonnx reckons with 0 inputs where a size is not known
def test_qonnx_runs_in_qonnx(case: str) -> None:
    pytest.importorskip("qonnx")
    import onnx
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    from bayesbinn.deploy.export_onnx import to_qonnx

    net, program, x = program_of(case)
    loaded = onnx.load_from_string(to_qonnx(program))
    for value in (loaded.graph.input[0], loaded.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = len(x)
    model = ModelWrapper(loaded).transform(InferShapes())
    found = execute_onnx(model, {"x": x.numpy()})["y"]
    expected = net(x).detach().numpy()
    assert np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    assert any(node.op_type == "BipolarQuant" for node in loaded.graph.node)


def test_onnx_of_several_inputs() -> None:
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from bayesbinn.deploy.export_onnx import to_onnx

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.image, self.numbers, self.head = nn.Conv2d(2, 6, 3), nn.Linear(5, 6), nn.Linear(12, 3)

        def forward(self, image: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
            return self.head(torch.cat([self.image(image).mean((2, 3)), self.numbers(numbers).tanh()], 1))

    net, x = trained(Net()), (torch.randn(4, 2, 6, 6), torch.randn(4, 5))
    program = bb.deploy.load_program(bb.deploy.pack(net, calibration=x))
    session = onnxruntime.InferenceSession(to_onnx(program, stock=True), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x0": x[0].numpy(), "x1": x[1].numpy()})
    assert np.allclose(found, net(*x).detach().numpy(), atol=1e-4)


def test_constants_have_names_of_their_own(tmp_path: Path) -> None:
    """Steps of values and scales of norms are both numbered."""
    layers = [layer for _ in range(8) for layer in (nn.Linear(6, 6), nn.LayerNorm(6), nn.GELU())]
    save_c(bb.deploy.load_program(bb.deploy.pack(trained(nn.Sequential(*layers)))), tmp_path, "net")
    subprocess.run(["cc", *WARNINGS, "-c", str(tmp_path / "net.c"), "-o", str(tmp_path / "net.o")], check=True)

"""The file: the same bytes for the same network, as small as promised, and refused when anything is wrong with it."""

import base64
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_safetensors
from torch import nn

import bayesbinn as bb
from bayesbinn.runtime import FormatError, load
from bayesbinn.runtime.container import read, write
from tests.deploy.nets import ENGINES, Sign, mlp, resnet

GOLDEN = Path(__file__).parents[1] / "golden" / "network.bbnn.json"


def golden_network() -> nn.Module:
    """A fixed network, with no randomness at all."""
    net = bb.binarize_(nn.Sequential(nn.Linear(5, 3), nn.ReLU(), Sign(), nn.Linear(3, 2)), scale="none")
    for i, layer in enumerate((net[0], net[3])):
        layer.natural.data.copy_(
            torch.arange(layer.natural.numel()).reshape(layer.natural.shape).add(i).mul(37) % 7 - 3
        )
        layer.bias.data.copy_(torch.arange(len(layer.bias)) / 4)
    return net.eval()


def test_golden_file(tmp_path: Path) -> None:
    """Byte for byte; a change here is a change of the format, and needs a new version number."""
    stored = json.loads(GOLDEN.read_text())
    raw = bb.deploy.pack(golden_network(), calibration=torch.linspace(-1, 1, 10).reshape(2, 5))
    raw = raw.replace(f"bayesbinn {bb.__version__}".encode(), b"bayesbinn 0.1.0")
    assert base64.b64encode(raw).decode() == stored["file"]
    outputs = load(raw).run(np.array(stored["x"], np.float32))
    assert outputs.tolist() == stored["outputs"]


@pytest.mark.parametrize("engine", ENGINES)
def test_golden_files_of_version_2(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans with every operation and function; a change of their outputs needs a new version number."""
    monkeypatch.setenv("BAYESBINN_ISA", engine)
    for stored in json.loads(GOLDEN.with_name("network2.bbnn.json").read_text()):
        network = load(base64.b64decode(stored["file"]))
        assert network.engine == engine
        assert network.run(np.array(stored["x"], np.float32)).tolist() == stored["outputs"]


def test_safetensors_reads_it() -> None:
    raw = bb.deploy.pack(mlp(), num_samples=3)
    assert load_safetensors(raw)["1.bits"].shape == (4, (20 * 33 + 7) // 8)


@pytest.mark.parametrize("samples", [0, 8])
def test_size(samples: int) -> None:
    """5 % over the bits for layers of usual width (a channel's scale and shift take 8 bytes)."""
    net = mlp((784, 2048, 2048, 10))
    raw = bb.deploy.pack(net, num_samples=samples)
    bits = sum(p.numel() for p in bb.split_parameters(net)[0]) * (1 + samples)
    assert len(raw) <= 1.05 * bits / 8


def test_saving_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.bbnn"
    bb.deploy.save(mlp(), path)
    before = path.read_bytes()

    def fail(*args: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        bb.deploy.save(mlp(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_every_truncation_and_bit_flip_is_refused() -> None:
    raw = bb.deploy.pack(mlp((6, 5, 3)), num_samples=1)
    for length in range(len(raw)):
        with pytest.raises(FormatError):
            load(raw[:length])
    for position in range(8 * len(raw)):
        damaged = bytearray(raw)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(FormatError):
            load(bytes(damaged))
    with pytest.raises(FormatError):
        load(raw + b"\0")


def edited(raw: bytes, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> bytes:
    """The file with its plan and tensors changed, and a checksum that fits: what an attacker would write."""
    container = read(raw)
    plan, tensors = json.loads(json.dumps(container.plan)), dict(container.tensors)
    change(plan, tensors)
    return write(plan, {name: np.ascontiguousarray(t, t.dtype.newbyteorder("=")) for name, t in tensors.items()})


def op(index: int, **fields: object) -> Callable[[dict[str, Any], dict[str, Any]], Any]:
    return lambda plan, tensors: plan["ops"][index].update(fields)


CHANGES: dict[str, Callable[[dict[str, Any], dict[str, Any]], Any]] = {
    "version": lambda plan, tensors: plan.update(version=4),
    "boolean version": lambda plan, tensors: plan.update(version=True),
    "input shape": lambda plan, tensors: plan.update(input=[3, 12]),
    "huge input": lambda plan, tensors: plan.update(input=[3, 1 << 20, 1 << 20]),
    "samples": lambda plan, tensors: plan.update(num_samples=2),
    "no operations": lambda plan, tensors: plan.update(ops=[]),
    "an operation that is no object": lambda plan, tensors: plan["ops"].append(3),
    "unknown operation": op(1, op="matmul"),
    "later input": op(1, inputs=[7]),
    "negative input": op(1, inputs=[-1]),
    "two inputs": op(1, inputs=[0, 0]),
    "unknown field": op(1, color="red"),
    "huge kernel": op(1, kernel=[1 << 20, 1 << 20]),
    "kernel of wrong length": op(1, kernel=[3]),
    "stride 0": op(1, stride=[0, 1]),
    "negative padding": op(1, padding=[-1, 1]),
    "text padding": op(1, padding=["1", "1"]),
    "channels": op(1, channels=9),
    "groups": op(1, groups=2),
    "clamp": op(1, clamp=[1, 0]),
    "clamp beyond float32": op(1, clamp=[0, 1e300]),
    "missing tensor": op(1, weight="nothing"),
    "wrong tensor": op(1, scale="1.weight"),
    "activation": op(2, activation={"type": "int4"}),
    "step 0": op(2, activation={"type": "int8", "step": 0, "zero": 0}),
    "step alone": op(2, activation={"type": "int8", "step": 1.0}),
    "zero": op(2, activation={"type": "int8", "step": 1.0, "zero": 128}),
    "unused tensor": lambda plan, tensors: tensors.update(more=np.zeros(3, np.float32)),
    "NaN": lambda plan, tensors: tensors.update({"1.scale": np.full(8, np.nan, np.float32)}),
    "padding bits": lambda plan, tensors: tensors.update({"15.bits": tensors["15.bits"] | 255}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_malicious_files_are_refused(name: str) -> None:
    raw = bb.deploy.pack(resnet(), input_shape=(3, 12, 12))
    if name == "padding bits":  # 40 × 5 bits fill their bytes: use a network whose bits do not
        raw = bb.deploy.pack(mlp((3, 3)))
        change: Any = lambda plan, tensors: tensors.update({"1.bits": tensors["1.bits"] | 255})  # noqa: E731
    else:
        change = CHANGES[name]
    with pytest.raises(FormatError) as caught:
        load(edited(raw, change))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "at least 8"),
        (b"\xff" * 64, "header length"),
        ((2).to_bytes(8, "little") + b"{}", "no plan"),
        ((2).to_bytes(8, "little") + b"[]", "JSON object"),
        ((12).to_bytes(8, "little") + b'{"a":1,"a":1', "JSON"),
        ((100_000).to_bytes(8, "little") + b"[" * 100_000, "JSON"),
    ],
)
def test_other_files_are_refused(raw: bytes, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        load(raw)


def test_random_damage_never_crashes() -> None:
    generator = random.Random(0)
    raw = bb.deploy.pack(resnet(), input_shape=(3, 12, 12), num_samples=1)
    for _ in range(300):
        damaged = bytearray(raw)
        for _ in range(generator.randint(1, 6)):
            damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        if bytes(damaged) != raw:
            with pytest.raises(FormatError):
                load(bytes(damaged))


def test_each_network_is_packed_with_its_own_statistics() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    bb.binarize_(net, init="weights").eval()
    x = 3 * torch.randn(64, 6) + 1
    bb.calibrate_(net, x, num_samples=2)
    packed = load(bb.deploy.pack(net, calibration=x, num_samples=3, activations="int16"))
    wanted = [*bb.prediction.posterior_outputs(net, x, 0), *bb.prediction.posterior_outputs(net, x, 3)]
    for sample, output in enumerate(wanted):
        np.testing.assert_allclose(packed.run(x.numpy(), sample), output, atol=0.01)
    scale = packed.program.ops[0].scale
    assert scale is not None
    assert len({row.tobytes() for row in scale}) == 4  # the mode, two draws, and the average for the third


def test_a_number_of_samples_may_come_from_numpy_and_must_be_whole() -> None:
    net = nn.Sequential(bb.BinaryLinear(8, 3))
    assert load(bb.deploy.pack(net, num_samples=np.int64(2), input_shape=(8,))).num_samples == 2  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"num_samples must be an integer, got 1\.5"):
        bb.deploy.pack(net, num_samples=1.5, input_shape=(8,))  # type: ignore[arg-type]


def test_bench_leaves_the_number_of_threads_alone() -> None:
    before = torch.get_num_threads()
    raw = bb.deploy.pack(nn.Sequential(bb.BinaryLinear(8, 3)), input_shape=(8,))
    bb.deploy.bench(bb.deploy.load_program(raw), threads=2, rounds=1)
    assert torch.get_num_threads() == before


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_prediction_that_overflows_is_refused() -> None:
    network = load(bb.deploy.pack(nn.Sequential(bb.BinaryLinear(6, 3)), input_shape=(6,)))
    with pytest.raises(ValueError, match="output overflows float32 on this input"):
        network.predict(np.full((1, 6), 3e38, np.float32))

"""The JavaScript module: bit for bit what the other engines compute, with and without SIMD, and errors that say why."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn.deploy.export_web import module
from tests.deploy.nets import NETWORKS, Sign, mlp, trained
from tests.deploy.reference import reference

NODE = shutil.which("node")
RUN = """
import { readFileSync, writeFileSync } from "node:fs";
import { load } from "./bayesbinn.mjs";
const { instructionSet, cases } = JSON.parse(readFileSync("cases.json"));
for (const name of cases) {
  const net = await load(readFileSync(`${name}.bbnn`), { instructionSet });
  const raw = readFileSync(`${name}.x`), x = new Float32Array(new Uint8Array(raw).buffer);
  writeFileSync(`${name}.y`, new Uint8Array(net.run(x, 0, 1 + net.numSamples).buffer));
  net.free();
}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if NODE is None:
        pytest.skip("needs node")
    folder = tmp_path_factory.mktemp("node")
    (folder / "bayesbinn.mjs").write_text(module())
    (folder / "run.mjs").write_text(RUN)
    return folder


def node(folder: Path, code: str) -> str:
    assert NODE is not None
    (folder / "code.mjs").write_text(code)
    done = subprocess.run([NODE, "code.mjs"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def contract() -> dict[str, tuple[bytes, torch.Tensor]]:
    """Every kind of operation, and sizes on both sides of the kernels' blocks."""
    cases = {}
    for activations in ("int8", "int16"):
        for make, shape in NETWORKS:
            raw = bb.deploy.pack(make(), num_samples=1, activations=activations, input_shape=shape)  # type: ignore[arg-type]
            cases[f"{make.__name__}-{activations}"] = raw, torch.randn(3, *shape)
    for size in (1, 33, 97):
        for first in ([], [Sign()]):
            net = trained(nn.Sequential(*first, nn.Conv2d(size, 33, 3, padding=1)))
            raw = bb.deploy.pack(net, input_shape=(size, 5, 4))
            cases[f"conv-{size}-{len(first)}"] = raw, torch.randn(2, size, 5, 4)
    net = trained(nn.Sequential(nn.Conv1d(4, 9, 5, 2), nn.BatchNorm1d(9), nn.ReLU()))
    cases["sequence"] = bb.deploy.pack(net, input_shape=(4, 30)), torch.randn(2, 4, 30)
    net = trained(nn.Sequential(nn.Linear(9001, 3)))
    cases["long"] = bb.deploy.pack(net, activations="int16"), torch.randn(2, 9001)
    return cases


@pytest.mark.parametrize("instruction_set", ["portable", "wasm"])
def test_node_is_bit_exact(folder: Path, instruction_set: str) -> None:
    cases = contract()
    for name, (raw, x) in cases.items():
        (folder / f"{name}.bbnn").write_bytes(raw)
        (folder / f"{name}.x").write_bytes(x.numpy().tobytes())
    (folder / "cases.json").write_text(json.dumps({"instructionSet": instruction_set, "cases": list(cases)}))
    node(folder, RUN)
    for name, (raw, x) in cases.items():
        program = bb.deploy.load_program(raw)
        found = np.fromfile(folder / f"{name}.y", np.float32).reshape(-1, len(x), *program.output_shape)
        assert len(found) == 1 + program.num_samples
        for sample, own in enumerate(found):
            assert np.array_equal(reference(program, x, sample).numpy(), own), name


def test_predictions_are_those_of_python(folder: Path) -> None:
    raw = bb.deploy.pack(mlp(), num_samples=5)
    (folder / "net.bbnn").write_bytes(raw)
    code = """
    import { readFileSync } from "node:fs"; import { load } from "./bayesbinn.mjs";
    const net = await load(readFileSync("net.bbnn")), x = new Float32Array(20).map((_, i) => i / 7 - 1);
    console.log(JSON.stringify([undefined, 0, 3].map((s) => net.predict(x, s))));
    """
    found = json.loads(node(folder, code))
    network = bb.runtime.load(raw)
    x = np.float32(np.arange(20) / 7 - 1)[None]
    for own, samples in zip(found, (None, 0, 3), strict=True):
        p = network.predict_uncertainty(x, samples)
        assert np.allclose(own["probs"], p.probs[0], atol=1e-12)
        assert own["label"] == p.labels[0]
        assert len(own["votes"]) == max(p.num_samples, 1)
        for mine, theirs in (
            ("entropy", p.entropy),
            ("expectedEntropy", p.expected_entropy),
            ("mutualInformation", p.mutual_information),
            ("variationRatio", p.variation_ratio),
        ):
            assert own[mine] == pytest.approx(theirs[0], abs=1e-12)


def test_wrong_input_is_told(folder: Path) -> None:
    raw = bb.deploy.pack(mlp(), num_samples=1)
    (folder / "net.bbnn").write_bytes(raw)
    code = """
    import { readFileSync } from "node:fs"; import { load } from "./bayesbinn.mjs";
    const raw = readFileSync("net.bbnn"), net = await load(raw), zeros = (n) => new Float32Array(n);
    const damaged = new Uint8Array(raw); damaged[damaged.length - 1] ^= 1;
    for (const bad of [
      () => net.run(zeros(19)), () => net.run(new Float64Array(20)), () => net.run(zeros(20), 2),
      () => net.predict(zeros(40)), () => net.run(zeros(20).fill(NaN)), () => load(raw.subarray(0, 50)),
      () => load(damaged), () => load(new Uint8Array(9)), () => net.predict(zeros(20), 9),
      () => load(raw, { instructionSet: "avx2" }), () => (net.free(), net.run(zeros(20))),
    ]) {
      try { await bad(); console.log("accepted"); } catch (error) { console.log(error.message); }
    }
    """
    told = node(folder, code).splitlines()
    wanted = ["multiple of 20", "Float32Array", "there are 0 to 1", "one input of 20", "NaN", "cut short", "damaged",
              "not a .bbnn", "there are 0 to 1", "portable, wasm", "freed"]  # fmt: skip
    assert len(told) == len(wanted)
    for line, part in zip(told, wanted, strict=True):
        assert part in line


def test_the_module_asks_for_nothing(folder: Path) -> None:
    """It imports no module and its WebAssembly no function: it can reach nothing but what it is given."""
    assert "import " not in module()
    code = """
    import { readFileSync } from "node:fs"; import { fromBase64, inflate } from "./bayesbinn.mjs";
    const text = readFileSync("bayesbinn.mjs", "utf8").match(/RUNTIME = "([^"]+)"/)[1];
    console.log(WebAssembly.Module.imports(new WebAssembly.Module(await inflate(fromBase64(text)))).length);
    """
    assert node(folder, code) == "0\n"

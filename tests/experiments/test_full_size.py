"""The script of the full-size networks, on tiny ones: every method, what is stored, and the step as a graph."""

import json
import sys
from pathlib import Path

import pytest
import torch

from bayesbinn.data import load_data, to_device
from experiments import full_size
from tests.runs import blobs_file

RECIPE = """
title = "tiny"
[settings]
data = "{data}"
device = "cpu"
width_multiplier = 0.03125
batch_size = 30
epochs = 2
curve_epochs = 1
samples = 2
{settings}
[runs.bayesbinn]
cool_every = 3
[runs.ste]
affine = false
output_scale = false
[runs.bayesbinn-2020]
[runs.float]
"""


def reproduce(folder: Path, monkeypatch: pytest.MonkeyPatch, settings: str = "") -> None:
    data = blobs_file(folder / "blobs.npz", shape=(3, 8, 8), train=200)
    (folder / "recipe.toml").write_text(RECIPE.format(data=data, settings=settings))
    words = ["--config", str(folder / "recipe.toml"), "--output", str(folder / "found.json"), "--jobs", "1"]
    monkeypatch.setattr(sys, "argv", ["full_size.py", *words])
    full_size.main()


def test_every_method_runs_once_and_says_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = 'validation = 0.2\nreport = "test"'
    reproduce(tmp_path, monkeypatch, settings)
    stored = (tmp_path / "found.json").read_bytes()
    runs = {r["settings"]["run"]: r for r in json.loads(stored)["runs"]}
    assert runs.keys() == {"bayesbinn", "ste", "bayesbinn-2020", "float"}
    for name, found in runs.items():
        assert [point["epoch"] for point in found["curve"]] == [1, 2]
        assert (found["mean"] is not None) == name.startswith("bayesbinn")
        assert found["mode"].keys() >= {"accuracy", "nll", "ece", "nll_scaled", "ece_scaled", "temperature"}
    assert "bayesbinn, seed 0: mode" in capsys.readouterr().out
    reproduce(tmp_path, monkeypatch, settings)
    assert capsys.readouterr().out == ""  # all is stored
    assert (tmp_path / "found.json").read_bytes() == stored


def test_a_setting_that_no_method_takes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="takes no color"):
        reproduce(tmp_path, monkeypatch, "color = 3")


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_step_leaves_the_gradients_of_a_plain_pass(tmp_path: Path, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    s = {**full_size.SHARED, **full_size.METHODS["bayesbinn"], "augment": "none", "batch_size": 32, "device": device}
    data = to_device(load_data(blobs_file(tmp_path / "blobs.npz", shape=(3, 8, 8))), torch.device(device))
    config = full_size.ModelConfig(model="vgg-small", width_multiplier=0.03125, dropout=0.0)
    net = full_size.build_model(config, data.input_shape, data.num_classes, data.mean, data.std).to(device)
    full_size.bb.nn.binarize_(net, binarizer=full_size.MeanWeight(), magnitude=0.3)
    step = full_size.Step(net, data.train, s)
    for first in (0, 32, 64):
        chosen = torch.arange(first, first + 32, device=device)
        step(chosen)
        found = [p.grad.clone() for p in net.parameters()]
        plain = full_size.Step.__new__(full_size.Step)
        plain.__dict__ = {**step.__dict__, "graph": None, "chosen": chosen, "losses": torch.zeros((), device=device)}
        grads = [p.grad for p in net.parameters()]
        plain(chosen)
        for own, p in zip(found, net.parameters(), strict=True):
            assert float((own - p.grad).norm()) <= 0.03 * float(p.grad.norm()) + 1e-6  # bfloat16, in any order
        for p, grad in zip(net.parameters(), grads, strict=True):
            p.grad = grad  # those of the graph
    assert float(step.losses) > 0

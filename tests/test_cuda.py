"""What trains, predicts and is packed on a CUDA device is what a CPU would say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bayesbinn as bb

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
TRAIN = (
    "train",
    "digits",
    "--model",
    "mlp",
    "--width",
    "64",
    "--epochs",
    "4",
    "--batch-size",
    "32",
    "--device",
    DEVICE,
)


def command(*words: str, launcher: tuple[str, ...] = ()) -> str:
    """What `bayesbinn WORDS` prints; by torch's launcher where that is given."""
    start = [w for module in (launcher, ("bayesbinn",)) if module for w in ("-m", *module)]
    done = subprocess.run([sys.executable, *start, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(16 * 16, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 5)),
    )


@pytest.mark.parametrize("num_samples", [0, 8, "moments"])
def test_a_network_predicts_as_on_the_cpu(num_samples: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    net, x = bb.nn.binarize_(network(), magnitude=0.5), torch.randn(200, 3, 8, 8)
    bb.calibrate_(net, x, num_samples=8)
    expected = bb.predict(net, x, num_samples).probs
    found = bb.predict(net.to(DEVICE), x, num_samples).probs
    assert found.device.type == DEVICE
    if num_samples == 8:  # torch's generators differ between devices, so these are other draws of the same posterior
        others = bb.predict(net.cpu(), x, num_samples, seed=1).probs
        assert float((found.cpu() - expected).abs().mean()) < 1.5 * float((others - expected).abs().mean())
    else:
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)


def test_fit_learns_on_cuda() -> None:
    torch.manual_seed(0)
    x = torch.randn(2000, 3, 8, 8)
    y = x.mean((2, 3)).argmax(1)
    with pytest.warns(UserWarning, match="no test part"):
        found = bb.fit(network(), (x, y), epochs=8, batch_size=50, device=DEVICE)
    probs = bb.predict(found.net, x, 8).probs
    assert float((probs.argmax(1).cpu() == y).float().mean()) > 0.8


def test_a_run_trained_on_cuda_is_evaluated_and_packed_on_a_cpu(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    command(*TRAIN, "--output", run)
    on = {
        device: json.loads(command("evaluate", run, "--device", device, "--json", "--no-report"))
        for device in ("cpu", DEVICE)
    }
    assert on["cpu"]["mode"]["accuracy"] > 0.8
    assert on[DEVICE]["mode"]["nll"] == pytest.approx(on["cpu"]["mode"]["nll"], rel=0.01)
    assert on[DEVICE]["mean"]["nll"] == pytest.approx(on["cpu"]["mean"]["nll"], rel=0.1)
    command("export", run, "--output", str(tmp_path / "run.bbnn"))  # which compares before it writes
    assert (tmp_path / "run.bbnn").stat().st_size > 0


def test_one_process_trains_over_nccl(tmp_path: Path) -> None:
    run = tmp_path / "run"
    command(*TRAIN, "--output", str(run), launcher=("torch.distributed.run", "--standalone", "--nproc-per-node", "1"))
    assert (run / "evaluation.json").exists()

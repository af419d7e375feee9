"""A network at a temperature predicts with its logits divided, in torch and in a file."""

from pathlib import Path

import pytest
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn.nn import Mixture, Temperature, at_temperature


def network(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3), nn.BatchNorm1d(3))
    return bb.calibrate_(bb.nn.binarize_(net, magnitude=0.8), torch.randn(200, 6), num_samples=4)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("num_samples", [0, 4])
def test_a_file_holds_the_networks_at_their_temperature(tmp_path: Path, mixed: bool, num_samples: int) -> None:
    net = Mixture([network(0), network(1)]) if mixed else network(0)
    x = torch.randn(50, 6)
    scaled = at_temperature(net, 2.5)
    outputs = [list(bb.prediction.posterior_outputs(of, x, num_samples)) for of in (net, scaled)]
    for raw, divided in zip(*outputs, strict=True):
        torch.testing.assert_close(raw / 2.5, divided)
    bb.deploy.save(scaled, tmp_path / "net.bbnn", num_samples=num_samples, activations="int16")
    packed = bb.runtime.load(tmp_path / "net.bbnn")
    found = packed.predict(x.numpy())
    torch.testing.assert_close(
        torch.from_numpy(found).float(), bb.predict(scaled, x, num_samples).probs, rtol=0, atol=2e-3
    )


def test_it_stays_in_training_or_out_of_it() -> None:
    assert not at_temperature(network(0).eval(), 2.0).training
    assert at_temperature(network(0).train(), 2.0).training


def test_no_temperature_of_zero() -> None:
    with pytest.raises(ValueError, match="temperature must be a finite number above 0, got 0"):
        Temperature(0.0)

"""A file of several posteriors: each network has its own bits and its own real numbers, in every engine."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn import deploy, runtime
from bayesbinn.deploy import UnsupportedError
from bayesbinn.nn import Mixture


class Net(nn.Module):
    """Binary and real layers, norms, a recurrent layer and a constant: everything that has real numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8)
        self.gru, self.layer_norm = nn.GRU(8, 6, batch_first=True), nn.LayerNorm(6)
        self.gain, self.head = nn.Parameter(torch.rand(6) + 0.5), nn.Linear(6, 4)
        self.real = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.norm(self.conv(x))).transpose(1, 2)
        return self.real(torch.relu(self.head(self.layer_norm(self.gru(y)[0]).mean(1) * self.gain)))


def member(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    net = bb.binarize_(Net(), exclude="real", quiet=True).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(p + 0.3 * torch.randn_like(p))
    return bb.calibrate_(net, torch.randn(64, 3, 10))


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    return Mixture([member(seed) for seed in range(3)])


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("activations", ["int8", "int16"])
def test_every_network_of_the_file_is_its_members(
    mixture: Mixture, tmp_path: Path, activations: str, calibrated: bool
) -> None:
    x = torch.randn(16, 3, 10, generator=torch.Generator().manual_seed(7))
    given = {"calibration": x} if calibrated else {"input_shape": (3, 10)}
    program = deploy.save(mixture, tmp_path / "net.bbnn", num_samples=5, seed=3, activations=activations, **given)
    assert program.num_samples == 5
    assert any(op.own for op in program.ops)
    outputs = runtime.load(tmp_path / "net.bbnn").run_samples(x.numpy())
    wanted = bb.prediction.posterior_outputs(mixture, x, 5, seed=3)
    off = [float((torch.from_numpy(a) - b).abs().max() / b.std()) for a, b in zip(outputs, wanted, strict=True)]
    assert max(off) < (0.2 if activations == "int8" else 0.02)


def test_a_predictions_mean_is_that_of_torch(mixture: Mixture, tmp_path: Path) -> None:
    deploy.save(mixture, tmp_path / "net.bbnn", num_samples=6, activations="int16", input_shape=(3, 10))
    x = torch.randn(8, 3, 10)
    found = runtime.load(tmp_path / "net.bbnn").predict(x.numpy())
    np.testing.assert_allclose(found, bb.predict(mixture, x, 6).probs, atol=0.01)


def test_members_that_are_alike_make_a_file_of_an_older_version(tmp_path: Path) -> None:
    net = member(0)
    for layer in (layer for _, layer in bb.nn.binary_layers(net)):
        layer.drawn = None
    raw = deploy.pack(Mixture([net, copy.deepcopy(net)]), num_samples=2, input_shape=(3, 10))
    assert not any(op.own for op in deploy.load_program(raw).ops)
    assert b'"version": 2' in raw or b'\\"version\\":2' in raw


def test_an_ensemble_without_a_posterior_is_packed_too(tmp_path: Path) -> None:
    nets = [
        bb.fit("mlp", "digits", method="ste", epochs=1, width=16, depth=1, samples=0, seed=seed).net for seed in (0, 1)
    ]
    program = deploy.save(Mixture(nets), tmp_path / "net.bbnn", num_samples=2, input_shape=(1, 8, 8))
    assert program.num_samples == 2
    x = 16 * torch.rand(5, 1, 8, 8)
    found = runtime.load(tmp_path / "net.bbnn").predict(x.numpy())
    wanted = sum(bb.predict(net, x, 0).probs for net in nets) / 2
    np.testing.assert_allclose(found, wanted, atol=0.03)


def test_members_of_several_kinds_are_refused(tmp_path: Path) -> None:
    other = bb.binarize_(nn.Sequential(nn.Flatten(), nn.Linear(30, 3)), quiet=True).eval()
    with pytest.raises(UnsupportedError, match="the members of the mixture"):
        deploy.pack(Mixture([member(0), other]), num_samples=2, input_shape=(3, 10))
    more = bb.binarize_(nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(30, 3)), quiet=True).eval()
    with pytest.raises(UnsupportedError, match="the members of the mixture"):
        deploy.pack(Mixture([other, more]), num_samples=2, input_shape=(3, 10))


def test_exports_of_one_network_take_the_last_member(mixture: Mixture, tmp_path: Path) -> None:
    net = Mixture(
        [bb.binarize_(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), quiet=True) for _ in range(2)]
    )
    whole = deploy.load_program(deploy.pack(net, num_samples=2, input_shape=(6,)))
    alone = deploy.load_program(deploy.pack(net.members[1], input_shape=(6,)))
    assert deploy.to_c(whole)["net.c"] == deploy.to_c(alone)["net.c"]

"""Few activation levels: ranges of least error, and mixes that keep their bound."""

import numpy as np
import pytest
import torch
from torch import nn

import bayesbinn as bb
from bayesbinn.deploy.mixing import difference
from bayesbinn.runtime import load
from tests.deploy.nets import trained


def sharp() -> nn.Module:
    """Two layers, the second of which reads a few very large values among many small ones."""
    torch.manual_seed(0)
    net = trained(nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5)))
    with torch.no_grad():
        net[0].scale[:2] *= 20  # type: ignore[index, operator]
    return net


def kinds(raw: bytes) -> list[str]:
    return [op.activation.kind for op in bb.deploy.load_program(raw).ops if op.activation is not None]


def test_calibration_for_few_levels_is_better_than_the_whole_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rare large values are cut, and the levels that this leaves to all others make the outputs more precise."""
    net, x = sharp(), torch.randn(512, 20)
    with torch.no_grad():
        wanted, read = net(x).numpy(), torch.relu(net[0](x))  # type: ignore[index, operator]

    def error(raw: bytes) -> float:
        return float(((load(raw).run(x.numpy()) - wanted) ** 2).mean())

    raw = bb.deploy.pack(net, activations="int6", calibration=x)
    second = bb.deploy.load_program(raw).ops[1].activation
    assert second is not None
    assert second.step is not None
    assert 62 * second.step < float(read.max())
    monkeypatch.setattr("bayesbinn.deploy.calibration.SHARES", (1.0,))
    assert error(raw) < 0.9 * error(bb.deploy.pack(net, activations="int6", calibration=x))


@pytest.mark.parametrize("max_loss", [1e-1, 1e-3, 1e-5])
def test_auto_keeps_its_bound_and_takes_no_more_levels_than_it_needs(max_loss: float) -> None:
    net, x = sharp(), torch.randn(256, 20)
    with torch.no_grad():
        wanted = net(x)
    raw = bb.deploy.pack(net, activations="auto", max_loss=max_loss, calibration=x)
    assert difference(load(raw).run(x.numpy()), wanted) <= max_loss
    raws = [bb.deploy.pack(net, activations=kind, calibration=x) for kind in ("int6", "int8")]  # type: ignore[arg-type]
    alone = [difference(load(made).run(x.numpy()), wanted) for made in raws]
    if alone[0] <= max_loss:
        assert kinds(raw) == ["int6", "int6"]
    if alone[1] <= max_loss < alone[0]:
        assert "int16" not in kinds(raw)
        assert "int8" in kinds(raw)


def test_auto_of_a_regression_and_of_several_samples() -> None:
    net = trained(nn.Sequential(nn.Linear(9, 33), nn.ReLU(), nn.Linear(33, 1)))
    x = torch.randn(128, 9)
    network = load(bb.deploy.pack(net, num_samples=2, activations="auto", max_loss=1e-2, calibration=x))
    with torch.no_grad():
        assert difference(network.run(x.numpy()), net(x)) <= 1e-2
    assert network.run_samples(x.numpy()).shape == (2, 128, 1)


def test_bounds_that_cannot_be_and_settings_that_do_not_fit_say_so() -> None:
    net, x = sharp(), torch.randn(64, 20)
    with pytest.raises(bb.deploy.UnsupportedError, match="max_loss is 1e-15, with int16 for every layer it is"):
        bb.deploy.pack(net, activations="auto", max_loss=1e-15, calibration=x)
    with pytest.raises(ValueError, match="needs calibration"):
        bb.deploy.pack(net, activations="auto")
    with pytest.raises(ValueError, match="max_loss is a positive number"):
        bb.deploy.pack(net, activations="int8", max_loss=0.1)
    with pytest.raises(ValueError, match="max_loss is a positive number"):
        bb.deploy.pack(net, activations="auto", max_loss=-1.0, calibration=x)


def test_the_difference_of_outputs() -> None:
    wanted = torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    assert difference(wanted.numpy() + np.float32(3), wanted) < 1e-12  # a constant changes no probability
    probs, others = wanted.softmax(-1), (2 * wanted).softmax(-1)
    expected = float((probs * (probs / others).log()).sum(-1).mean())
    assert difference(2 * wanted.numpy(), wanted) == pytest.approx(expected, rel=1e-6)
    assert difference(np.array([[1.0], [2.0]], np.float32), torch.tensor([[1.0], [3.0]])) == pytest.approx(0.5)

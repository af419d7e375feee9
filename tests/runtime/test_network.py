"""`bayesbinn.runtime`: light to import, strict about its input, the same with and without the compiled library."""

import warnings

import numpy as np
import pytest
import torch

import bayesbinn as bb
from bayesbinn import _native
from bayesbinn.runtime import Network, load
from bayesbinn.runtime.engine import summarize
from tests.deploy.nets import ENGINES, mlp, resnet


@pytest.fixture(scope="module")
def raw() -> bytes:
    torch.manual_seed(0)
    return bb.deploy.pack(mlp(), num_samples=3)


@pytest.fixture(params=ENGINES)
def network(request: pytest.FixtureRequest, raw: bytes, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setenv("BAYESBINN_ISA", request.param)
    return load(raw)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_input_that_is_not_finite(network: Network, bad: float) -> None:
    x = np.zeros((2, 20), np.float32)
    x[1, 7] = bad
    with pytest.raises(ValueError, match="NaN or inf"):
        network.run(x)
    with pytest.raises(ValueError, match="NaN or inf"):
        network.run(np.full((1, 20), 1e300))


def test_input_of_wrong_shape_or_dtype(network: Network) -> None:
    for shape in ((20,), (2, 21), (2, 20, 1), (0, 20)):
        with pytest.raises(ValueError, match="must have shape"):
            network.run(np.zeros(shape, np.float32))
    for x in (np.zeros((2, 20), complex), np.zeros((2, 20), object), np.full((2, 20), "1")):
        with pytest.raises(TypeError, match="real numbers"):
            network.run(x)
    for sample in (-1, 4):
        with pytest.raises(ValueError, match="sample"):
            network.run(np.zeros((1, 20)), sample)
    with pytest.raises(ValueError, match="num_samples"):
        network.run_samples(np.zeros((1, 20)), 4)


def test_input_in_other_layouts(network: Network) -> None:
    x = np.random.default_rng(0).normal(size=(4, 20)).astype(np.float32)
    expected = network.run(x)
    for other in (x.astype(np.float64), np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2], x.tolist()):
        assert np.array_equal(expected, network.run(other))


def test_predictions_in_c_are_those_of_numpy(network: Network) -> None:
    """Up to the last digits of exp and log."""
    x = 3 * np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    for num_samples in (0, 1, 2, 3):
        found = network.predict_uncertainty(x, num_samples)
        outputs = network.run_samples(x, num_samples) if num_samples else network.run(x)[None]
        expected = summarize(outputs.astype(np.float64))
        columns = (found.entropy, found.expected_entropy, found.mutual_information, found.variation_ratio)
        assert np.allclose(np.column_stack([found.probs, *columns]), expected, rtol=0, atol=1e-12)
        assert found.num_samples == num_samples
        assert np.array_equal(found.variation_ratio, expected[:, -1])


def test_predictions_are_probabilities(network: Network) -> None:
    x = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    p = network.predict_uncertainty(x)
    assert p.num_samples == 3
    assert np.allclose(p.probs.sum(1), 1)
    assert (p.mutual_information >= 0).all()
    assert (p.entropy >= p.mutual_information).all()
    assert np.array_equal(p.labels, network.predict(x).argmax(1))
    assert (network.predict_uncertainty(x, 0).mutual_information == 0).all()


def test_batches_and_threads_do_not_change_results(network: Network, raw: bytes) -> None:
    x = np.random.default_rng(0).normal(size=(130, 20)).astype(np.float32)
    whole = network.run(x, 1)
    assert np.array_equal(whole, np.concatenate([network.run(row[None], 1) for row in x]))
    assert np.array_equal(whole, load(raw, threads=3).run(x, 1))
    with pytest.raises(ValueError, match="threads"):
        load(raw, threads=0)


def test_unknown_instruction_set(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    if not _native.instruction_sets():
        pytest.skip("no compiled library")
    monkeypatch.setenv("BAYESBINN_ISA", "mmx")
    with pytest.raises(ValueError, match="this machine can run portable"):
        load(raw)


def test_without_the_library(raw: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same results from numpy, and one warning."""
    x = np.random.default_rng(0).normal(size=(3, 20)).astype(np.float32)
    expected = load(raw).run(x)
    monkeypatch.setattr(_native, "_open", lambda: None)
    monkeypatch.setattr("bayesbinn.runtime.engine._told", False)
    monkeypatch.delenv("BAYESBINN_ISA", raising=False)
    with pytest.warns(UserWarning, match="numpy runs the same network"):
        network = load(raw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(raw)
    assert network.engine == "numpy"
    assert np.array_equal(expected, network.run(x))
    assert _native.instruction_sets() == []


def test_images_come_out_as_torch_has_them() -> None:
    net = torch.nn.Sequential(*list(resnet())[:7])
    x = torch.randn(2, 3, 12, 12)
    out = load(bb.deploy.pack(net, activations="int16", input_shape=(3, 12, 12))).run(x.numpy())
    assert np.allclose(out, net(x).detach().numpy(), atol=1e-2)

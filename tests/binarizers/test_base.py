"""What all binarizers share: a row per binarizer; the gradient rule of each is in the neighbouring files."""

import copy
import pickle

import pytest
import torch

from bayesbinn import bernoulli
from bayesbinn.binarizers import Binarizer, Concrete, Reference2020, SignSTE, StraightThroughSample

BINARIZERS = [StraightThroughSample(), Concrete(1.0), Concrete(0.1), Reference2020(1e-2), SignSTE()]
DRAWING = [StraightThroughSample, Concrete, Reference2020]
everyone = pytest.mark.parametrize("binarizer", BINARIZERS, ids=repr)


@everyone
def test_weight_keeps_shape_dtype_and_graph(binarizer):
    for dtype in (torch.float32, torch.float64):
        natural = torch.randn(3, 4, dtype=dtype, requires_grad=True)
        weight = binarizer.binarize(natural)
        assert (weight.shape, weight.dtype) == (natural.shape, dtype)
        assert weight.abs().max() <= 1
        weight.sum().backward()
        assert natural.grad.dtype == dtype
        assert natural.grad.isfinite().all()


@everyone
def test_lambda_is_not_changed(binarizer):
    natural = torch.randn(50, requires_grad=True)
    before = natural.detach().clone()
    (binarizer.binarize(natural) * torch.randn(50)).sum().backward()
    assert torch.equal(natural, before)


@everyone
def test_call_applies_the_operation_to_the_weight(binarizer):
    natural, x = torch.randn(3, 4, requires_grad=True), torch.randn(2, 4)
    torch.manual_seed(1)
    expected = x @ binarizer.binarize(natural).T
    torch.manual_seed(1)
    assert torch.equal(binarizer(lambda x, weight: x @ weight.T, x, natural), expected)


@everyone
def test_no_gradient_wanted_none_recorded(binarizer):
    assert not binarizer.binarize(torch.randn(3)).requires_grad
    with torch.no_grad():
        assert not binarizer.binarize(torch.randn(3, requires_grad=True)).requires_grad


@everyone
def test_equality_copy_and_pickle(binarizer):
    for twin in (copy.deepcopy(binarizer), pickle.loads(pickle.dumps(binarizer))):
        assert twin == binarizer
        assert twin is not binarizer
    assert [b == binarizer for b in BINARIZERS].count(True) == 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(binarizer)


def test_repr_is_the_call_that_makes_it():
    for binarizer in BINARIZERS:
        assert eval(repr(binarizer)) == binarizer
    assert repr(Concrete(0.5, generator=torch.Generator())) == "Concrete(temperature=0.5)"


@pytest.mark.parametrize("kind", DRAWING)
def test_generator_is_the_only_source_of_randomness(kind):
    natural = torch.zeros(200)
    global_state = torch.get_rng_state()
    first, second, other = (kind(generator=torch.Generator().manual_seed(s)).binarize(natural) for s in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), global_state)


@pytest.mark.parametrize("kind", DRAWING)
def test_a_generator_survives_copy_and_pickle_with_its_state(kind):
    binarizer = kind(generator=torch.Generator().manual_seed(5))
    binarizer.binarize(torch.zeros(10))
    twins = [copy.deepcopy(binarizer), pickle.loads(pickle.dumps(binarizer))]
    expected = binarizer.binarize(torch.zeros(100))
    for twin in twins:
        assert torch.equal(twin.binarize(torch.zeros(100)), expected)


@pytest.mark.parametrize("kind", DRAWING)
def test_injected_noise_replaces_the_draw(kind):
    natural, noise = torch.randn(100), bernoulli.logistic_noise(torch.zeros(100))
    binarizer = kind()
    assert torch.equal(binarizer.binarize(natural, noise=noise), binarizer.binarize(natural, noise=noise))
    assert torch.equal(bernoulli.sign(binarizer.binarize(natural, noise=noise)), bernoulli.sample(natural, noise))
    assert not torch.equal(binarizer.binarize(natural, noise=-noise), binarizer.binarize(natural, noise=noise))


@pytest.mark.parametrize("kind", [Concrete, Reference2020])
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_bad_temperature_is_refused(kind, temperature):
    with pytest.raises(ValueError, match=f"temperature must be a finite number above 0, got {temperature}"):
        kind(temperature)


def test_which_have_a_posterior():
    assert [b.has_posterior for b in BINARIZERS] == [True, True, True, True, False]


def test_the_base_class_asks_for_binarize():
    with pytest.raises(NotImplementedError):
        Binarizer().binarize(torch.zeros(1))

"""What the report draws: histograms over the range that their numbers have."""

import math

import pytest
import torch
from torch import nn

from bayesbinn import binarize_, predict
from bayesbinn.evaluation.figures import entropy_histograms, natural_histograms, network_size
from bayesbinn.nn import binary_layers


def sure(logit):
    """Predictions of two classes, as sure as the logit is large."""
    return predict(nn.Identity(), torch.tensor([[0.0, logit], [0.0, 2 * logit]]), 0)


def test_entropies_share_the_edges_of_the_largest_one_found():
    found = entropy_histograms({"in": sure(6.0), "outside": sure(3.0)})
    inputs, largest = found["inputs"], float(sure(3.0).entropy.max())
    assert (found["edges"][0], found["edges"][-1]) == (0, pytest.approx(largest))
    assert largest < 0.2 < math.log(2)  # from 0 to log C, three quarters would be empty
    assert inputs["outside"]["share"][-1] == 0.5  # the last bin holds its upper edge
    assert [sum(of["share"]) for of in inputs.values()] == pytest.approx([1, 1])
    assert inputs["in"]["mean"] < inputs["outside"]["mean"]
    assert found["largest"] == pytest.approx(math.log(2))


def test_entropies_that_are_all_zero_have_the_whole_range():
    found = entropy_histograms({"in": sure(1000.0)})
    assert found["edges"][-1] == pytest.approx(math.log(2))
    assert found["inputs"]["in"]["share"][0] == 1


@pytest.mark.parametrize(("scale", "limit"), [(0.01, 0.01), (0.0, 1.0), (100.0, 100.0)])
def test_the_histogram_of_a_layer_reaches_as_far_as_its_naturals(scale, limit):
    net = binarize_(nn.Sequential(nn.Linear(20, 10)))
    _, layer = next(iter(binary_layers(net)))
    layer.natural.data = scale * torch.linspace(-1, 1, layer.natural.numel()).reshape(layer.natural.shape)
    (found,) = natural_histograms(net)
    assert found["edges"][-1] == -found["edges"][0] == pytest.approx(limit, rel=0.02)
    assert sum(found["share"]) == pytest.approx(1)  # what lies beyond is in the outer bins
    assert found["num_weights"] == 200


def test_a_network_without_a_posterior_has_no_histogram_and_a_size():
    assert natural_histograms(nn.Linear(2, 2)) == []
    size = network_size(binarize_(nn.Sequential(nn.Linear(9, 1))), copies=2)
    assert size == {"binary_weights": 18, "real_parameters": 4, "bytes_as_bits": 20, "bytes_as_float32": 80}

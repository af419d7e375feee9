"""Temperature scaling finds the temperature that was taken away."""

import pytest
import torch

from bayesbinn import metrics


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_it_recovers_a_known_temperature_and_lowers_the_nll(temperature):
    logits = 2 * torch.randn(20_000, 5)
    labels = torch.multinomial(logits.softmax(-1), 1)[:, 0]  # honest at temperature 1
    probs = (logits / temperature).softmax(-1)  # too sure (or not enough)
    found = metrics.fit_temperature(probs, labels)
    assert found == pytest.approx(1 / temperature, rel=0.05)
    scaled = metrics.scale_probs(probs, found)
    assert metrics.nll(scaled, labels) <= metrics.nll(probs, labels) + 1e-9
    assert metrics.ece(scaled, labels) < 0.015
    assert (scaled.argmax(-1) == probs.argmax(-1)).all()


def test_of_several_networks_it_is_of_the_mean_and_of_one_the_same():
    logits = 2 * torch.randn(3, 5_000, 4)
    honest = logits.softmax(-1).mean(0)
    labels = torch.multinomial(honest, 1)[:, 0]
    sure = (logits / 0.4).softmax(-1)
    found = metrics.fit_temperature(sure, labels)
    assert found == pytest.approx(1 / 0.4, rel=0.07)
    costs = [metrics.nll(metrics.scale_probs(sure, t).mean(0), labels) for t in (0.97 * found, found, 1.03 * found)]
    assert min(costs) == costs[1]
    one = metrics.fit_temperature(sure[:1], labels)
    assert one == metrics.fit_temperature(sure[0], labels)
    assert metrics.fit_temperature(torch.cat([sure[:1], sure[:1]]), labels) == pytest.approx(one, rel=1e-3)


def test_it_stays_in_its_range_where_every_answer_is_right():
    probs, labels = torch.tensor([[0.6, 0.4]]), torch.tensor([0])
    assert metrics.fit_temperature(probs, labels) == pytest.approx(0.05)


def test_bad_input():
    with pytest.raises(ValueError, match="at least one labelled"):
        metrics.fit_temperature(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    with pytest.raises(ValueError, match="temperature must be a finite number above 0, got 0"):
        metrics.scale_probs(torch.tensor([[0.5, 0.5]]), 0)


def test_classes_that_are_nearly_tied_keep_their_order():
    probs = torch.tensor([[0.49999997, 0.50000003]])  # at T = 20 equal in float32
    assert metrics.scale_probs(probs, 20.0).argmax() == probs.argmax() == 1

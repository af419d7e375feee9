"""Evaluation of real, small networks: every number against the library's own parts, and the cases without a number."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from bayesbinn import binarize_, metrics, predict
from bayesbinn.binarizers import SignSTE
from bayesbinn.data import Examples, load_data
from bayesbinn.errors import UserError
from bayesbinn.evaluation import scores
from bayesbinn.evaluation.ood import ood_inputs
from bayesbinn.evaluation.scores import evaluate, evaluate_voters
from bayesbinn.evaluation.voters import make_voters
from bayesbinn.training.models import Normalize
from tests.runs import blobs_file

# evaluation measures a network as it is, calibrated or not
pytestmark = pytest.mark.filterwarnings("ignore:batch norm has the statistics of training")


def network(seed=0, **options):
    torch.manual_seed(seed)
    layers = [nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 10)]
    net = nn.Sequential(Normalize(torch.zeros(1), torch.ones(1), 4), nn.Flatten(), *layers)
    binarize_(net, init="zeros", **options).train()
    for _ in range(20):
        net(load_data("digits").train.x[:200].float())
    return net.eval()


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", validation=0.2)


def test_every_number_and_the_curve_in_one_pass(digits):
    net, split = network(), digits.test
    noise, _ = ood_inputs("noise", digits)
    result = evaluate_voters(make_voters([net], 6), split, ood={"noise": noise}, corruptions=True)
    assert [p["samples"] for p in result["curve"]] == [0, 1, 2, 4, 6]
    for point in result["curve"]:
        probs = predict(net, split.x, point["samples"]).probs
        assert point["nll"] == pytest.approx(metrics.nll(probs, split.y), rel=1e-5)
        assert point["accuracy"] == metrics.accuracy(probs, split.y)
    for name, count in (("mode", 0), ("mean", 6)):
        inside, outside = predict(net, split.x, count), predict(net, noise, count)
        assert result[name]["brier"] == pytest.approx(metrics.brier(inside.probs, split.y), rel=1e-5)
        found = result["ood"]["noise"][name]
        assert found["entropy"]["auroc"] == pytest.approx(metrics.auroc(inside.entropy, outside.entropy), abs=1e-4)
        assert ("mutual_information" in found) == (count > 0)  # one network disagrees with nobody
    assert {kind: len(points) for kind, points in result["corruptions"].items()} == {
        "noise": 6,
        "blur": 6,
        "rotation": 6,
    }
    assert result["corruptions"]["noise"][0]["nll"] == pytest.approx(result["mean"]["nll"], rel=1e-5)
    assert json.loads(json.dumps(result)) == result  # plain numbers, for machines
    assert sum(result["figures"]["entropy"]["inputs"]["noise"]["share"]) == pytest.approx(1, abs=1e-5)


def test_corruptions_are_of_examples_from_everywhere_in_the_file(digits, monkeypatch):
    monkeypatch.setattr(scores, "CORRUPTED", 60)
    order = digits.test.y.argsort()
    in_turn = Examples(digits.test.x[order], digits.test.y[order])
    seen = []
    net = network()
    monkeypatch.setattr(scores, "corrupt", lambda x, *_: seen.append(x) or x.float())
    result = evaluate_voters(make_voters([net], 0), in_turn, corruptions=True)
    assert result["corruptions"]["noise"][5]["num_examples"] == len(seen[0]) == 60
    labels = {int(y) for x in seen[0] for y in in_turn.y[(in_turn.x == x).flatten(1).all(1)]}
    assert labels == set(range(10))
    assert torch.equal(seen[0], seen[-1])


def test_a_network_without_a_posterior_has_a_mode_only(digits):
    start = Normalize(torch.zeros(1), torch.ones(1), 4)
    for net in (network(binarizer=SignSTE()), nn.Sequential(start, nn.Flatten(), nn.Linear(64, 10))):
        result = evaluate(net, digits.test, num_samples=32)
        assert (result["num_samples"], result["mean"], result["posterior"]) == (0, None, None)
        assert len(result["curve"]) == 1
        assert result["mode"]["nll"] > 0


def test_no_samples_is_the_mode_and_fewer_is_refused(digits):
    result = evaluate(network(), digits.test, num_samples=0)
    assert (result["num_samples"], result["mean"]) == (0, None)
    with pytest.raises(UserError, match="samples must be at least 0"):
        evaluate(network(), digits.test, num_samples=-1)


def test_an_ensemble_and_dropout_through_the_same_evaluation(digits):
    nets = [network(seed, binarizer=SignSTE()) for seed in (1, 2, 3)]
    together = evaluate_voters(make_voters(nets, 32), digits.test)
    assert together["num_samples"] == 3
    mean = sum(predict(net, digits.test.x, 0).probs for net in nets) / 3
    assert together["mean"]["nll"] == pytest.approx(metrics.nll(mean, digits.test.y), rel=1e-5)
    masks = evaluate_voters(make_voters(nets[:1], 4, "dropout"), digits.test)
    assert masks["num_samples"] == 4
    assert masks["mean"]["nll"] != masks["mode"]["nll"]
    assert masks["posterior"] is None


def test_the_temperature_is_fitted_on_held_out_examples(digits):
    scaled = evaluate_voters(make_voters([network()], 4), digits.test, held_out=digits.validation)
    assert scaled["scaled"]["num_held_out"] == len(digits.validation)
    assert scaled["scaled"]["nll"] < scaled["mean"]["nll"]  # an untrained network is far too sure


def test_voters_that_cannot_be():
    net, plain = network(), nn.Linear(4, 3)
    for nets, kind, message in (
        ([net, net], "dropout", "takes one RUN, got 2"),
        ([net], "ensemble", "needs at least two RUNs, got 1"),
        ([plain], "dropout", "trained with dropout"),
    ):
        with pytest.raises(UserError, match=message):
            make_voters(nets, 4, kind)
    with pytest.raises(UserError, match="not for dropout masks"):
        make_voters([net], 4, "dropout", calibration=torch.zeros(4, 1, 8, 8))


def test_out_of_distribution_inputs_that_do_not_fit(digits, tmp_path):
    with pytest.raises(UserError, match=r"has inputs of shape \(8,\), the network takes \(1, 8, 8\): choose another"):
        ood_inputs(blobs_file(tmp_path / "vectors.npz"), digits)
    with pytest.raises(UserError, match="x_test is empty"):
        ood_inputs(blobs_file(tmp_path / "empty.npz", shape=(8, 8), test=0), digits)
    with pytest.raises(UserError, match="digits is what the run is evaluated on"):
        ood_inputs("digits", digits)
    same = {f"{part}_{which}": getattr(getattr(digits, which), part) for which in ("train", "test") for part in "xy"}
    np.savez(tmp_path / "copy.npz", **same)
    with pytest.raises(UserError, match=r"copy\.npz is what the run is evaluated on, digits: give --ood another"):
        ood_inputs(f"npz:{tmp_path}/copy.npz", digits)
    (tmp_path / "turned.csv").write_text("b,a,label\n" + "1,2,0\n3,4,1\n" * 9)
    (tmp_path / "table.csv").write_text("a,b,label\n" + "1,2,0\n3,4,1\n" * 9)
    table = load_data(f"csv:{tmp_path}/table.csv")
    with pytest.raises(UserError, match=r"turned\.csv has 'b' as column 1, training has 'a' there"):
        ood_inputs(f"csv:{tmp_path}/turned.csv", table)
    (tmp_path / "more.csv").write_text("a,b,label\n" + "1,2,0\n3,5,1\n" * 9)
    _, notes = ood_inputs(f"csv:{tmp_path}/more.csv", table)
    assert "more.csv has no test part: " in notes[0]
    noise, _ = ood_inputs("noise", digits)
    assert noise.shape == digits.test.x.shape
    assert (float(noise.min()), float(noise.max())) == pytest.approx((0, 16), abs=0.01)


def test_a_network_that_answers_nan_gets_no_number(digits):
    net = network()
    net[3].running_var.fill_(float("nan"))
    with pytest.raises(UserError, match="mode prediction is not finite"):
        evaluate(net, Examples(digits.test.x, digits.test.y))

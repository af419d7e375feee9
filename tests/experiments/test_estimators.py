"""The numbers of experiments/estimators.py, against slow twins and against theory."""

import json
import re

import pytest
import torch

from bayesbinn.binarizers import ReinMax, StraightThroughSample
from experiments import estimators
from experiments.estimators import DISARM, Problem, moments
from tests.enumeration import exact_gradient


@pytest.fixture(scope="module")
def problem():
    return Problem(seed=3, activation="tanh")


def test_exact_gradient_is_the_enumerated_one(problem):
    natural = problem.signs * 0.7
    slow = exact_gradient(lambda weight: problem.loss(weight[None], estimators._op)[0], natural)
    torch.testing.assert_close(problem.exact(natural), slow)


@pytest.mark.parametrize("magnitude", [0.0, 0.7, 5.0])
def test_disarm_is_exactly_unbiased(problem, magnitude):
    mean, variance, _ = moments(problem, DISARM, magnitude, draws=0)
    torch.testing.assert_close(mean, problem.exact(problem.signs * magnitude), rtol=1e-9, atol=1e-12)
    assert variance > 0


@pytest.mark.parametrize("binarizer", [StraightThroughSample(), ReinMax()])
def test_exact_moments_are_those_of_many_draws(problem, binarizer):
    natural = problem.signs * 0.7
    mean, variance, _ = moments(problem, binarizer, 0.7, draws=0)
    sampled = problem.estimates(binarizer, natural.expand(20_000, -1))
    error = (sampled.mean(0) - mean) / (sampled.std(0) / len(sampled) ** 0.5)
    assert error.abs().max() < 4.5
    assert float(sampled.var(0).sum()) == pytest.approx(variance, rel=0.1)


def test_the_page_is_made_from_the_stored_results():
    stored = json.loads(estimators.RESULTS.read_text(encoding="utf-8"))
    assert estimators.TABLE.read_text(encoding="utf-8") == estimators.table(stored)


def test_a_small_run_gives_a_table_and_a_figure(tmp_path):
    results = estimators.measure(problems=1, draws=10_000, magnitudes=(0.5, 6.0), repetitions=1, features=8, batch=4)
    page = estimators.table(json.loads(json.dumps(results)))
    assert all(f"| `{name}` |" in page for name in results["quality"]["tanh"])
    rows = [line for line in page.splitlines() if line.startswith("| `disarm_loss` | 0 / ")]
    assert len(rows) == 2  # unbiased for both activations
    pytest.importorskip("matplotlib")
    estimators.figure(results, tmp_path / "figures")
    assert {file.name for file in (tmp_path / "figures").glob("*.svg")} == set(re.findall(r"figures/(.*\.svg)", page))
    names = (tmp_path / "figures" / "estimators-names.svg").read_text(encoding="utf-8")
    assert all(f">{name}</text>" in names for name in results["quality"]["tanh"])

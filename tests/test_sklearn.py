"""The estimators keep scikit-learn's contract, learn, say how sure they are, and go on learning."""

import pickle
import re
import subprocess
import sys

import numpy as np
import pandas
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits, load_wine, make_moons
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from bayesbinn.sklearn import BinaryClassifier, BinaryRegressor, schedule_of

QUICK = {"width": 16, "depth": 1, "epochs": 40, "batch_size": 64, "num_samples": 4, "dropout": 0.0, "random_state": 0}


@parametrize_with_checks([BinaryClassifier(**QUICK), BinaryRegressor(**QUICK)])
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([BinaryClassifier(), BinaryRegressor()])
def test_scikit_learns_own_checks_of_the_defaults(estimator, check):
    check(estimator)


def test_classes_with_names_in_a_pipeline_over_a_frame():
    rng = np.random.default_rng(0)
    frame = pandas.DataFrame({"size": rng.normal(5, 2, 300), "town": rng.choice(["Bern", "Chur"], 300)})
    y = np.where(frame["size"] + 2.0 * (frame["town"] == "Bern") > 6, "dear", "cheap")
    columns = make_column_transformer((StandardScaler(), ["size"]), (OneHotEncoder(), ["town"]))
    model = make_pipeline(columns, BinaryClassifier(**QUICK)).fit(frame[:200], y[:200])
    assert model.score(frame[200:], y[200:]) > 0.85
    assert model[-1].classes_.tolist() == ["cheap", "dear"]
    named = BinaryClassifier(**QUICK).fit(frame[["size"]], y)
    assert named.feature_names_in_.tolist() == ["size"]
    with pytest.raises(ValueError, match="feature names"):
        named.predict(frame[["size"]].rename(columns={"size": "length"}))


def test_a_grid_search_finds_what_is_better():
    x, y = make_moons(200, noise=0.1, random_state=0)
    search = GridSearchCV(BinaryClassifier(**QUICK), {"width": [1, 32]}, cv=2).fit(x, y)
    assert search.best_params_ == {"width": 32}
    assert search.best_score_ > 0.85


def test_the_regressor_knows_the_noise_and_where_it_knows_nothing():
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (400, 1))
    y = 1e6 + 1000 * (np.sin(2 * x[:, 0]) + 0.2 * rng.normal(size=400))
    model = BinaryRegressor(random_state=0, dropout=0.0).fit(x, y)
    mean, std = model.predict(x, return_std=True)
    assert np.sqrt(np.mean((mean - y) ** 2)) < 450  # of 720 that y varies
    within = np.abs(y - mean) < 1.645 * std
    assert within.mean() > 0.85
    assert 150 < std.min() <= std.mean() < 720
    np.testing.assert_array_equal(model.predict(x), mean)


def test_a_pickle_predicts_the_same_and_the_same_seed_is_the_same_network(tmp_path):
    x, y = load_wine(return_X_y=True)
    before = torch.random.get_rng_state()
    model = BinaryClassifier(**QUICK).fit(x, y)
    again = clone(model).fit(x, y)
    assert torch.equal(torch.random.get_rng_state(), before)
    probs = model.predict_proba(x)
    np.testing.assert_array_equal(again.predict_proba(x), probs)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict_proba(x), probs)
    other = clone(model).set_params(random_state=1).fit(x, y)
    assert np.abs(other.predict_proba(x) - probs).max() > 0.01
    (tmp_path / "m.pkl").write_bytes(pickle.dumps((model, x, probs)))
    code = "import pickle, sys, numpy as np; m, x, p = pickle.load(open(sys.argv[1], 'rb'));"
    code += "print(np.abs(m.predict_proba(x) - p).max() < 1e-9)"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "m.pkl")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"


def test_chunk_after_chunk_the_posterior_is_the_prior():
    x, y = load_digits(return_X_y=True)
    x, x_test, y, y_test = train_test_split(x, y, random_state=0)
    parts = [np.flatnonzero(y < 5), np.flatnonzero(y >= 5)]
    settings = {**QUICK, "width": 64}
    model = BinaryClassifier(**settings).partial_fit(x[parts[0]], y[parts[0]], classes=range(10))
    low = y_test < 5
    first = model.score(x_test[low], y_test[low])
    natural = next(m for m in model.network_.modules() if hasattr(m, "natural")).natural.clone()
    real = [p.clone() for name, p in model.network_.named_parameters() if "natural" not in name]
    half = len(y) // 2
    chunks = BinaryClassifier(**settings).partial_fit(x[:half], y[:half])
    alone = chunks.score(x_test, y_test)
    assert chunks.partial_fit(x[half:], y[half:]).score(x_test, y_test) > alone - 0.01 > 0.85
    model.partial_fit(x[parts[1]], y[parts[1]])
    assert first > 0.9
    assert not torch.equal(next(m for m in model.network_.modules() if hasattr(m, "natural")).natural, natural)
    now = [p for name, p in model.network_.named_parameters() if "natural" not in name]
    assert all(torch.equal(a, b) for a, b in zip(real, now, strict=True))
    with pytest.raises(ValueError, match=r"y holds class .*11.*, the first call had \[0, 1, .*give all classes= there"):
        model.partial_fit(x[:4], [11, 1, 2, 3])


def test_epochs_and_batches_come_from_the_number_of_examples():
    for num_data in (20, 100, 5_000, 100_000):
        epochs, size = schedule_of(num_data)
        assert 2 <= size <= min(num_data, 256)
        assert epochs * (num_data // size) >= 100
    assert schedule_of(100, 7, 50) == (7, 50)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3))
    model = BinaryClassifier(random_state=0).fit(x, x[:, 0] > 0)
    assert model.n_iter_ == 100
    assert model.score(x, x[:, 0] > 0) > 0.9


@pytest.mark.parametrize("kind", [BinaryClassifier, BinaryRegressor])
def test_what_is_refused(kind):
    x, y = np.eye(4), [0, 1, 0, 1]
    with pytest.raises(TypeError, match="sample_weight"):
        kind().fit(x, y, sample_weight=[1, 1, 2, 2])
    with pytest.raises(ValueError, match="NaN"):
        kind(**QUICK).fit(x * np.nan, y)
    with pytest.raises(ValueError, match="1 class only"):
        BinaryClassifier().fit(x, [3, 3, 3, 3])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"epochs": -1}, "epochs must be at least 1, got -1"),
        ({"epochs": 2.5}, "epochs must be a whole number, got 2.5"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": "all"}, "batch_size must be a whole number, got 'all'"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"num_samples": True}, "num_samples must be a whole number, got True"),
        ({"kl_weight": -1}, "kl_weight must be above 0, got -1"),
        ({"cooling": 0}, "cooling must be at least 1, got 0"),
        ({"dropout": 1.0}, "dropout must be at most 0.99, got 1.0"),
        ({"lr": float("nan")}, "lr must be at least 0, got nan"),
        ({"lr": float("inf")}, "lr must be at most 1000000000, got inf"),
    ],
)
@pytest.mark.parametrize("kind", [BinaryClassifier, BinaryRegressor])
def test_a_setting_out_of_its_range_is_refused(kind, setting, message):
    x = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match=re.escape(message)):
        kind(**setting).fit(x, x[:, 0] > 0)
    assert not hasattr(kind(**setting), "network_")


def test_what_a_one_hot_encoder_makes_is_learned():
    x = np.array([["a", "x"], ["b", "y"], ["a", "y"], ["b", "x"]] * 20)
    pipe = make_pipeline(OneHotEncoder(), BinaryClassifier(width=16, depth=1, epochs=30, random_state=0))
    assert pipe.fit(x, x[:, 0]).score(x, x[:, 0]) == 1


def test_numbers_of_numpy_are_settings_too():
    x = np.random.default_rng(0).normal(size=(40, 2))
    setting = {"width": np.int64(8), "epochs": np.int32(2), "lr": np.float32(0.5), "random_state": 0}
    assert BinaryClassifier(**setting).fit(x, x[:, 0] > 0).n_iter_ == 2

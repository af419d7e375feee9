"""What a file says of its network: kept, checked, and used."""

import numpy as np
import pytest
import torch
from torch import nn

from bayesbinn import deploy, runtime
from bayesbinn.nn import Gaussian, binarize_
from bayesbinn.runtime import About, FormatError
from bayesbinn.runtime.about import check_about, input_text

COLUMN = {"name": "a", "kind": "number", "fill": 0.0, "missing": True, "mean": 1.0, "std": 2.0}


def test_a_file_keeps_it():
    net = binarize_(nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2)))
    about = About(target="y", classes=("no", "yes"), columns=(COLUMN,))
    raw = deploy.pack(net, input_shape=(2,), about=about)
    loaded = runtime.load(raw)
    assert loaded.about == about
    np.testing.assert_array_equal(loaded.prepare({"a": [3, None]}), [[1, 0], [-0.5, 1]])
    plain = runtime.load(deploy.pack(net, input_shape=(2,)))
    assert plain.about == About()
    with pytest.raises(ValueError, match="not trained on a table of columns"):
        plain.prepare({"a": [3]})
    two = About(columns=({**COLUMN, "missing": False}, {**COLUMN, "name": "b", "missing": False}))
    known = runtime.load(deploy.pack(net, input_shape=(2,), about=two))
    with pytest.warns(UserWarning, match="column 'a'"):
        known.prepare({"a": [None], "b": [1]})


def test_a_regression_is_in_the_targets_units():
    net = binarize_(
        nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 1), Gaussian(500.0, 20.0))
    )
    about = About(task="regression", noise=5.0)
    loaded = runtime.load(deploy.pack(net.eval(), input_shape=(3,), activations="int16", num_samples=2, about=about))
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    p = loaded.predict_regression(x)
    with torch.no_grad():
        mode = net(torch.from_numpy(x))[:, 0].numpy()
    np.testing.assert_allclose(loaded.predict_regression(x, 0).mean, mode, rtol=1e-3)
    np.testing.assert_allclose(p.total, np.sqrt(p.std**2 + 25))
    assert p.mean.shape == (6,)
    classes = runtime.load(deploy.pack(nn.Sequential(*net[:3], nn.Linear(8, 2)).eval(), input_shape=(3,)))
    with pytest.raises(ValueError, match="trained for classification: use predict"):
        classes.predict_regression(x)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "'about' must be an object"),
        ({"colour": 1}, "'about' must be an object"),
        ({"task": "ranking"}, "task is 'ranking'"),
        ({"task": ["regression"]}, "task is"),
        ({"task": "regression"}, "do not fit an output of shape"),
        ({"classes": ["a"]}, "1 classes and task classification do not fit"),
        ({"classes": "ab"}, "classes a list of texts"),
        ({"noise": -1.0}, "noise must be a finite number"),
        ({"noise": True}, "noise must be a finite number"),
        ({"columns": {}}, "columns must be a list"),
        ({"columns": [COLUMN]}, r"the columns make 2 numbers, the input has shape \(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused(found, message):
    with pytest.raises(FormatError, match=message):
        check_about(found, (3,), (2,))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"range": [1.0]}, "range must be two finite numbers"),
        ({"range": [2.0, 1.0]}, "range must be two finite numbers"),
        ({"range": [0.0, float("inf")]}, "range must be two finite numbers"),
        ({"range": [False, True]}, "range must be two finite numbers"),
        ({"image_size": 8}, r"image_size of 8 does not fit an input of shape \(3, 9, 9\)"),
        ({"image_size": 9.0}, "image_size of 9.0"),
        ({"image_size": True}, "image_size of True"),
    ],
)
def test_what_is_said_of_inputs_is_checked(found, message):
    with pytest.raises(FormatError, match=message):
        check_about(found, (3, 9, 9), (2,))


def test_what_a_network_takes_is_said_in_words():
    about = check_about({"range": [0, 255], "image_size": 9}, (3, 9, 9), (2,))
    assert about == About(range=(0.0, 255.0), image_size=9)
    assert about.as_json() == {"task": "classification", "range": [0.0, 255.0], "image_size": 9}
    assert input_text((3, 9, 9), about) == (
        "float32 of shape 3×9×9 (channels, height, width), from 0 to 255 as in training, without further "
        "normalisation; images with the short side resized to 9 pixels (bicubic, antialiased), cropped to the "
        "centre 9×9"
    )
    assert input_text((2,), About(columns=(COLUMN,))) == "float32 of shape 2 (numbers), made of 1 columns"

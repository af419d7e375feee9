"""Data sets: read right, split the same way always, refused with a reason."""

import numpy as np
import pytest
import torch

from bayesbinn.data import load_data, load_tasks
from bayesbinn.data.sets import CALIBRATION
from bayesbinn.errors import UserError
from tests.runs import blobs


def test_digits():
    data = load_data("digits")
    assert (len(data.train), len(data.test), data.num_classes, data.input_shape) == (1437, 360, 10, (1, 8, 8))
    assert data.validation is None
    assert sorted(data.test.y.unique().tolist()) == list(range(10))
    assert torch.equal(load_data("digits").test.x, data.test.x)


@pytest.mark.parametrize(
    ("shape", "found"),
    [((8,), (8,)), ((9, 8), (1, 9, 8)), ((9, 8, 3), (3, 9, 8)), ((9, 8, 1), (1, 9, 8)), ((3, 9, 8), (3, 9, 8))],
)
def test_npz_layouts(tmp_path, shape, found):
    arrays = blobs(shape)
    np.savez(tmp_path / "set.npz", **arrays)
    data = load_data(f"npz:{tmp_path}/set.npz")
    assert data.input_shape == found
    expected = arrays["x_test"]
    expected = np.moveaxis(expected, -1, 1) if shape in ((9, 8, 3), (9, 8, 1)) else expected.reshape(-1, *found)
    assert np.array_equal(data.test.x.numpy(), expected)
    assert np.array_equal(data.test.y.numpy(), arrays["y_test"])


def test_types_of_numbers():
    arrays = blobs((4, 4))
    pictures = (np.abs(arrays["x_train"]) * 50).astype(np.uint8)
    kinds = {t: load_data(arrays | {"x_train": pictures.astype(t), "x_test": pictures[:40].astype(t)}) for t in
             ("uint8", "int64", "float64", "float16")}  # fmt: skip
    assert kinds["uint8"].train.x.dtype == torch.uint8  # a quarter of the memory
    for data in kinds.values():
        assert torch.equal(data.train.x.float(), kinds["uint8"].train.x.float())
        torch.testing.assert_close(data.mean, kinds["uint8"].mean)
    labels = [load_data(arrays | {"y_train": arrays["y_train"].astype(t)}).train.y for t in ("uint8", "float64")]
    assert torch.equal(labels[0], labels[1])
    assert labels[0].dtype == torch.int64


def test_statistics_are_of_the_training_part_alone():
    arrays = blobs((6, 5, 3), train=5000)  # more than one chunk
    arrays["x_train"][..., 1] *= 7
    arrays["x_train"][..., 2] = 4.0
    arrays["x_test"] += 10
    data = load_data(arrays, validation=0.2)
    x = data.train.x.double()
    torch.testing.assert_close(data.mean, x.mean((0, 2, 3)).float())
    torch.testing.assert_close(data.std[:2], x.std((0, 2, 3), correction=0)[:2].float())
    assert data.std[2] == 1  # what does not vary is not blown up
    vectors = load_data(blobs((5,)))
    torch.testing.assert_close(vectors.std, vectors.train.x.std(0, correction=0))


def test_validation_split_is_fixed_and_disjoint():
    arrays = blobs(train=50)
    arrays["x_train"][:, 0] = np.arange(50)
    data = load_data(arrays, validation=0.2)
    held_out, rest = data.validation.x[:, 0].tolist(), data.train.x[:, 0].tolist()
    assert (len(held_out), len(rest)) == (10, 40)
    assert sorted(held_out + rest) == list(range(50))
    assert held_out != sorted(held_out)
    for x, y in zip([*data.validation.x, *data.train.x], [*data.validation.y, *data.train.y], strict=True):
        assert y == arrays["y_train"][int(x[0])]
    torch.manual_seed(99)
    assert load_data(arrays, validation=0.2).validation.x[:, 0].tolist() == held_out


NAN = np.full((40, 8), np.nan, np.float32)
LABELS = blobs()["y_train"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x_train": np.zeros((0, 8))}, r"x_train is empty, of shape \(0, 8\)"),
        ({"x_test": np.zeros((40, 0))}, r"x_test is empty, of shape \(40, 0\)"),
        ({"x_train": np.array(3.0)}, r"x_train has type float64 and shape \(\): expected numbers of shape"),
        ({"x_train": np.zeros(100)}, r"x_train has type float64 and shape \(100,\)"),
        ({"x_train": np.zeros((100, 1, 2, 3, 4))}, r"x_train has type float64 and shape \(100, 1, 2, 3, 4\)"),
        ({"x_train": np.full((100, 8), "a")}, "x_train has type <U1"),
        ({"x_test": NAN}, "x_test holds NaN, infinity or numbers too large"),
        ({"x_test": NAN + np.inf}, "x_test holds NaN, infinity"),
        ({"x_train": np.full((100, 8), 1e300)}, "x_train holds NaN, infinity or numbers too large for float32"),
        ({"x_test": np.zeros((40, 7))}, r"x_train and x_test differ in shape, \(8,\) and \(7,\)"),
        ({"y_train": LABELS[:99]}, r"y_train has shape \(99,\), its inputs need \(100,\)"),
        ({"y_train": LABELS[:, None]}, r"y_train has shape \(100, 1\), its inputs need \(100,\)"),
        ({"y_train": LABELS + 0.5}, r"y_train holds label 0\.5: labels must be whole numbers or names"),
        ({"y_train": np.where(LABELS, 1.0, np.nan)}, "y_train holds label nan"),
        ({"y_train": np.where(LABELS, 1.0, np.inf)}, "y_train holds label inf"),
        ({"y_train": LABELS * 1j}, "y_train is of type complex128: labels must be whole numbers or names"),
        ({"y_train": np.array([None] * 100)}, "y_train is of type object: labels must be whole numbers or names"),
        ({"y_train": np.arange(100)}, "y_train holds 100 different labels, one for each input: give classes"),
        ({"y_train": LABELS * 0}, "y_train holds one class only: give at least two"),
        ({"y_test": np.full(40, 3)}, "y_test holds class 3, training knows 0, 1, 2: leave it out"),
    ],
)
def test_bad_arrays(change, message):
    with pytest.raises(UserError, match=message):
        load_data(blobs() | change)


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_validation_that_is_no_share(share):
    for data in (blobs(), load_data(blobs())):
        with pytest.raises(UserError, match=f"validation must be .* at least 0 and below 1, got {share}"):
            load_data(data, validation=share)


def test_validation_that_leaves_nothing():
    arrays = blobs() | {"x_train": np.zeros((2, 8)), "y_train": np.array([0, 1]), "y_test": np.zeros(40, int)}
    with pytest.raises(UserError, match=r"validation 0\.9 leaves none of the 2 training examples: lower it"):
        load_data(arrays, validation=0.9)


def test_calibration_sees_every_class_of_a_file_that_goes_through_them_in_turn():
    count, classes = 4 * CALIBRATION, 10
    x = np.arange(count, dtype=np.float32)[:, None]
    y = np.arange(count) % classes
    data = load_data({"x_train": x, "y_train": y, "x_test": x[:20], "y_test": y[:20]})
    seen = data.calibration()
    shares = np.bincount(y[seen[:, 0].long().numpy()], minlength=classes) / CALIBRATION
    assert len(seen) == CALIBRATION
    assert np.abs(shares - 1 / classes).max() < 0.03


def test_calibration_is_changed_as_in_training_and_leaves_the_generator_alone():
    images = np.full((50, 8, 8, 3), 200, np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(50) % 2, "x_test": images, "y_test": np.arange(50) % 2}
    data = load_data(arrays)
    before = torch.get_rng_state()
    cut = data.calibration("crop-flip")
    assert torch.equal(torch.get_rng_state(), before)
    assert bool((data.calibration() == 200).all())
    assert cut.shape == (50, 3, 8, 8)
    assert 0.2 < float((cut == 0).float().mean()) < 0.8  # shifts of up to 4 of 8 pixels bring zeros in
    assert torch.equal(cut, data.calibration("crop-flip"))


# --- labels ---


@pytest.mark.parametrize(
    ("labels", "classes", "noted"),
    [
        (np.arange(100) % 3 + 1, ("1", "2", "3"), True),
        (np.arange(100) % 3 * 5.0, ("0", "5", "10"), True),  # by size, not by their letters
        (np.arange(100) % 2 * 2 - 1, ("-1", "1"), True),
        (np.arange(100) % 2 == 1, ("False", "True"), False),
        (np.array(["cat", "dog", "ant"] * 40)[:100], ("ant", "cat", "dog"), False),
        (np.array([b"cat", b"dog"] * 50), ("cat", "dog"), False),
        (np.array(["cat", "dog"] * 50, dtype=object), ("cat", "dog"), False),
        (np.arange(100) % 3, ("0", "1", "2"), False),
        (np.where(np.arange(100) % 2, 2**40, 7), ("7", str(2**40)), True),
    ],
    ids=str,
)
def test_labels_of_any_kind_are_numbered_and_keep_their_names(labels, classes, noted):
    arrays = blobs() | {"y_train": labels, "y_test": labels[:40]}
    data = load_data(arrays, name="set")
    assert data.classes == classes
    assert data.num_classes == len(classes)
    place = {name: i for i, name in enumerate(classes)}
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in labels.tolist()]
    names = [n.removesuffix(".0") for n in names]
    assert data.train.y.tolist() == [place[n] for n in names]
    assert data.test.y.tolist() == [place[n] for n in names[:40]]
    assert any(note.startswith("the labels ") for note in data.notes) == noted


def test_ten_labels_from_one_are_ten_classes():
    arrays = blobs(classes=10)
    data = load_data(arrays | {"y_train": arrays["y_train"] + 1, "y_test": arrays["y_test"] + 1}, name="set")
    assert data.num_classes == 10
    assert torch.equal(data.train.y, load_data(arrays).train.y)
    assert data.notes == ("the labels 1, 2, 3, ... of set are numbered 0 to 9",)


def test_other_data_are_numbered_and_shifted_as_the_network_learned_them():
    arrays = blobs()
    words = np.array(["ant", "bee", "cat"])
    trained = load_data(arrays | {"y_train": words[arrays["y_train"]], "y_test": words[arrays["y_test"]]})
    few = {"x_train": arrays["x_train"], "y_train": np.full(100, "cat"), "x_test": arrays["x_test"][:2]}
    other = load_data(few | {"y_test": np.array(["cat", "bee"])}, classes=trained.classes, offset=(1.0,) * 8)
    assert other.test.y.tolist() == [2, 1]
    assert other.num_classes == 3
    torch.testing.assert_close(other.test.x, trained.test.x[:2] - 1)
    with pytest.raises(UserError, match="y_test holds class dog, training knows ant, bee, cat"):
        load_data(few | {"y_test": np.array(["cat", "dog"])}, classes=trained.classes)
    with pytest.raises(UserError, match=r"inputs of shape \(8,\), the network takes 3 features"):
        load_data(arrays, offset=(1.0,) * 3)


# --- the scale of features ---


def scaled(factor, shift, dtype=np.float64):
    """Blobs whose columns have another unit; a linear classifier cannot tell."""
    arrays = {k: v.astype(np.float64) if k[0] == "x" else v for k, v in blobs(train=400).items()}
    return {k: (v * factor + shift).astype(dtype) if k[0] == "x" else v for k, v in arrays.items()}


@pytest.mark.parametrize(
    ("factor", "shift"), [(5e-7, 0.0), (1.0, 1e8), (1.0, 1.7e9), (1e-9, 1.0), (1e-25, 0.0), (1e25, 0.0), (3e3, -2e12)]
)
def test_no_scale_of_features_changes_what_the_network_sees(factor, shift):
    plain, data = load_data(scaled(1.0, 0.0)), load_data(scaled(factor, shift))
    for one, other in ((plain.train.x, data.train.x), (plain.test.x, data.test.x)):
        seen, expected = (other - data.mean) / data.std, (one - plain.mean) / plain.std
        torch.testing.assert_close(seen, expected, atol=2e-3, rtol=0)
    assert bool(data.offset) == (abs(shift) > 2**14 * factor)
    assert len(data.notes) == bool(data.offset)


def test_whole_numbers_keep_their_differences_too():
    seconds = 1_700_000_000 + np.arange(100)
    x = np.stack([seconds, np.arange(100) % 7], axis=1)
    data = load_data({"x_train": x, "y_train": LABELS, "x_test": x + 3, "y_test": LABELS}, name="log")
    assert (data.offset[1], abs(data.offset[0] - 1_700_000_050) <= 10) == (0.0, True)
    assert torch.equal(data.train.x[:, 0].double() + data.offset[0], torch.from_numpy(seconds).double())
    assert torch.equal(data.test.x[:, 0], data.train.x[:, 0] + 3)
    (note,) = data.notes
    assert note.startswith("float32 cannot tell apart the values of feature 0 of log: ")
    assert f": {data.offset[0]:.0f} is subtracted from them" in note


def test_what_does_not_vary_is_neither_blown_up_nor_shifted():
    arrays = scaled(1.0, 0.0)
    for part in ("x_train", "x_test"):
        arrays[part][:, 0], arrays[part][:, 1] = 0.1, 1e9
    arrays["x_test"][:, 0] = 0.2
    data = load_data(arrays, name="set")
    assert data.std[:2].tolist() == [1.0, 1.0]
    assert data.offset == ()
    assert data.notes == ("2 of 8 features of set are the same in every training example",)


def test_a_spread_that_float32_cannot_divide_by_is_refused():
    with pytest.raises(UserError, match=r"x_train: feature 0 varies by .*e-40 only, too little for float32: multiply"):
        load_data(scaled(1e-40, 0.0))


def test_images_are_shifted_by_channel():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3, 8, 8))
    x[:, 1] += 1e9
    y = np.arange(20) % 2
    data = load_data({"x_train": x, "y_train": y, "x_test": x, "y_test": y})
    assert (data.offset[0], data.offset[2]) == (0.0, 0.0)
    expected = torch.from_numpy(x[:, 1] - data.offset[1]).float()
    assert torch.equal(data.train.x[:, 1], expected)


# --- layouts ---


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((32, 32, 3), (3, 32, 32)),
        ((3, 32, 32), (3, 32, 32)),
        ((64, 8, 8), (64, 8, 8)),
        ((1, 4, 28), (1, 4, 28)),
        ((4, 28, 28), (4, 28, 28)),
    ],
)
def test_layout_by_shape(shape, found):
    arrays = blobs(shape)
    data = load_data(arrays)
    assert data.input_shape == found
    expected = arrays["x_train"] if shape == found else np.moveaxis(arrays["x_train"], -1, 1)
    assert np.array_equal(data.train.x.numpy(), expected)


@pytest.mark.parametrize("shape", [(64, 4, 4), (4, 4, 4), (3, 4, 4), (1, 100, 3), (64, 2, 1)])
def test_layouts_that_a_shape_leaves_open_are_asked_for(tmp_path, shape):
    arrays = blobs(shape)
    with pytest.raises(UserError, match=r"x_train has shape .* channels may be first or last: say which by .*layout="):
        load_data(arrays)
    assert load_data(arrays | {"layout": "channels-first"}).input_shape == shape
    np.savez(tmp_path / "set.npz", **arrays, layout="channels-last")
    assert load_data(f"npz:{tmp_path}/set.npz").input_shape == (shape[2], *shape[:2])
    with pytest.raises(UserError, match="unknown layout 'nhwc': it is channels-first or channels-last"):
        load_data(arrays | {"layout": "nhwc"})


# --- recognised again ---


def test_fingerprints_tell_data_apart():
    arrays = blobs()
    seen = {load_data(arrays, name=n, validation=v).fingerprint for n in ("a", "b") for v in (0.0, 0.2)}
    assert len(seen) == 1  # of the data alone
    assert next(iter(seen)).startswith("100+40 examples, digest ")
    for change in (
        {"x_test": arrays["x_test"][::-1].copy()},
        {"y_train": np.roll(arrays["y_train"], 1)},
        {"x_train": arrays["x_train"] * np.float32(1.0001)},
        {"y_train": arrays["y_train"] + 1, "y_test": arrays["y_test"] + 1},
    ):
        seen.add(load_data(arrays | change).fingerprint)
    assert len(seen) == 5


def test_data_given_again_hold_out_a_part_once():
    data = load_data(blobs(), validation=0.2)
    assert load_data(data) is data
    with pytest.raises(UserError, match="data holds 20 examples out already: leave validation out"):
        load_data(data, validation=0.1)


def test_parts_in_other_units_are_noticed():
    images, vectors = blobs((4, 4)), blobs()
    images["x_test"] = images["x_test"] * 100
    vectors["x_test"][:, 2] *= 1000
    for arrays, where in ((images, ", training had"), (vectors, " in feature 2, training had")):
        (note,) = load_data(arrays, name="set").notes
        assert note.startswith("set: x_test has values from -")
        assert where in note
    pixels = np.zeros((100, 4), np.uint8)
    pixels[:, 1] = np.arange(100) % 7
    assert load_data((pixels, np.arange(100) % 2)).limits == ((0, 0), (0, 6), (0, 0), (0, 0))
    known = load_data(vectors, limits=load_data(blobs()).limits)
    assert "in feature 2, training had" in known.notes[0]
    assert load_data(blobs((5,)), limits=known.limits).notes == ()  # another shape is refused elsewhere


# --- several sets for one network ---


def test_tasks_share_classes_and_offset(tmp_path):
    names = []
    for i, (labels, shift) in enumerate(((("cat", "dog"), 1e9), (("ant", "dog"), 1e9 + 50))):
        arrays = scaled(1.0, shift)
        for part in ("y_train", "y_test"):
            arrays[part] = np.array(labels)[arrays[part] % 2]
        np.savez(tmp_path / f"{i}.npz", **arrays)
        names.append(f"npz:{tmp_path}/{i}.npz")
    first, second = load_tasks(names)
    assert first.classes == second.classes == ("ant", "cat", "dog")
    assert sorted(first.train.y.unique().tolist()) == [1, 2]
    assert sorted(second.train.y.unique().tolist()) == [0, 2]
    assert first.offset == second.offset != ()
    torch.testing.assert_close(second.train.x - 50, first.train.x, atol=1e-4, rtol=0)

"""Data sets: read right, split the same way always, augmented like the slow twin, refused with a reason."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from bayesbinn.data import readers
from bayesbinn.data.dataset import CALIBRATION, Split, batches, crop_flip, load_data, make_data, read_inputs
from bayesbinn.errors import UserError
from tests.runs import blobs, blobs_file


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
    kinds = {t: make_data("set", arrays | {"x_train": pictures.astype(t), "x_test": pictures[:40].astype(t)}) for t in
             ("uint8", "int64", "float64", "float16")}  # fmt: skip
    assert kinds["uint8"].train.x.dtype == torch.uint8  # a quarter of the memory
    for data in kinds.values():
        assert torch.equal(data.train.x.float(), kinds["uint8"].train.x.float())
        torch.testing.assert_close(data.mean, kinds["uint8"].mean)
    labels = [make_data("set", arrays | {"y_train": arrays["y_train"].astype(t)}).train.y for t in ("uint8", "float64")]
    assert torch.equal(labels[0], labels[1])
    assert labels[0].dtype == torch.int64


def test_statistics_are_of_the_training_part_alone():
    arrays = blobs((6, 5, 3), train=5000)  # more than one chunk
    arrays["x_train"][..., 1] *= 7
    arrays["x_train"][..., 2] = 4.0
    arrays["x_test"] += 1000
    data = make_data("set", arrays, validation=0.2)
    x = data.train.x.double()
    torch.testing.assert_close(data.mean, x.mean((0, 2, 3)).float())
    torch.testing.assert_close(data.std[:2], x.std((0, 2, 3), correction=0)[:2].float())
    assert data.std[2] == 1  # what does not vary is not blown up
    vectors = make_data("set", blobs((5,)))
    torch.testing.assert_close(vectors.std, vectors.train.x.std(0, correction=0))


def test_validation_split_is_fixed_and_disjoint():
    arrays = blobs(train=50)
    arrays["x_train"][:, 0] = np.arange(50)
    data = make_data("set", arrays, validation=0.2)
    held_out, rest = data.validation.x[:, 0].tolist(), data.train.x[:, 0].tolist()
    assert (len(held_out), len(rest)) == (10, 40)
    assert sorted(held_out + rest) == list(range(50))
    assert held_out != sorted(held_out)
    for x, y in zip([*data.validation.x, *data.train.x], [*data.validation.y, *data.train.y], strict=True):
        assert y == arrays["y_train"][int(x[0])]
    torch.manual_seed(99)
    assert make_data("set", arrays, validation=0.2).validation.x[:, 0].tolist() == held_out


# --- batches ---


def epoch(split, seed=0, number=0, start=0, size=4):
    return [x[:, 0].tolist() for x, _ in batches(split, size, seed, number, start)]


def test_batches_are_a_new_permutation_each_epoch_and_only_the_seed_decides_it():
    split = Split(torch.arange(22.0)[:, None], torch.arange(22))
    first = epoch(split)
    assert [len(b) for b in first] == [4] * 5  # the rest is dropped
    assert len({i for batch in first for i in batch}) == 20
    torch.manual_seed(7)
    assert epoch(split) == first
    assert epoch(split, number=1) != first != epoch(split, seed=1)
    for start in range(6):
        assert epoch(split, start=start) == first[start:]
    assert all(torch.equal(x[:, 0].long(), y) for x, y in batches(split, 4, 0, 0))


def test_crop_flip_like_its_slow_twin():
    batch, padding = 16, 2
    x = torch.rand(batch, 3, 5, 6)
    torch.manual_seed(3)
    fast = crop_flip(x, padding)
    torch.manual_seed(3)
    top, left = (torch.randint(0, 2 * padding + 1, (batch, 1)) for _ in range(2))
    mirrored = torch.rand(batch, 1) >= 0.5
    for i in range(batch):
        canvas = torch.zeros(3, 5 + 2 * padding, 6 + 2 * padding)
        canvas[:, padding:-padding, padding:-padding] = x[i]
        window = canvas[:, top[i] : top[i] + 5, left[i] : left[i] + 6]
        assert torch.equal(fast[i], window.flip(-1) if mirrored[i] else window)


def test_crop_flip_reaches_every_shift():
    image = torch.arange(1.0, 13).reshape(1, 1, 3, 4)
    shifted = crop_flip(image.expand(2000, 1, 3, 4), padding=1)
    assert len(shifted.unique(dim=0)) == 3 * 3 * 2
    assert crop_flip(image.byte()).dtype == torch.uint8


# --- image folders ---


def picture(path, color, size=(10, 9), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)


@pytest.fixture
def folder(tmp_path):
    for part, count in (("train", 4), ("test", 2)):
        for i in range(count):
            picture(tmp_path / "set" / part / "red" / f"{i}.png", (200, 10 * i, 0))
            picture(tmp_path / "set" / part / "blue" / f"{i}.bmp", (0, 10 * i, 200))
    (tmp_path / "set" / "train" / "red" / "notes.txt").write_text("not an image")
    return tmp_path / "set"


def test_image_folder(folder):
    data = load_data(f"imagefolder:{folder}")
    assert (data.input_shape, data.num_classes, len(data.train), len(data.test)) == ((3, 9, 10), 2, 8, 4)
    assert data.train.y.tolist() == [0] * 4 + [1] * 4  # classes in the order of their names: blue, red
    assert data.train.x[1, :, 0, 0].tolist() == [0, 10, 200]
    picture(folder / "train" / "red" / "gray.png", 77, mode="L")  # becomes RGB
    assert load_data(f"imagefolder:{folder}").train.x[-1].unique().tolist() == [77]


def test_image_folders_that_are_refused(folder):
    def refused(match):
        with pytest.raises(UserError, match=match):
            load_data(f"imagefolder:{folder}")

    picture(folder / "test" / "gren" / "0.png", (0, 200, 0))
    refused(r"class 'gren' of .*0\.png has no images under .*train")
    (folder / "test" / "gren" / "0.png").unlink()
    picture(folder / "train" / "red" / "9.png", 0, size=(5, 6))
    refused(r"9\.png has 5×6 pixels, .*0\.bmp 10×9: make all images of one size")
    (folder / "train" / "red" / "9.png").write_bytes((folder / "train" / "red" / "0.png").read_bytes()[:50])
    refused(r"cannot read the image .*9\.png")
    (folder / "train" / "red" / "9.png").write_bytes(b"no image at all")
    refused(r"cannot read the image .*9\.png")
    (folder / "train" / "red" / "9.png").unlink()
    (folder / "test").rename(folder / "testing")
    refused(r"no images under .*test: expected .*test/CLASS/\*\.png")
    with pytest.raises(UserError, match=r"no images under nowhere/train"):
        load_data("imagefolder:nowhere")


def test_images_without_pillow(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(UserError, match=r"needs Pillow: pip install 'bayesbinn\[data\]'"):
        load_data(f"imagefolder:{folder}")


# --- names, and the hub ---


def test_named_sets_come_from_the_data_folder(tmp_path, monkeypatch):
    blobs_file(tmp_path / "mnist.npz", shape=(28, 28), classes=10)
    monkeypatch.setenv(readers.DATA_FOLDER, str(tmp_path))
    assert load_data("mnist").input_shape == (1, 28, 28)


def test_tilde_is_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    blobs_file(tmp_path / "set.npz")
    assert load_data("npz:~/set.npz").num_classes == 3


def test_hub_without_datasets(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"hf:some/set needs Hugging Face datasets: pip install 'bayesbinn\[data\]'"):
        load_data("hf:some/set")
    monkeypatch.delenv(readers.DATA_FOLDER, raising=False)
    with pytest.raises(
        UserError, match=r"no data set cifar10: set BAYESBINN_DATA to a folder with cifar10\.npz \(it is"
    ):
        load_data("cifar10")
    monkeypatch.setenv(readers.DATA_FOLDER, str(tmp_path))
    with pytest.raises(UserError, match=r"there is no .*cifar10\.npz; from the hub: hf:uoft-cs/cifar10 needs"):
        load_data("cifar10")


class HubSplit(dict):
    column_names = property(list)


def hub(monkeypatch, answer):
    """A stand-in for the hub, which tests cannot reach."""

    def load_dataset(name):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))


def test_hub(monkeypatch):
    images = [Image.new("L", (6, 5), 10 * i) for i in range(6)]
    parts = {p: HubSplit(id=list("abcdef"), img=images, label=[0, 1, 2] * 2) for p in ("train", "test")}
    hub(monkeypatch, parts)
    data = load_data("hf:some/set")
    assert (data.input_shape, data.num_classes) == ((1, 5, 6), 3)
    assert data.train.x[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ConnectionError("no route\nto the hub"), r"cannot load hf:some/set \(no route\)"),
        (TimeoutError(), r"cannot load hf:some/set \(TimeoutError\)"),
        ({"train": HubSplit(image=[0], label=[0])}, "hf:some/set has splits train: train and test are needed"),
        ({"train": HubSplit(text=["a"], label=[0])}, "has columns text, label: an image and a label column are needed"),
        (
            {"train": HubSplit(image=[Image.new("L", (6, 5)), Image.new("L", (5, 5))], label=[0, 1])},
            "hf:some/set has inputs of different shapes",
        ),
    ],
)
def test_hub_sets_that_are_refused(monkeypatch, answer, message):
    hub(monkeypatch, answer)
    with pytest.raises(UserError, match=message):
        load_data("hf:some/set")


# --- bad input ---

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
        ({"y_train": LABELS[:99]}, r"y_train has shape \(99,\), x_train needs \(100,\)"),
        ({"y_train": LABELS[:, None]}, r"y_train has shape \(100, 1\), x_train needs \(100,\)"),
        ({"y_train": LABELS + 0.5}, r"y_train holds label 0\.5: labels must be whole numbers from 0"),
        ({"y_train": LABELS - 1}, "y_train holds label -1: labels must be whole numbers from 0"),
        ({"y_train": np.where(LABELS, 1.0, np.nan)}, "y_train holds label nan"),
        ({"y_train": np.where(LABELS, 1.0, np.inf)}, "y_train holds label inf"),
        ({"y_train": np.full(100, "cat")}, "y_train is of type <U3: labels must be whole numbers"),
        ({"y_train": np.where(LABELS, 1, 2**40)}, "y_train holds label 1099511627776"),
        ({"y_train": np.where(LABELS, 1, 100)}, "y_train holds label 100, for 100 inputs: number the classes from 0"),
        ({"y_train": LABELS * 0}, "y_train holds one class only: give at least two"),
        ({"y_test": np.full(40, 3)}, "y_test holds class 3, y_train only 0 to 2"),
    ],
)
def test_bad_arrays(change, message):
    with pytest.raises(UserError, match=message):
        make_data("set", blobs() | change)


def test_validation_that_leaves_nothing():
    arrays = blobs() | {"x_train": np.zeros((2, 8)), "y_train": np.array([0, 1]), "y_test": np.zeros(40, int)}
    with pytest.raises(UserError, match=r"validation 0\.9 leaves none of the 2 training examples: lower it"):
        make_data("set", arrays, validation=0.9)


def test_unknown_names():
    for name, hint in (
        ("minst", "did you mean 'mnist'"),
        ("npz:", "did you mean 'npz:FILE'"),
        ("x:y", "unknown data set 'x:y'"),
    ):
        with pytest.raises(UserError, match=hint):
            load_data(name)


def damaged_files(path):
    """(what, bytes) of an .npz, spoilt in several ways."""
    np.savez_compressed(path, **blobs((20, 20)))
    good = path.read_bytes()
    middle = len(good) // 2
    yield "empty", b""
    yield "text", b"x_train,y_train\n1,2\n"
    yield "half", good[:middle]
    yield "a changed byte", good[:middle] + bytes([good[middle] ^ 0xFF]) + good[middle + 1 :]
    np.savez(path, **{name: np.array([{"a": 1}], dtype=object) for name in readers.ARRAYS})
    yield "objects", path.read_bytes()


def test_damaged_npz(tmp_path):
    file = tmp_path / "set.npz"
    for what, content in damaged_files(file):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*set\.npz \(.*\): write it again"):
            pytest.fail(f"accepted {what}: {load_data(f'npz:{file}')}")


def test_npz_that_holds_something_else(tmp_path):
    np.savez(tmp_path / "set.npz", x_train=np.zeros((2, 2)), labels=np.zeros(2))
    with pytest.raises(UserError, match=r"set\.npz lacks y_train, x_test, y_test: it must hold x_train, y_train"):
        load_data(f"npz:{tmp_path}/set.npz")
    np.save(tmp_path / "one.npy", np.zeros((2, 2)))
    with pytest.raises(UserError, match=r"one\.npy lacks x_train"):
        load_data(f"npz:{tmp_path}/one.npy")
    for place in ("none.npz", "."):
        with pytest.raises(UserError, match=r"no file at|cannot read"):
            load_data(f"npz:{tmp_path}/{place}")


# --- inputs to predict ---


def test_inputs_of_every_kind(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (5, 9, 10, 3), dtype=np.uint8)
    chw = torch.from_numpy(x).permute(0, 3, 1, 2).float()
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", x=x)
    np.savez(tmp_path / "c.npz", x_train=x[:2], x_test=x)
    np.save(tmp_path / "d.npy", np.moveaxis(x, -1, 1))
    for name in ("a.npy", "b.npz", "c.npz", "d.npy"):
        assert torch.equal(read_inputs(tmp_path / name, (3, 9, 10)), chw)
    Image.fromarray(x[0]).save(tmp_path / "e.PNG")
    np.save(tmp_path / "f.npy", x[0])
    np.save(tmp_path / "g.npy", np.moveaxis(x[0], -1, 0))
    for name in ("e.PNG", "f.npy", "g.npy"):
        assert torch.equal(read_inputs(tmp_path / name, (3, 9, 10)), chw[:1])


def test_gray_and_vector_inputs(tmp_path):
    x = np.arange(64.0).reshape(8, 8)
    np.save(tmp_path / "x.npy", x)
    assert read_inputs(tmp_path / "x.npy", (1, 8, 8)).shape == (1, 1, 8, 8)
    assert read_inputs(tmp_path / "x.npy", (8,)).shape == (8, 8)
    np.save(tmp_path / "one.npy", x[0])
    assert torch.equal(read_inputs(tmp_path / "one.npy", (8,)), torch.arange(8.0)[None])
    Image.new("RGB", (8, 8), (90, 90, 90)).save(tmp_path / "x.png")
    assert read_inputs(tmp_path / "x.png", (1, 8, 8)).unique().tolist() == [90]


def test_inputs_that_are_refused(tmp_path):
    def refused(name, match, shape=(1, 8, 8)):
        with pytest.raises(UserError, match=match):
            read_inputs(tmp_path / name, shape)

    refused("none.npy", r"no file at .*none\.npy")
    refused("none.png", r"no file at .*none\.png")
    (tmp_path / "x.csv").write_text("1,2")
    refused("x.csv", r"cannot read .*x\.csv: \.csv suffix, expected \.npy, \.npz, \.png")
    refused("x", "no suffix")
    (tmp_path / "x.npy").write_bytes(b"")
    refused("x.npy", r"cannot read .*x\.npy")
    (tmp_path / "x.jpg").write_bytes(b"")
    refused("x.jpg", r"cannot read the image .*x\.jpg")
    np.savez(tmp_path / "x.npz", inputs=np.zeros((2, 8, 8)))
    refused("x.npz", r"x\.npz holds inputs: name the inputs x or x_test")
    for array, match in (
        (np.zeros((0, 8, 8)), "is empty"),
        (np.zeros((2, 9, 9)), r"has inputs of shape \(1, 9, 9\), the network takes \(1, 8, 8\)"),
        (np.full((2, 8, 8), np.nan), "holds NaN"),
        (np.array(1.0), r"shape \(\)"),
    ):
        np.save(tmp_path / "y.npy", array)
        refused("y.npy", match)
    Image.new("RGB", (8, 8)).save(tmp_path / "z.png")
    refused("z.png", "the network takes", shape=(64,))


def test_calibration_sees_every_class_of_a_file_that_goes_through_them_in_turn():
    count, classes = 4 * CALIBRATION, 10
    x = np.arange(count, dtype=np.float32)[:, None]
    y = np.arange(count) % classes
    data = make_data("in turn", {"x_train": x, "y_train": y, "x_test": x[:20], "y_test": y[:20]})
    seen = data.calibration()
    shares = np.bincount(y[seen[:, 0].long().numpy()], minlength=classes) / CALIBRATION
    assert len(seen) == CALIBRATION
    assert np.abs(shares - 1 / classes).max() < 0.03


def test_calibration_is_changed_as_in_training_and_leaves_the_generator_alone():
    images = np.full((50, 8, 8, 3), 200, np.uint8)
    arrays = {"x_train": images, "y_train": np.arange(50) % 2, "x_test": images, "y_test": np.arange(50) % 2}
    data = make_data("bright", arrays)
    before = torch.get_rng_state()
    cut = data.calibration("crop-flip")
    assert torch.equal(torch.get_rng_state(), before)
    assert bool((data.calibration() == 200).all())
    assert cut.shape == (50, 3, 8, 8)
    assert 0.2 < float((cut == 0).float().mean()) < 0.8  # shifts of up to 4 of 8 pixels bring zeros in
    assert torch.equal(cut, data.calibration("crop-flip"))

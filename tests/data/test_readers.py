"""Data sets by name: the folder of files, the hub, and .npz files whole and damaged."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bayesbinn.data import load_data, load_tasks, npz, readers
from bayesbinn.errors import UserError
from tests.runs import blobs, blobs_file


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
    assert data.notes == ("columns of hf:some/set that are not used: id",)
    assert data.train.x[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]


def test_hub_images_are_read_like_files_and_keep_their_class_names(monkeypatch):
    deep = Image.fromarray(np.full((5, 6), 65535, np.uint16))
    palette = Image.new("RGB", (6, 5), (200, 0, 0)).quantize(4)
    for images, shape, value in (([deep] * 6, (1, 5, 6), 255), ([palette] * 6, (3, 5, 6), 200)):
        parts = {p: HubSplit(image=images, label=[0, 1, 2] * 2) for p in ("train", "test", "unsupervised")}
        parts["train"].features = {"label": SimpleNamespace(names=["zebra", "ant", "bee"])}
        hub(monkeypatch, parts)
        data = load_data("hf:some/set")
        assert (data.input_shape, float(data.train.x.max())) == (shape, value)
        assert data.classes == ("zebra", "ant", "bee")
        assert data.train.y.tolist() == [0, 1, 2] * 2
        assert data.notes == ("splits of hf:some/set that are not used: unsupervised",)
    monkeypatch.delenv(readers.DATA_FOLDER, raising=False)
    assert load_data("mnist").classes == ("0", "1", "2")  # as in the file of that name


def test_hub_splits_have_class_names_of_their_own(monkeypatch):
    images = [Image.new("L", (6, 5), 10 * i) for i in range(6)]
    parts = {p: HubSplit(image=images, label=[0, 1, 2] * 2) for p in ("train", "test")}
    for part, names in (("train", ["ant", "bee", "cat"]), ("test", ["cat", "bee", "ant"])):
        parts[part].features = {"label": SimpleNamespace(names=names)}
    hub(monkeypatch, parts)
    assert load_data("hf:some/set").test.y.tolist() == [2, 1, 0] * 2
    first, second = load_tasks(["hf:some/set", "hf:some/set"])
    assert first.classes == second.classes == ("ant", "bee", "cat")


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
    np.savez(path, **{name: np.array([{"a": 1}], dtype=object) for name in npz.ARRAYS})
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

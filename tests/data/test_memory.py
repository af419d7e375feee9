"""Data in memory, in whatever people have it."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from bayesbinn.data import load_data
from bayesbinn.errors import UserError
from tests.runs import blobs


class Pairs(Dataset):
    """Examples as torchvision's data sets give them."""

    def __init__(self, inputs, labels, classes=()):
        self.inputs, self.labels = inputs, labels
        if classes:
            self.classes = classes

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return self.inputs[i], self.labels[i]


ARRAYS = blobs()
X, Y, X_TEST, Y_TEST = (ARRAYS[k] for k in ("x_train", "y_train", "x_test", "y_test"))
T = {k: torch.from_numpy(v) for k, v in ARRAYS.items()}
TENSORS = tuple(T.values())


@pytest.mark.parametrize(
    "data",
    [
        ARRAYS,
        T,
        ((X, Y), (X_TEST, Y_TEST)),
        [(X, Y), (X_TEST, Y_TEST)],
        ((X.tolist(), Y.tolist()), (X_TEST.tolist(), Y_TEST.tolist())),
        ((TENSORS[0].requires_grad_(), TENSORS[1]), TENSORS[2:]),
        (TensorDataset(*TENSORS[:2]), TensorDataset(*TENSORS[2:])),
        (Pairs(X, Y), Pairs(TENSORS[2], TENSORS[3])),
    ],
    ids=["dict", "tensors", "pairs", "list", "lists", "pairs of tensors", "TensorDataset", "Dataset"],
)
def test_every_form_is_the_same_data(data):
    found, expected = load_data(data), load_data(ARRAYS)
    assert found.fingerprint == expected.fingerprint
    assert found.name == "data"
    assert load_data(found) is found
    assert len(load_data(found, validation=0.1).validation) == 10


@pytest.mark.parametrize("data", [(X, Y), [X, Y], {"x": X, "y": Y}, {"x_train": X, "y_train": Y}, Pairs(X, Y)])
def test_a_fifth_of_each_class_becomes_the_test_part(data):
    found = load_data(data, name="mine")
    assert torch.bincount(found.test.y).tolist() == [7, 7, 7]  # of 34, 33 and 33
    assert len(found.train) + len(found.test) == 100
    rows = torch.cat([found.train.x, found.test.x])
    assert torch.equal(rows.sort(0).values, torch.from_numpy(X).sort(0).values)
    assert "mine has no test part: 21 of 100 examples, a fifth of each class, become it" in found.notes
    torch.manual_seed(5)
    assert load_data(data).fingerprint == found.fingerprint


def test_rare_classes_stay_in_training():
    y = np.array(["common"] * 98 + ["rare"] * 2)
    found = load_data((X, y))
    assert found.classes == ("common", "rare")
    assert int((found.train.y == 1).sum()) == 2
    with pytest.raises(UserError, match=r"no class of 3 examples to take one from: give one \(x_test, or"):
        load_data((X[:4], [0, 0, 1, 1]))


def test_datasets_of_images_keep_their_class_names_and_say_what_is_frozen():
    images = [Image.new("L", (6, 5), 10 * i) for i in range(6)]
    found = load_data((Pairs(images, [2, 1, 0] * 2, ["z", "y", "x"]), Pairs(images, [0, 1, 2] * 2, ["z", "y", "x"])))
    assert found.classes == ("z", "y", "x")
    assert found.train.y.tolist() == [2, 1, 0] * 2
    assert found.train.x[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert found.notes == ("the examples of Pairs were read once: what it changes at random stays as drawn",)
    with pytest.raises(UserError, match="y_train holds label 2, there are names for 0 to 1"):
        load_data(Pairs(images, [2, 1, 0] * 2, ["z", "y"]))


def test_each_part_is_numbered_by_its_own_class_names():
    x = torch.randn(6, 4)
    train = Pairs(x, [0, 1, 2] * 2, ["cat", "dog", "owl"])
    found = load_data((train, Pairs(x, [0, 1, 0, 1, 0, 1], ["owl", "cat"])))
    assert (found.classes, found.test.y.tolist()) == (("cat", "dog", "owl"), [2, 0] * 3)
    with pytest.raises(UserError, match="y_test holds class bat, training knows cat, dog, owl"):
        load_data((train, Pairs(x, [0] * 6, ["bat", "cat"])))
    for parts in ((train, Pairs(x, [2] * 6)), (Subset(train, range(6)), Subset(train, [2, 5]))):  # one numbering
        found = load_data(parts)
        assert (found.classes, set(found.test.y.tolist())) == (("cat", "dog", "owl"), {2})


def test_class_names_that_are_doubled():
    x = torch.randn(6, 4)
    good, doubled = (Pairs(x, [0, 1, 2] * 2, names) for names in (["z", "y", "x"], ["z", "y", "z"]))
    for data in (doubled, (doubled, good), (good, doubled)):
        with pytest.raises(UserError, match="has two classes named 'z': give each class a name of its own"):
            load_data(data)
    with pytest.raises(UserError, match="two classes named '0'"):
        load_data((x, [0, 1, 0] * 2), classes=("0", "1", "0"))


def test_half_precision_tensors():
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.randn(30, 4).to(dtype)
        found = load_data(((x, Y[:30]), (x, Y[:30])))
        assert torch.equal(found.train.x, x.float())


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(2), 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, r"cannot read data of type ndarray: give a name, \(x, y\), "),
        (3, "cannot read data of type int"),
        ((X, X_TEST, Y, Y_TEST), "cannot read data of type tuple"),
        (((X, Y), (X_TEST, Y_TEST, Y_TEST)), "a part of the data has 3 arrays: give its inputs and its labels"),
        ({"x_train": X}, "the data hold x_train: give "),
        ({**ARRAYS, "z": X}, "the data hold .*z: give "),
        ({}, "the data hold nothing: give "),
        (DataLoader(TensorDataset(*TENSORS[:2])), r"cannot read data of type DataLoader: give its \.dataset"),
        (Endless(), r"Endless has no length or no examples: give a Dataset with len\(\)"),
        (Pairs([], []), "Pairs has no length or no examples"),
        (TensorDataset(TENSORS[0]), "a part of the data has 1 arrays"),
        (Pairs([torch.zeros(2), torch.zeros(3)], [0, 1]), r"Pairs has inputs of different shapes, \(2,\), \(3,\)"),
        (([[1.0], [1.0, 2.0]], [0, 1]), "the data hold inputs of different shapes: make them equal"),
    ],
)
def test_forms_that_are_refused(data, message):
    with pytest.raises(UserError, match=message):
        load_data(data)


def test_examples_that_are_no_pairs():
    class Single(Pairs):
        def __getitem__(self, i):
            return {"image": self.inputs[i]}

    with pytest.raises(UserError, match=r"the examples of Single are no pairs \(input, label\)"):
        load_data(Single(X, Y))

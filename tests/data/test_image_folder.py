"""Folders with and without parts, images of several sizes and colours, damaged files."""

import numpy as np
import pytest
import torch
from PIL import Image

from bayesbinn.data import load_data, read_inputs
from bayesbinn.data.images import fitted
from bayesbinn.errors import UserError

COLOURS = {"blue": (0, 0, 200), "red": (200, 0, 0)}


def fill(folder, count, size=(10, 9), suffix="png", **colours):
    for name, colour in (colours or COLOURS).items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(folder / name / f"{i}.{suffix}")


def sizes(data):
    return len(data.train), len(data.validation or ()), len(data.test)


# --- parts ---


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_folder_is_the_validation_or_the_test_part(tmp_path, name):
    fill(tmp_path / "train", 4)
    fill(tmp_path / name, 2)
    data = load_data(f"imagefolder:{tmp_path}")
    assert sizes(data) == (8, 0, 4)
    assert data.notes == (f"{tmp_path} has no folder test: {name} is the test part",)
    fill(tmp_path / "test", 3)
    three = load_data(f"imagefolder:{tmp_path}")
    assert (sizes(three), three.notes) == ((8, 4, 6), ())
    assert three.validation.y.tolist() == [0, 0, 1, 1]
    assert three.fingerprint.startswith("8+4+6 examples")
    with pytest.raises(UserError, match="holds 4 examples out already: leave validation out"):
        load_data(f"imagefolder:{tmp_path}", validation=0.1)


def test_a_folder_without_parts_is_split_by_a_seed(tmp_path):
    fill(tmp_path, 10)
    data = load_data(f"imagefolder:{tmp_path}")
    assert (sizes(data), data.classes) == ((16, 0, 4), ("blue", "red"))
    assert data.notes[0].endswith("has no test part: 4 of 20 examples, a fifth of each class, become it")
    fill(tmp_path, 10, train=(0, 200, 0))  # a class of that name
    assert load_data(f"imagefolder:{tmp_path}").classes == ("blue", "red", "train")


def test_other_folders_are_said_and_two_validation_parts_refused(tmp_path):
    fill(tmp_path / "train", 2)
    fill(tmp_path / "test", 2)
    fill(tmp_path / "extra", 2)
    assert load_data(f"imagefolder:{tmp_path}").notes == (
        "1 files or folders are no images of a class and left out: extra",
    )
    fill(tmp_path / "val", 1)
    fill(tmp_path / "valid", 1)
    with pytest.raises(UserError, match="has the folders val, valid: keep one of them"):
        load_data(f"imagefolder:{tmp_path}")


# --- sizes ---


def test_the_short_side_is_resized_and_the_centre_kept():
    image = np.zeros((4, 8, 3), np.uint8)
    image[:, 2:6] = 100, 150, 200  # the central square
    image[:, :2] = 255  # what is cropped
    made, remarks = fitted(image, 4)
    assert (made[:, 1:3] == [100, 150, 200]).all()
    assert (made.shape, remarks) == ((4, 4, 3), ())
    small, _ = fitted(image, 2)
    assert abs(small.astype(int) - [100, 150, 200]).max() <= 30  # a little of what is cropped, as the filter is wide
    assert (np.array(fitted(image.transpose(1, 0, 2), 2)[0]) == small.transpose(1, 0, 2)).all()
    assert fitted(image, 8)[1] == ("fewer than 8 pixels on the short side: they are enlarged",)
    wide = np.zeros((2, 5), np.uint8)
    assert fitted(wide, 2)[1] == ("one side more than twice as long as the other: more than half of them is cropped",)


def test_reduction_averages_and_numbers_stay_within_their_range():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    reduced, _ = fitted(board.astype(np.uint8), 8)  # without antialiasing it would be black and white
    assert abs(reduced.astype(int) - 127).max() < 20
    steps = np.repeat([[0.0, 1.0]], 8, axis=0).repeat(4, axis=1)  # bicubic overshoots
    made, _ = fitted(steps, 16)
    assert (made.dtype, made.min(), made.max()) == (np.float64, 0, 1)
    far, _ = fitted(steps + 1.7e9, 16)
    np.testing.assert_allclose(far - 1.7e9, made, atol=1e-6)


def test_image_size_is_for_every_kind_of_images(tmp_path):
    fill(tmp_path / "train", 2)
    fill(tmp_path / "test", 2, size=(20, 31))
    with pytest.raises(UserError, match=r"0\.png has 20×31 pixels, .*0\.png 10×9: .* say by --image-size 8"):
        load_data(f"imagefolder:{tmp_path}")
    data = load_data(f"imagefolder:{tmp_path}", image_size=8)
    assert data.input_shape == (3, 8, 8)
    assert data.test.x[:, 0].unique().tolist() == [0, 200]
    digits = load_data("digits", image_size=4)
    assert (digits.input_shape, digits.images.size) == ((1, 4, 4), 4)
    means = load_data("digits").train.x.float().mean((1, 2, 3)), digits.train.x.float().mean((1, 2, 3))
    assert torch.corrcoef(torch.stack(means))[0, 1] > 0.9
    pictures = [(Image.new("RGB", (9 + i, 12), (i, 0, 0)), i % 2) for i in range(20)]

    class Pictures(torch.utils.data.Dataset):
        def __len__(self):
            return len(pictures)

        def __getitem__(self, i):
            return pictures[i]

    assert load_data(Pictures(), image_size=6).input_shape == (3, 6, 6)
    with pytest.raises(UserError, match="resize and crop them all, say by --image-size 8"):
        load_data(Pictures())
    with pytest.raises(UserError, match=r"image_size 4 is for images, .* has inputs of 3 numbers"):
        load_data((torch.zeros(9, 3), [0, 1, 2] * 3), image_size=4)
    with pytest.raises(UserError, match="loaded already: give target, task and image_size to load_data"):
        load_data(digits, image_size=5)


def test_inputs_are_fitted_as_in_training(tmp_path):
    fill(tmp_path, 1, size=(40, 24))
    x, notes = read_inputs(tmp_path / "red" / "0.png", (3, 8, 8), image_size=8)
    assert (x.shape, x[0, :, 0, 0].tolist(), notes) == ((1, 3, 8, 8), [200, 0, 0], ())
    np.save(tmp_path / "x.npy", np.zeros((2, 16, 12, 3), np.uint8))
    assert read_inputs(tmp_path / "x.npy", (3, 8, 8), image_size=8)[0].shape == (2, 3, 8, 8)
    with pytest.raises(UserError, match=r"shape \(3, 24, 40\), the network takes \(3, 8, 8\)"):
        read_inputs(tmp_path / "red" / "0.png", (3, 8, 8))


# --- colours ---


def test_grey_images_have_one_channel_and_a_mixture_is_read_as_most_are(tmp_path):
    fill(tmp_path / "train", 3, a=10, b=200)
    fill(tmp_path / "test", 2, a=10, b=200)
    gray = load_data(f"imagefolder:{tmp_path}")
    assert (gray.input_shape, gray.notes) == ((1, 9, 10), ())
    Image.new("RGB", (10, 9), (250, 0, 0)).save(tmp_path / "train" / "a" / "colour.png")
    mixed = load_data(f"imagefolder:{tmp_path}")
    assert mixed.input_shape == (1, 9, 10)
    assert mixed.notes == (
        "6 of 7 training images are grey, the others have colours: all are read as grey",
        "1 images have colours: they become grey",
    )
    assert load_data(f"imagefolder:{tmp_path}", channels=3).input_shape == (3, 9, 10)
    fill(tmp_path / "train", 9)
    most = load_data(f"imagefolder:{tmp_path}")
    assert most.input_shape == (3, 9, 10)
    assert most.notes == ("6 of 25 training images are grey, the others have colours: all are read in colours",)
    fill(tmp_path, 1, size=(10, 9), shade=(40, 40, 40))  # RGB, and grey all the same
    assert read_inputs(tmp_path / "shade" / "0.png", (1, 9, 10))[1] == ()
    fill(tmp_path, 1, size=(10, 9), red=(250, 0, 0))
    _, notes = read_inputs(tmp_path / "red" / "0.png", (1, 9, 10))
    assert notes == (f"{tmp_path}/red/0.png has colours: they become grey",)


# --- damaged files ---


def test_damaged_files_are_refused_or_left_out_with_a_count(tmp_path):
    fill(tmp_path / "train", 4, suffix="jpg")
    fill(tmp_path / "test", 2)
    expected = load_data(f"imagefolder:{tmp_path}").fingerprint
    whole = (tmp_path / "train" / "red" / "0.jpg").read_bytes()
    (tmp_path / "train" / "red" / "half.jpg").write_bytes(whole[: len(whole) * 3 // 4])
    (tmp_path / "train" / "blue" / "no.png").write_text("no image")
    (tmp_path / "test" / "red" / "none.tif").write_bytes(b"")
    with pytest.raises(UserError, match=r"blue/no\.png .*: replace or remove it, or leave such files out by --skip"):
        load_data(f"imagefolder:{tmp_path}")
    data = load_data(f"imagefolder:{tmp_path}", skip_damaged=True)
    assert data.fingerprint == expected
    assert data.notes == (
        "3 images cannot be read and left out: train/blue/no.png, train/red/half.jpg, test/red/none.tif",
    )
    for file in (tmp_path / "test").rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(UserError, match=r"none of the 5 images under .*test can be read: replace them"):
        load_data(f"imagefolder:{tmp_path}", skip_damaged=True)

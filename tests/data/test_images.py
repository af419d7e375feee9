"""Images as a person sees them, folders of them, and what is left out."""

import struct
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from bayesbinn.data import load_data
from bayesbinn.data.images import read_image
from bayesbinn.errors import UserError


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
    refused(r"y_test holds class gren, training knows blue, red: leave it out, or train on it")
    (folder / "test" / "gren" / "0.png").unlink()
    picture(folder / "train" / "red" / "9.png", 0, size=(5, 6))
    refused(r"9\.png has 5×6 pixels, .*0\.bmp 10×9: resize and crop all .*, say by --image-size 8")
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


# --- as a person sees them ---


def read(path, gray=False):
    image, notes = read_image(path, gray)
    assert notes == ()
    return image


def test_sixteen_bits_keep_their_range_and_their_steps(tmp_path):
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    for suffix in ("png", "tif"):
        Image.fromarray(ramp).save(tmp_path / f"x.{suffix}")
        assert np.array_equal(read(tmp_path / f"x.{suffix}", gray=True), ramp.astype(np.float32) / 257)
        colour = read(tmp_path / f"x.{suffix}")
        assert (colour.min(), colour.max(), colour.shape) == (0, 255, (16, 16, 3))
    fine = np.array([[1000, 1001]], np.uint16)
    Image.fromarray(fine).save(tmp_path / "fine.png")
    assert len(np.unique(read(tmp_path / "fine.png", gray=True))) == 2


def test_sixteen_bits_of_colour_are_said_to_lose_the_lower_ones(tmp_path):
    rows = b"".join(b"\0" + bytes([200, 7, 100, 7, 50, 7]) * 2 for _ in range(2))  # PNG's own bytes: none writes them

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    image, notes = read_image(tmp_path / "x.png", gray=False)
    assert image[0, 0].tolist() == [200, 100, 50]
    assert notes == ("16 bits per colour channel: the upper 8 are used",)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_of_unknown_range_are_refused(tmp_path, mode):
    Image.new(mode, (4, 4), 3).save(tmp_path / "x.tif")
    with pytest.raises(UserError, match=r"cannot read the image .*x\.tif \(its pixels are 32-bit numbers of unknown"):
        read_image(tmp_path / "x.tif", gray=True)


def test_exif_turns(tmp_path):
    image = Image.new("RGB", (8, 4))
    image.paste((200, 0, 0), (0, 0, 4, 4))  # red on the left
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: right is down
    image.save(tmp_path / "x.png", exif=exif)
    seen = read(tmp_path / "x.png")
    assert seen.shape == (8, 4, 3)
    assert (seen[0, 0, 0], seen[7, 0, 0]) == (200, 0)  # red on top


def test_palettes_cmyk_and_transparency(tmp_path):
    red = Image.new("RGB", (4, 4), (200, 0, 0))
    red.quantize(4).save(tmp_path / "palette.png")
    red.quantize(4).save(tmp_path / "still.gif")
    red.convert("CMYK").save(tmp_path / "cmyk.tif")
    red.convert("RGBA").save(tmp_path / "opaque.png")
    red.save(tmp_path / "x.webp", lossless=True)
    red.save(tmp_path / "x.tiff")
    for name in ("palette.png", "still.gif", "cmyk.tif", "opaque.png", "x.webp", "x.tiff"):
        assert read(tmp_path / name)[0, 0].tolist() == [200, 0, 0], name
    Image.new("1", (4, 4), 1).save(tmp_path / "one.png")
    assert read(tmp_path / "one.png", gray=True).tolist() == [[255] * 4] * 4
    hidden = Image.new("RGBA", (4, 4), (0, 0, 0, 0))  # black, but nothing of it is seen
    hidden.putpixel((1, 1), (10, 20, 30, 255))
    hidden.save(tmp_path / "hidden.png")
    hidden.convert("P").save(tmp_path / "hidden.gif", transparency=hidden.convert("P").getpixel((0, 0)))
    image, notes = read_image(tmp_path / "hidden.png", gray=False)
    assert (image[0, 0].tolist(), image[1, 1].tolist()) == ([255] * 3, [10, 20, 30])
    assert notes == ("transparent parts: they become white",)
    assert read_image(tmp_path / "hidden.gif", gray=True)[0][0, 0] == 255


def test_of_several_frames_the_first_is_used_and_that_is_said(tmp_path):
    frames = [Image.new("RGB", (4, 4), (60 * i, 0, 0)) for i in range(1, 4)]
    frames[0].save(tmp_path / "x.tif", save_all=True, append_images=frames[1:])
    image, notes = read_image(tmp_path / "x.tif", gray=False)
    assert image[0, 0].tolist() == [60, 0, 0]
    assert notes == ("several frames: the first is used",)


# --- what is left out ---


def test_every_format_of_pillow_counts(folder):
    picture(folder / "train" / "green" / "0.tif", (0, 200, 0))
    picture(folder / "train" / "green" / "1.webp", (0, 200, 0))
    picture(folder / "test" / "green" / "0.GIF", (0, 200, 0))
    data = load_data(f"imagefolder:{folder}")
    assert data.classes == ("blue", "green", "red")
    assert data.train.y.bincount().tolist() == [4, 2, 4]
    assert data.notes == ("1 files or folders are no images of a class and left out: train/red/notes.txt",)


def test_what_is_hidden_or_no_image_is_left_out_and_said(folder):
    expected = load_data(f"imagefolder:{folder}").fingerprint
    picture(folder / "train" / ".ipynb_checkpoints" / "0-checkpoint.png", 0, size=(3, 3))
    (folder / "train" / "red" / "._0.png").write_bytes(b"no image")
    (folder / "train" / ".DS_Store").write_bytes(b"")
    (folder / "test" / "readme.md").write_text("the test part")
    (folder / "test" / "empty").mkdir()
    picture(folder / "train" / "red" / "deeper" / "0.png", 0, size=(3, 3))
    data = load_data(f"imagefolder:{folder}")
    assert data.fingerprint == expected
    assert data.notes == (
        "3 files or folders are hidden and left out: train/.DS_Store, train/.ipynb_checkpoints, train/red/._0.png",
        "4 files or folders are no images of a class and left out: "
        "train/red/deeper, train/red/notes.txt, test/empty, ...",
    )


def test_what_images_had_is_counted(folder):
    for i in range(2):
        picture(folder / "train" / "red" / f"glass{i}.png", (200, 0, 0, 0), mode="RGBA")
    assert "2 images have transparent parts: they become white" in load_data(f"imagefolder:{folder}").notes


def test_classes_named_by_numbers_are_in_their_order(tmp_path):
    for name in range(11):
        for part in ("train", "test"):
            picture(tmp_path / part / str(name) / "0.png", (20 * name, 0, 0))
            picture(tmp_path / part / str(name) / "1.png", (20 * name, 0, 0))
    data = load_data(f"imagefolder:{tmp_path}")
    assert torch.equal(data.train.x[:, 0, 0, 0].long(), 20 * data.train.y)

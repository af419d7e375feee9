"""Inputs of every kind of file, as the network was trained on them."""

import numpy as np
import pytest
import torch
from PIL import Image

from bayesbinn.data import read_inputs
from bayesbinn.errors import UserError


def read(path, shape, offset=(), features=()):
    x, notes = read_inputs(path, shape, offset, features)
    assert notes == ()
    return x


def test_inputs_of_every_kind(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (5, 9, 10, 3), dtype=np.uint8)
    chw = torch.from_numpy(x).permute(0, 3, 1, 2).float()
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "b.npz", x=x)
    np.savez(tmp_path / "c.npz", x_train=x[:2], x_test=x)
    np.save(tmp_path / "d.npy", np.moveaxis(x, -1, 1))
    for name in ("a.npy", "b.npz", "c.npz", "d.npy"):
        assert torch.equal(read(tmp_path / name, (3, 9, 10)), chw)
    Image.fromarray(x[0]).save(tmp_path / "e.PNG")
    np.save(tmp_path / "f.npy", x[0])
    np.save(tmp_path / "g.npy", np.moveaxis(x[0], -1, 0))
    for name in ("e.PNG", "f.npy", "g.npy"):
        assert torch.equal(read(tmp_path / name, (3, 9, 10)), chw[:1])


def test_images_and_arrays_in_other_units_than_training(tmp_path):
    Image.new("L", (8, 8), 200).save(tmp_path / "bright.png")
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    with pytest.raises(UserError, match=r"bright.png is read as 0 to 255, training had 0 to 1: give an array in those"):
        read_inputs(tmp_path / "bright.png", (1, 8, 8), limits=((0.0, 1.0),))
    for name, most in (("bright.png", 255.0), ("bright.png", 120.0), ("black.png", 1.0)):
        assert read_inputs(tmp_path / name, (1, 8, 8), limits=((0.0, most),))[1] == ()
    ramp = np.arange(64.0).reshape(1, 8, 8)
    for array, limits, note in (
        (ramp, ((0.0, 1.0),), "values from 0 to 63, training had 0 to 1: is it in the same units?"),
        (ramp / 63, ((0.0, 255.0),), "values from 0 to 1, training had 0 to 255: is it in the same units?"),
        (ramp * 1.5, ((0.0, 63.0),), ""),
        (ramp, (), ""),
    ):
        np.save(tmp_path / "x.npy", array)
        assert read_inputs(tmp_path / "x.npy", (1, 8, 8), limits=limits)[1] == (
            (f"{tmp_path}/x.npy has {note}",) if note else ()
        )
    (tmp_path / "x.csv").write_text("metres,b\n1500,1\n2500,2\n")
    _, notes = read_inputs(tmp_path / "x.csv", (2,), (9.0, 0.0), ("metres", "b"), ((0.5, 4.0), (0.0, 3.0)))
    assert notes == (
        f"{tmp_path}/x.csv has values from 1500 to 2500 in column 'metres', training had 0.5 to 4: "
        "is it in the same units?",
    )


def test_gray_and_vector_inputs(tmp_path):
    x = np.arange(64.0).reshape(8, 8)
    np.save(tmp_path / "x.npy", x)
    assert read(tmp_path / "x.npy", (1, 8, 8)).shape == (1, 1, 8, 8)
    assert read(tmp_path / "x.npy", (8,)).shape == (8, 8)
    np.save(tmp_path / "one.npy", x[0])
    assert torch.equal(read(tmp_path / "one.npy", (8,)), torch.arange(8.0)[None])
    Image.new("RGB", (8, 8), (90, 90, 90)).save(tmp_path / "x.png")
    assert read(tmp_path / "x.png", (1, 8, 8)).unique().tolist() == [90]


def test_inputs_that_are_refused(tmp_path):
    def refused(name, match, shape=(1, 8, 8)):
        with pytest.raises(UserError, match=match):
            read(tmp_path / name, shape)

    refused("none.npy", r"no file at .*none\.npy")
    refused("none.png", r"no file at .*none\.png")
    (tmp_path / "x.csv").write_text("1,2")
    refused("x.csv", r"x\.csv is empty, of shape \(0, 2\)")
    (tmp_path / "x.txt").write_text("1,2")
    refused("x.txt", r"cannot read .*x\.txt: \.txt suffix, expected \.npy, \.npz, \.csv or an image")
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


def test_tables_need_the_columns_of_training(tmp_path):
    (tmp_path / "x.csv").write_text("time,b,label\n1700000001,2,0\n1700000003,4,1\n")
    x = read(tmp_path / "x.csv", (2,), (1.7e9, 0.0), ("time", "b"))
    assert x.tolist() == [[1, 2], [3, 4]]
    for features, message in (
        (
            ("b", "time"),
            "x.csv has 'time' as column 1, training has 'b' there: give the same columns",
        ),
        (("time",), "x.csv has 2 columns, training has 1 there"),
    ):
        with pytest.raises(UserError, match=message):
            read_inputs(tmp_path / "x.csv", (len(features),), (), features)


def test_channels_are_where_the_network_has_them(tmp_path):
    x = np.random.default_rng(0).normal(size=(5, 64, 4, 4)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    assert np.array_equal(read(tmp_path / "x.npy", (64, 4, 4)), x)
    assert np.array_equal(read(tmp_path / "x.npy", (4, 64, 4)), np.moveaxis(x, -1, 1))


def test_images_are_read_as_in_training(tmp_path):
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)
    Image.fromarray(ramp).save(tmp_path / "x.png")
    assert np.array_equal(read(tmp_path / "x.png", (1, 8, 8))[0, 0], ramp.astype(np.float32) / 257)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (8, 4)).save(tmp_path / "x.jpg", exif=turned)
    assert read(tmp_path / "x.jpg", (3, 8, 4)).shape == (1, 3, 8, 4)
    Image.new("RGBA", (8, 8)).save(tmp_path / "glass.webp")
    assert read_inputs(tmp_path / "glass.webp", (3, 8, 8))[1] == (
        f"{tmp_path}/glass.webp has transparent parts: they become white",
    )

"""Inputs of every kind of file, as the network was trained on them."""

import numpy as np
import pytest
import torch
from PIL import Image

from bayesbinn.data import read_inputs
from bayesbinn.errors import UserError


def read(path, shape, offset=()):
    x, notes = read_inputs(path, shape, offset)
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
    refused("x.csv", r"cannot read .*x\.csv: \.csv suffix, expected \.npy, \.npz or an image")
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

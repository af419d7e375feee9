"""Charts are well-formed SVG that says in words what it shows."""

import struct
import zlib
from base64 import b64decode
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

from bayesbinn.evaluation.report.charts import Axis, Series, chart, nice_ticks
from bayesbinn.evaluation.report.html import figure
from bayesbinn.evaluation.report.png import data_uri


@pytest.mark.parametrize("y", [[0.1, 0.5, 0.2], [0.3, 0.3, 0.3], [0.0, 0.0, 0.0], [-5.0, 2.0, 1e6], [1e-9, 2e-9, 1e-9]])
def test_every_point_is_inside_and_the_words_are_there(y):
    svg = ElementTree.fromstring(chart([Series('a<b&"', [0, 1, 2], y)], Axis("x"), Axis("y"), 'T"<', "words & <more>"))
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == 'T"<. words & <more>'
    width, height = map(float, svg.get("viewBox").split()[2:])
    for line in svg.iter("polyline"):
        points = [tuple(map(float, p.split(","))) for p in line.get("points").split()]
        assert len(points) == 3
        assert all(0 <= px <= width and 0 <= py <= height for px, py in points)
        order = np.argsort([-py for _, py in points], kind="stable")  # higher values are drawn higher up
        assert [y[i] for i in order] == sorted(y)
    assert sum(1 for _ in svg.iter("text")) >= 4


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.97, 0.99), (-130, 130), (0, 1e-6), (0, 12345)])
def test_ticks_are_round_and_inside(low, high):
    ticks = nice_ticks(low, high)
    assert 2 <= len(ticks) <= 11
    assert low - 1e-9 <= ticks[0] < ticks[-1] <= high + 1e-9


def test_the_numbers_of_a_figure_are_in_its_table():
    text = figure("Title", "words", [Series("a", [1, 2], [0.25, 0.5]), Series("b", [2], [0.125])], Axis("x"), Axis("y"))
    for cell in ("<td>0.2500</td>", "<td>0.5000</td>", "<td>0.1250</td>", "<td></td>", "<summary>Numbers</summary>"):
        assert cell in text
    ElementTree.fromstring(text)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_holds_the_pixels(channels):
    image = torch.randint(0, 256, (channels, 5, 4), dtype=torch.uint8)
    png = b64decode(data_uri(image, 0, 255).split(",")[1])
    assert struct.unpack(">II", png[16:24]) == (4, 5)
    start = png.index(b"IDAT")
    rows = zlib.decompress(png[start + 4 : start + 4 + struct.unpack(">I", png[start - 4 : start])[0]])
    pixels = np.frombuffer(rows, np.uint8).reshape(5, 1 + 4 * channels)[:, 1:].reshape(5, 4, channels)
    np.testing.assert_array_equal(pixels, image.permute(1, 2, 0).numpy())

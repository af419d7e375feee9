"""Charts: well-formed SVG of the page's colours, axes that fit the numbers, and the same file every time."""

import io
import math
import re
from base64 import b64decode
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib import rc_context
from PIL import Image

from bayesbinn.evaluation.report import charts
from bayesbinn.evaluation.report.charts import HEIGHT, TEXT, WIDTH, Axis, Series, chart, heat_map
from bayesbinn.evaluation.report.run import png

SPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@pytest.fixture
def drawn(monkeypatch):
    """The matplotlib axes of every chart that the test makes."""
    found, place = [], charts._place

    def keep(axes, *options, **more):
        found.append(axes)
        place(axes, *options, **more)

    monkeypatch.setattr(charts, "_place", keep)
    return found


def parsed(svg):
    return ElementTree.fromstring(svg.replace("<svg ", f"<svg {SPACES} ", 1))


@pytest.mark.parametrize("x", [[0, 1, 2], [100_000, 250_000, 400_000]])
@pytest.mark.parametrize("y", [[0.1, 0.5, 0.2], [0.3] * 3, [0.0] * 3, [-5.0, 2.0, 1e6], [1e-9, 2e-9, 1e-9]])
def test_the_svg_is_whole_says_what_it_shows_and_has_room_for_its_numbers(x, y, drawn):
    figure = chart('T"<', "$words$ & <more>", [Series("a<b&$", x, y)], Axis("x", x[0], x[-1]), Axis("y"))
    svg = parsed(figure.svg)
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == 'T"<. $words$ & <more>'
    assert svg.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    low, high = drawn[0].get_ylim()
    assert low <= min(y) <= max(y) <= high
    drawn[0].figure.draw_without_rendering()
    for axis in (drawn[0].xaxis, drawn[0].yaxis):
        start, end = axis.get_view_interval()
        boxes = [t.label1.get_window_extent() for t in axis.get_major_ticks() if start <= t.get_loc() <= end]
        assert len(boxes) >= 3
        assert all(box.x0 >= 0 and box.x1 <= drawn[0].figure.bbox.x1 for box in boxes)


def test_text_is_text_and_colours_are_the_page_s():
    figure = chart("t", "w", [Series(str(i), [0, 1], [i, 1]) for i in range(6)], Axis("x"), Axis("y"))
    sizes = re.findall(r"font(?:-size)?: ?([\d.]+)px", figure.svg)
    assert len(sizes) > 6
    assert {float(size) for size in sizes} == {TEXT}
    assert re.findall(r"#[0-9a-f]{6}\b", figure.svg) == []  # every colour follows light and dark
    assert [colour for _, colour, _ in figure.keys] == [f"var(--c{i})" for i in (1, 2, 3, 4, 5, 1)]


def test_the_same_numbers_give_the_same_file_and_no_id_twice():
    one, again, other = (chart(t, "w", [Series("a", [0, 1], [0, 1])], Axis("x"), Axis("y")).svg for t in "aab")
    with rc_context({"axes.facecolor": "#ff0000", "font.size": 30, "svg.fonttype": "path"}):  # of another program
        assert chart("a", "w", [Series("a", [0, 1], [0, 1])], Axis("x"), Axis("y")).svg == one == again
    for word in ("http", "Matplotlib", "<style", "<!--", "date"):
        assert word not in one
    ids = [re.findall(r'id="([^"]*)"', svg) for svg in (one, other)]
    assert not set(ids[0]) & set(ids[1])
    assert set(re.findall(r'(?:url\(|href=")#([^")]*)', one)) <= set(ids[0])


def test_an_accuracy_axis_ends_at_one_and_no_axis_falls_below_zero(drawn):
    for y in ([0.97, 0.99], [1.0, 1.0], [0.0, 0.01], [0.5]):
        chart("t", "w", [Series("a", range(len(y)), y)], Axis("x"), Axis("share right", high=1))
        low, high = drawn[-1].get_ylim()
        assert high == 1
        assert 0 <= low <= min(y)
    for y in ([-1, 1], [math.nan, -1, 1]):
        chart("t", "w", [Series("a", range(len(y)), y)], Axis("x"), Axis("gain"))
        assert drawn[-1].get_ylim()[0] < -1


def test_an_axis_fits_its_numbers_and_a_mark_on_its_edge_is_whole(drawn):
    chart("t", "w", [Series("a", [1, 2, 3], [11.9, 11.7, 11.6])], Axis("x"), Axis("nats"))
    low, high = drawn[-1].get_ylim()
    assert high - low < 0.5
    chart("t", "w", [Series("a", [0, 1], [0.5, 1], "points")], Axis("x", 0, 1), Axis("y", 0, 1))
    assert [line.get_clip_on() for line in drawn[-1].lines] == [False]


def test_a_histogram_fills_its_axes(drawn):
    figure = chart("t", "w", [Series("a", [0, 0.1, 0.2], [0.75, 0.25], "bins")], Axis("x", 0, 0.2), Axis("share", 0))
    assert drawn[0].get_xlim() == (0, 0.2)
    assert drawn[0].get_ylim()[1] == pytest.approx(0.75, rel=0.1)
    assert figure.numbers.rows == [["0", "0.7500"], ["0.1", "0.2500"]]


def test_the_numbers_of_a_figure_are_in_its_table():
    lines = [Series("a", [1, 2], [0.25, 0.5]), Series("b", [2], [0.125]), Series("none", [0], [1], "guide")]
    figure = chart("T", "words", lines, Axis("x"), Axis("y"))
    assert (figure.numbers.head, figure.numbers.caption) == (["x", "a", "b"], "T: y")
    assert figure.numbers.rows == [["1", "0.2500", ""], ["2", "0.5000", "0.1250"]]


def test_named_positions(drawn):
    names = ["mode", *(str(2**i) for i in range(12))]
    figure = chart("t", "w", [Series("a", range(13), [0.5] * 13)], Axis("networks", names=names), Axis("y"))
    assert [row[0] for row in figure.numbers.rows] == names
    assert [label.get_text() for label in drawn[0].get_xticklabels()] == names[::2]  # they would touch


def test_a_heat_map_holds_the_matrix(drawn):
    matrix = [[0.9, 0.1], [0.5, 0.75]]
    figure = heat_map("t", "w", matrix, Axis("accuracy on task"), Axis("after task"))
    np.testing.assert_array_equal(drawn[0].images[0].get_array(), matrix)
    assert drawn[0].images[0].get_clim() == (0, 1)
    assert figure.numbers.rows == [["1", "0.900", "0.100"], ["2", "0.500", "0.750"]]
    assert {"accuracy on task", "after task"} <= {text.text for text in parsed(figure.svg).iter() if text.text}
    links = re.findall(r'href="([^"]*)', figure.svg)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert any(link.startswith("data:") for link in links)


@pytest.mark.parametrize(("channels", "kept"), [(1, 1), (3, 3), (2, 1)])
def test_a_png_holds_the_pixels(channels, kept):
    image = torch.randint(0, 256, (channels, 5, 4), dtype=torch.uint8)
    pixels = np.asarray(Image.open(io.BytesIO(b64decode(png(image / 255).split(",")[1]))))
    np.testing.assert_array_equal(pixels.reshape(5, 4, kept), image[:kept].permute(1, 2, 0))

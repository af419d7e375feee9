"""Figures of the documentation: read on a phone, in light and in dark, the same file for the same numbers."""

import re
from xml.etree import ElementTree

import pytest

from experiments.figure_style import COLOURS, DARK, INK, PAPER, WIDTH, legend, line, panel
from tests.pages import DOCS

PHONE = 358  # px that a page has for a figure on a phone of 390
PANELS = [*DOCS.glob("figures/estimators-*.svg"), DOCS / "figures/language-curves.svg", *DOCS.glob("uncertainty/*.svg")]


def drawn(path, **labels):
    with panel(path, title="a < b", xlabel="x", **labels) as axes:
        for i in range(len(COLOURS)):
            axes.plot([1, 10], [0.001, 10.0 ** (i - 2)], label=f"series {i}", **line(i))
        axes.legend()
    return path.read_text(encoding="utf-8")


def luminance(colour):
    values = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_every_colour_has_one_for_dark_pages_and_both_are_seen(tmp_path):
    svg = drawn(tmp_path / "a.svg")
    shapes = svg[svg.index("</style>") :]
    found = set(re.findall(r"(fill|stroke): (#[0-9a-f]{6})", shapes))
    assert {PAPER, INK, *COLOURS} <= {colour for _, colour in found} <= set(DARK)
    for kind, colour in found:
        assert f'[style*="{kind}: {colour}"]{{{kind}:{DARK[colour]}!important}}' in svg
    for colour in COLOURS:
        assert contrast(colour, PAPER) > 4.5
        assert contrast(DARK[colour], DARK[PAPER]) > 4.5


def test_the_same_numbers_give_the_same_whole_file(tmp_path):
    svg = drawn(tmp_path / "a.svg")
    assert drawn(tmp_path / "a.svg") == svg
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert "a &lt; b" in svg


def test_a_logarithmic_axis_has_numbers_in_the_size_of_the_others(tmp_path):
    svg = drawn(tmp_path / "a.svg", yscale="log", xscale="log")
    assert {"0.001", "0.1", "1", "10"} <= set(re.findall(r">([\d.]+)</text>", svg))
    assert len(set(re.findall(r"font(?:-size)?: ([\d.]+)px", svg))) == 1


def test_twelve_series_differ_and_a_legend_names_them(tmp_path):
    assert len({str(line(i)) for i in range(12)}) == 12
    legend(tmp_path / "names.svg", {f"name {i}": line(i) for i in range(12)})
    svg = (tmp_path / "names.svg").read_text(encoding="utf-8")
    assert re.findall(r">(name \d+)</text>", svg) == [f"name {i}" for i in range(12)]


@pytest.mark.parametrize("path", PANELS, ids=lambda path: path.stem)
def test_the_stored_panels_are_of_this_look_and_their_text_is_read_on_a_phone(path):
    svg = path.read_text(encoding="utf-8")
    width = float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1])
    assert width == WIDTH
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: ([\d.]+)px", svg)]
    assert min(sizes) * min(PHONE, width * 96 / 72) / width >= 11
    assert "prefers-color-scheme: dark" in svg

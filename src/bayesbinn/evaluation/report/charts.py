"""Line and area charts as inline SVG: coloured by the page's style sheet, so that they follow light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 264
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 30, 42


@dataclass(frozen=True)
class Series:
    """A named line through the points (x, y); `kind` is "line", "area" (filled to 0), "points" or "guide"."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    kind: str = "line"


@dataclass(frozen=True)
class Axis:
    """A scale: `label` with its unit; `low` and `high` None fit the data; `form` writes a tick.

    With `positions` the axis has exactly these (value, text) ticks, evenly spaced in the order given.
    """

    label: str
    low: float | None = None
    high: float | None = None
    form: str = "{:g}"
    positions: Sequence[tuple[float, str]] = ()


def chart(series: Sequence[Series], x: Axis, y: Axis, title: str, words: str) -> str:
    """An SVG with axes, grid and series, and `title` and `words` for those who do not see it.

    >>> chart([Series("a", [0, 1], [0, 1])], Axis("x"), Axis("y"), "t", "w")[:4]
    '<svg'
    """
    x_low, x_high, x_ticks = _scale(x, [v for s in series for v in s.x])
    y_low, y_high, y_ticks = _scale(y, [v for s in series for v in s.y])
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(px: float, py: float) -> str:
        fx = (_position(x, px) - x_low) / (x_high - x_low)
        fy = min(1.0, max(0.0, (py - y_low) / (y_high - y_low)))
        return f"{LEFT + inner_width * fx:.1f},{TOP + inner_height * (1 - fy):.1f}"

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}. {words}", quote=True)}">']
    for value, text in y_ticks:
        _, py = place(0 if not x.positions else x.positions[0][0], value).split(",")
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py}" y2="{py}"/>')
        parts.append(f'<text x="{LEFT - 7}" y="{float(py) + 4:.1f}" text-anchor="end">{escape(text)}</text>')
    for value, text in x_ticks:
        px, _ = place(value, y_low).split(",")
        parts.append(f'<text x="{px}" y="{HEIGHT - BOTTOM + 17}" text-anchor="middle">{escape(text)}</text>')
    base = TOP + inner_height
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    middle = LEFT + inner_width / 2
    parts.append(f'<text class="label" x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x.label)}</text>')
    parts.append(f'<text class="label" x="0" y="13">{escape(y.label)}</text>')
    number = 0
    for s in series:
        points = [place(px, py) for px, py in zip(s.x, s.y, strict=True)]
        if not points:
            continue
        if s.kind == "guide":
            parts.append(f'<polyline class="guide" points="{" ".join(points)}"/>')
            continue
        number += 1
        if s.kind == "area":
            first, last = points[0].split(",")[0], points[-1].split(",")[0]
            parts.append(f'<polygon class="fill c{number}" points="{first},{base} {" ".join(points)} {last},{base}"/>')
        parts.append(f'<polyline class="line c{number}" points="{" ".join(points)}"/>')
        if s.kind == "points" or len(points) <= 12:
            parts += ['<circle class="dot c{}" cx="{}" cy="{}" r="3"/>'.format(number, *p.split(",")) for p in points]
    return "".join([*parts, "</svg>"])


def steps(share: Sequence[float], low: float, high: float) -> tuple[list[float], list[float]]:
    """The outline of a histogram with equal bins from `low` to `high`.

    >>> steps([1.0, 2.0], 0, 1)
    ([0.0, 0.5, 0.5, 1.0], [1.0, 1.0, 2.0, 2.0])
    """
    width = (high - low) / len(share)
    edges = [(low + width * i, low + width * (i + 1)) for i in range(len(share))]
    return [float(edge) for pair in edges for edge in pair], [float(s) for s in share for _ in range(2)]


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, a step of 1, 2 or 5 times a power of ten apart.

    >>> nice_ticks(0, 1)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / about
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _scale(axis: Axis, values: Sequence[float]) -> tuple[float, float, list[tuple[float, str]]]:
    if axis.positions:
        return -0.4, len(axis.positions) - 0.6, list(axis.positions)
    finite = [v for v in values if math.isfinite(v)] or [0.0, 1.0]
    low = min(finite) if axis.low is None else axis.low
    high = max(finite) if axis.high is None else axis.high
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5 * (abs(low) or 1.0) * (axis.low is None), high + 0.5 * (abs(high) or 1.0)
    if axis.low is None and axis.label and not axis.positions and axis.high is None:
        margin = 0.06 * (high - low)
        low, high = low - margin if low < 0 or low > margin else 0.0, high + margin
    ticks = nice_ticks(low, high)
    decimals = max((len(f"{t:.10f}".rstrip("0").split(".")[1]) for t in ticks), default=0)
    form = axis.form if axis.form != "{:g}" else ("{:,.0f}" if decimals == 0 else f"{{:.{decimals}f}}")
    return low, high, [(t, form.format(t)) for t in ticks]


def _position(axis: Axis, value: float) -> float:
    if not axis.positions:
        return value
    return float(next(i for i, (at, _) in enumerate(axis.positions) if at == value))

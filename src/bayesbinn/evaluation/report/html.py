"""The few pieces of HTML that the sections are built from."""

from collections.abc import Sequence
from html import escape

from .charts import Axis, Series, chart


def tag(name: str, text: str, kind: str = "") -> str:
    """An element with escaped text.

    >>> tag("p", "1 < 2", "soft")
    '<p class="soft">1 &lt; 2</p>'
    """
    return f'<{name} class="{kind}">{escape(text)}</{name}>' if kind else f"<{name}>{escape(text)}</{name}>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str) -> str:
    """A table with a caption and row headers, scrolling sideways where it is too wide (also by keyboard)."""
    columns = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    body = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(tag("td", cell) for cell in rest)}</tr>'
        for first, *rest in rows
    )
    label = escape(caption, quote=True)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}"><table><caption>{escape(caption)}'
        f"</caption><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figure(title: str, words: str, series: Sequence[Series], x: Axis, y: Axis, decimals: int = 4) -> str:
    """A chart under its title, what it says in words, a legend where there are several series, and its numbers."""
    shown = [s for s in series if s.kind != "guide"]
    legend = ""
    if len(shown) > 1:
        keys = "".join(f"<li>{_key(i)}{escape(s.name)}</li>" for i, s in enumerate(shown, start=1))
        legend = f'<ul class="legend">{keys}</ul>'
    return (
        f'<figure><figcaption><h3>{escape(title)}</h3><p class="words">{escape(words)}</p></figcaption>{legend}'
        f"{chart(series, x, y, title, words)}{_numbers(shown, x, y, title, decimals)}</figure>"
    )


def percent(value: float, digits: int = 2) -> str:
    """A share as text.

    >>> percent(0.9884)
    '98.84 %'
    """
    return f"{100 * value:.{digits}f} %"


def size(num_bytes: int) -> str:
    """A number of bytes as text, to three digits.

    >>> size(123_456)
    '123 kB'
    """
    for unit, scale in (("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= scale:
            return (
                f"{num_bytes / scale:,.3g} {unit}" if num_bytes < 1000 * scale else f"{num_bytes / scale:,.0f} {unit}"
            )
    return f"{num_bytes} bytes"


def _key(number: int) -> str:
    line = f'<polyline class="line c{number}" points="1,5 25,5"/>'
    return f'<svg viewBox="0 0 26 10" aria-hidden="true">{line}</svg>'


def _numbers(series: Sequence[Series], x: Axis, y: Axis, title: str, decimals: int) -> str:
    places = sorted({v for s in series for v in s.x})
    names = dict(x.positions)
    values = [dict(zip(s.x, s.y, strict=True)) for s in series]
    rows = [
        [names.get(at, f"{at:g}" if at == round(at) else f"{at:.3f}")]
        + [f"{v[at]:.{decimals}f}" if at in v else "" for v in values]
        for at in places
    ]
    body = table([x.label, *(s.name for s in series)], rows, f"{title}: {y.label}")
    return f"<details><summary>Numbers</summary>{body}</details>"

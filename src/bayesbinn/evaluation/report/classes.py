"""Class by class: what is found, what is right, and what is taken for what."""

from collections.abc import Sequence
from typing import Any

from .page import Section, Table, percent

SHOWN = 20  # classes; of more, those that are found least, and no matrix


def classes(evaluation: dict[str, Any], names: Sequence[str]) -> list[Section]:
    """The table of classes, and for up to 20 of them the confusion matrix, from `figures.confusion`."""
    counts: list[list[int]] = evaluation["figures"]["confusion"]
    labelled, named = [sum(row) for row in counts], [sum(column) for column in zip(*counts, strict=True)]

    def share(count: int, of: int) -> str:
        return percent(count / of, 1) if of else "–"

    def taken(c: int) -> str:
        others = [(count, other) for other, count in enumerate(counts[c]) if other != c and count]
        most, other = max(others, key=lambda pair: pair[0], default=(0, c))
        return f"{names[other]} ({most})" if most else "–"

    order = [*range(len(counts))]
    if len(order) > SHOWN:
        order = sorted(order, key=lambda c: counts[c][c] / labelled[c] if labelled[c] else 2.0)[:SHOWN]
    rows = [
        [names[c], f"{labelled[c]:,}", share(counts[c][c], labelled[c]), share(counts[c][c], named[c]), taken(c)]
        for c in order
    ]
    text = (
        "Found: share of a class's test examples that are named right (recall). Right: share of what is named so that "
        "is of the class (precision)."
    )
    what = f"The {SHOWN} of {len(counts)} classes that are found least" if len(counts) > SHOWN else "Every class"
    head = ["class", "examples", "found", "right", "most often taken for"]
    sections = [Section("classes", "Class by class", text, table=Table(what, head, rows))]
    if len(counts) <= SHOWN:
        cells = [[names[c], *(f"{n:,}" if n else "·" for n in row)] for c, row in enumerate(counts)]
        shades = [[n / max(labelled[c], 1) for n in row] for c, row in enumerate(counts)]
        matrix = Table("Test examples: rows are labels, columns what they are taken for", ["", *names], cells, shades)
        sections.append(Section("confusion", "What is taken for what", table=matrix))
    return sections

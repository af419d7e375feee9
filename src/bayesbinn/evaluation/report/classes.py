"""Class by class: precision and recall, and what is taken for what."""

from collections.abc import Sequence
from typing import Any

from .page import Section, Table

SHOWN = 20  # classes; of more, those of the lowest recall, and the most frequent confusions in place of the matrix
EXPLAINED = (
    "Precision: share of what is named so that is of the class. Recall: share of the class's test examples that are "
    "named so. F1: their harmonic mean. Taken for: the other class that is named for it most often."
)


def classes(evaluation: dict[str, Any], names: Sequence[str]) -> list[Section]:
    """The table of classes and what is taken for what, from `figures.confusion`."""
    counts: list[list[int]] = evaluation["figures"]["confusion"]
    confused = _matrix(counts, names) if len(counts) <= SHOWN else _pairs(counts, names)
    sections = [Section("classes", "Class by class", EXPLAINED, table=_each(counts, names))]
    return [*sections, Section("confusion", "What is taken for what", table=confused)] if confused else sections


def _each(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Table:
    """Precision, recall, F1 and count of every class, or of the 20 of the lowest recall."""
    labelled, named = [sum(row) for row in counts], [sum(column) for column in zip(*counts, strict=True)]

    def row(c: int) -> list[str]:
        right, others = counts[c][c], [(n, -other) for other, n in enumerate(counts[c]) if other != c and n]
        most, other = max(others, default=(0, 0))
        shares = (_share(right, named[c]), _share(right, labelled[c]), _share(2 * right, labelled[c] + named[c]))
        return [names[c], *shares, f"{labelled[c]:,}", f"{names[-other]} ({most:,})" if most else "–"]

    order: Sequence[int] = range(len(counts))
    if len(order) > SHOWN:
        order = sorted(order, key=lambda c: counts[c][c] / labelled[c] if labelled[c] else 2.0)[:SHOWN]
    what = f"The {SHOWN} of {len(counts)} classes of the lowest recall" if len(counts) > SHOWN else "Every class"
    head = ["class", "precision", "recall", "F1", "count", "taken for"]
    return Table(what, head, [row(c) for c in order])


def _matrix(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Table:
    """The confusion matrix, each cell coloured by its share of the label's examples: right and wrong."""
    cells = [[names[c], *(f"{n:,}" if n else "·" for n in row)] for c, row in enumerate(counts)]
    shades = [[(n if o == c else -n) / max(sum(row), 1) for o, n in enumerate(row)] for c, row in enumerate(counts)]
    return Table("Test examples: rows are labels, columns what they are taken for", ["", *names], cells, shades)


def _pairs(counts: Sequence[Sequence[int]], names: Sequence[str]) -> Table | None:
    """The most frequent confusions; None where there is none."""
    wrong = [(n, c, o) for c, row in enumerate(counts) for o, n in enumerate(row) if n and o != c]
    most = sorted(wrong, key=lambda found: (-found[0], *found[1:]))[:SHOWN]
    rows = [[names[c], names[other], f"{n:,}", _share(n, sum(counts[c]))] for n, c, other in most]
    caption = f"The {len(rows)} most frequent confusions, {sum(n for n, *_ in most):,} of {sum(n for n, *_ in wrong):,}"
    head = ["label", "taken for", "examples", "share of the label's"]
    return Table(caption, head, rows) if rows else None


def _share(count: int, of: int) -> str:
    return f"{count / of:.3f}" if of else "–"

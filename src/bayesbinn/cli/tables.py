"""Plain tables for the terminal."""

from collections.abc import Sequence
from typing import Any


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of aligned columns: the first to the left, the others to the right.

    >>> table([["layer", "bits"], ["1", "40,960"]])
    ['layer    bits', '1      40,960']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(c.rjust(w) if i else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))).rstrip()
        for row in rows
    ]


def evaluation_lines(result: dict[str, Any]) -> list[str]:
    """The result of `train.evaluate` as text."""
    rows = [["", "accuracy", "NLL (nats)", "ECE"]]
    for name, label in (("mode", "mode"), ("mean", f"mean of {result['num_samples']}")):
        if result[name] is not None:
            m = result[name]
            rows.append([label, f"{m['accuracy']:.2%}", f"{m['nll']:.4f}", f"{m['ece']:.4f}"])
    lines = [f"on {result['num_examples']:,} test examples:", *table(rows)]
    if result["posterior"] is None:
        return [*lines, "no posterior: this method learns one network, so there is no mean and no model uncertainty"]
    p = result["posterior"]
    return [
        *lines,
        f"posterior of {p['num_weights']:,} weights: {p['undecided']:.1%} undecided (|λ| < 1), "
        f"{p['saturated']:.1%} saturated (|μ| > 0.99), entropy {p['entropy']:.3f} of 0.693 nats a weight",
    ]

"""The sections of the page of a network of text, from plain numbers of `evaluate_voters`."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from .page import Section
from .uncertainty import samples

EXPLAINED = (
    "Bits per byte: what the text would take after compression by the network, of 8. NLL and perplexity are per token."
)


def sections(evaluation: dict[str, Any]) -> list[Section | None]:
    """How many networks it takes."""
    return [samples(evaluation)]


def ends(evaluation: dict[str, Any], inputs: Tensor, names: Sequence[str]) -> list[Section | None]:
    """Nothing more."""
    return []


def tiles(m: dict[str, float], voters: str) -> list[tuple[str, str, str]]:
    """The figures above the page."""
    return [
        ("Bits per byte", f"{m['bits_per_byte']:.3f}", voters),
        ("Perplexity", f"{m['perplexity']:.2f}", "per token"),
    ]

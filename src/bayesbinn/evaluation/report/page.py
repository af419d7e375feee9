"""The page: every figure with its title, its message in words, and its numbers in a table."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

from . import sections
from .html import tag

# nothing may be fetched, and nothing may run
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Content:
    """What a report shows.

    Attributes:
        title: of the page.
        config: the settings of the run (of the first, for an ensemble).
        log: the lines of metrics.jsonl; may be empty.
        evaluation: of `evaluation.evaluate_voters`.
        naturals: of `figures.natural_histograms`.
        size: of `figures.network_size`.
        images: data URIs of the examples' images by index; may be empty.
        environment: of `environment`.
    """

    title: str
    config: dict[str, Any]
    log: list[dict[str, Any]]
    evaluation: dict[str, Any]
    naturals: list[dict[str, Any]]
    size: dict[str, Any]
    images: dict[int, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)


def render(c: Content) -> str:
    """The whole HTML document."""
    parts: Sequence[tuple[str, str, str]] = [
        ("result", "Result", sections.result(c.evaluation)),
        ("training", "Training", sections.training(c.log)),
        ("calibration", "Does confidence mean what it says?", sections.calibration(c.evaluation)),
        ("samples", "How many networks?", sections.samples(c.evaluation)),
        ("selective", "Answering only when sure", sections.selective(c.evaluation)),
        ("outside", "Inputs of another kind", sections.outside(c.evaluation)),
        ("corruptions", "Damaged inputs", sections.corruptions(c.evaluation)),
        ("weights", "The posterior, layer by layer", sections.weights(c.naturals, c.evaluation)),
        ("examples", "Most and least certain", sections.examples(c.evaluation, c.images)),
        ("made", "How this was made", sections.made(c.config, c.size, c.environment)),
    ]
    shown = [(name, heading, body) for name, heading, body in parts if body]
    links = "".join(f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, heading, _ in shown)
    bodies = "".join(
        f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{escape(heading)}</h2>{body}</section>'
        for name, heading, body in shown
    )
    style = (files(__package__) / "report.css").read_text(encoding="utf-8")
    lead = f"{c.config['model']} on {c.config['data']}, trained with {c.config['method']}"
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(c.title)} – bayesbinn report</title><style>{style}</style>"
    )
    header = (
        f"<header>{tag('h1', c.title)}{tag('p', lead, 'soft')}{sections.tiles(c.evaluation, c.size)}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>'
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body><a class="skip" href="#result">Skip to the result'
        f"</a>{header}<main>{bodies}</main><footer></footer></body></html>\n"
    )

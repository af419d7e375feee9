"""Gather what a report shows, and write it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ...environment import environment
from ...files import write_text
from ..figures import natural_histograms, network_size
from .page import Content, render
from .png import data_uri


def write_report(
    path: Path, runs: Sequence[Path], net: nn.Module, config: dict[str, Any], inputs: Tensor, evaluation: dict[str, Any]
) -> None:
    """Write the report of a run, or of an ensemble of several, to `path`, whole or not at all.

    Args:
        path: of the HTML file.
        runs: the run's folder, or those of the ensemble's members.
        net, config: of the (first) run; config its settings by name.
        inputs: the test inputs that the examples' indices point into.
        evaluation: of `evaluation.evaluate_voters`.
    """
    log_file = runs[0] / "metrics.jsonl"
    log = []
    if len(runs) == 1 and log_file.exists():
        log = [json.loads(line) for line in log_file.read_text(encoding="utf-8").splitlines()]
    indices = {e["index"] for group in evaluation["figures"]["examples"].values() for e in group}
    images = {}
    if inputs.ndim == 4:
        low, high = float(inputs.min()), float(inputs.max())
        images = {i: data_uri(inputs[i].cpu(), low, high) for i in sorted(indices)}
    content = Content(
        title=runs[0].resolve().name if len(runs) == 1 else f"Ensemble of {len(runs)} runs",
        config=config,
        log=log,
        evaluation=evaluation,
        naturals=natural_histograms(net) if evaluation["posterior"] else [],
        size=network_size(net, copies=len(runs)),
        images=images,
        environment=environment(),
    )
    write_text(path, render(content))

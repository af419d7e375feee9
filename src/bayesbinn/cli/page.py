"""What a web page says of a run: names, examples, when to call an answer unsure."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import __version__, deploy
from ..data import Data, load_data
from ..errors import UserError
from ..runtime import load
from ..training import load_run

TESTED, EXAMPLES = 2000, 10  # test inputs that the limits come from; that the page shows
KNOWN = 0.99  # share of test inputs that do not count as never seen


def page_of(run: Path, raw: bytes) -> tuple[deploy.Page, tuple[str, ...]]:
    """What the page of a run says, and notes of what it cannot say; `raw` is its `.bbnn` file."""
    if run.is_file():
        note = f"{run} holds bits alone: the page has no examples and never says “never seen this”; the run has both"
        return deploy.Page(title=run.stem, facts=_file_facts(raw)), (note,)
    _, config, description = load_run(run)
    if description["task"] != "classification":
        raise UserError(f"{run} predicts a number, a page shows classes: choose another --format")
    said: dict[str, Any] = {
        "title": config.data.rpartition("/")[2].rpartition(":")[2],
        "features": tuple(description["features"]),
        "facts": (*_run_facts(run, config.data, description), *_file_facts(raw)),
    }
    try:
        kept = ("classes", "offset", "features", "limits", "target", "task", "columns")
        known = {name: description[name] for name in kept}
        data = load_data(config.data, **known)
    except UserError as error:
        return deploy.Page(**said), (f"the page has no examples and never says “never seen this”: {error}",)
    notes = []
    if description["columns"]:
        notes.append(
            "the page's form takes the numbers that the network takes (scaled, 0 or 1 for words), not the table's own; "
            "it says so"
        )
    if data.fingerprint != description["data"]:
        notes.append(f"{config.data} has changed since {run} was trained: the page's examples are of the new data")
    return deploy.Page(**said | _from_data(data, raw)), tuple(notes)


def _from_data(data: Data, raw: bytes) -> dict[str, Any]:
    chosen = torch.randperm(len(data.test), generator=torch.Generator().manual_seed(0))[:TESTED]
    x = np.ascontiguousarray(data.test.x[chosen].float().numpy())
    network = load(raw)
    found: dict[str, Any] = {"examples": x[:EXAMPLES]}
    if network.num_samples:
        found["unseen"] = float(np.quantile(network.predict_uncertainty(x).mutual_information, KNOWN))
    if data.train.x.ndim == 4:
        low, high = float(data.train.x.min()), float(data.train.x.max())
        border = np.concatenate([x[:, :, 0].ravel(), x[:, :, -1].ravel(), x[..., 0].ravel(), x[..., -1].ravel()])
        found |= {"low": low, "high": high, "light_ink": bool(border.mean() < (low + high) / 2)}
    elif data.features:
        found["typical"] = tuple(float(f"{value:.4g}") for value in data.train.x.float().median(0).values.tolist())
    return found


def _run_facts(run: Path, name: str, description: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    facts = [
        ("Learned from", f"{name}: {description['num_train']:,} examples of {description['num_outputs']} classes"),
        ("Method", f"{description['method']}, network {description['model']}"),
    ]
    path = run / "evaluation.json"
    scores = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for key, what in (
        ("mode", "the most probable network"),
        ("mean", f"the mean of {scores.get('num_samples')} networks"),
    ):
        if key in scores:
            facts.append((f"Right on test data, {what}", f"{100 * scores[key]['accuracy']:.2f} %"))
    return tuple(facts)


def _file_facts(raw: bytes) -> tuple[tuple[str, str], ...]:
    described = deploy.describe(deploy.load_program(raw))
    networks = (
        f"{described.num_samples} drawn from the posterior" if described.num_samples else "one, the most probable"
    )
    return (
        ("Networks", networks),
        ("Weights of each", f"{described.total.num_weights:,}; the binary ones take one bit"),
        ("File", f"{len(raw):,} bytes"),
        ("Made with", f"bayesbinn {__version__}"),
    )

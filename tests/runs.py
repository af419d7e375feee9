"""What the tests of training runs share: tiny data, tiny networks, and what a run has left on disk."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bayesbinn.training.checkpoint import load_checkpoint

TIMES = ("train_seconds", "train_tokens_per_second")
TINY = {"width": 16, "depth": 1, "samples": 4, "batch_size": 32}


def blobs(shape: tuple[int, ...] = (8,), train: int = 100, test: int = 40, classes: int = 3) -> dict[str, Any]:
    """Arrays of a small classification problem: one random centre per class, and noise."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(classes, *shape))
    arrays = {}
    for part, count in (("train", train), ("test", test)):
        y = np.arange(count) % classes
        arrays |= {f"x_{part}": (centres[y] + rng.normal(size=(count, *shape))).astype(np.float32), f"y_{part}": y}
    return arrays


def blobs_file(path: Path, **options: Any) -> str:
    """Write `blobs` as .npz and return its data set name."""
    np.savez(path, **blobs(**options))
    return f"npz:{path}"


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file and folder below `folder`, with the files' bytes."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def log(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, without their times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def final_state(run: Path) -> dict[str, Any]:
    """All that a run has come to, apart from times: every bit of every tensor, the log, the final evaluation."""
    model, training, state = load_checkpoint(run)
    result = json.loads((run / "evaluation.json").read_text())
    state["progress"] = {k: v for k, v in state["progress"].items() if k not in ("seconds", "log")}
    tensors = {
        f"{part}/{k}": v.reshape(-1).view(torch.uint8).numpy().tobytes()
        for part, t in (("m", model), ("t", training))
        for k, v in t.items()
    }
    evaluation = {k: v for k, v in result.items() if k not in ("environment", *TIMES)}
    return {
        "state": {k: v for k, v in state.items() if k != "crc32"},
        "log": log(run),
        "evaluation": evaluation,
    } | tensors

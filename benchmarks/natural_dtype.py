"""What λ in bfloat16 costs in accuracy: the same training in both number formats.

python benchmarks/natural_dtype.py mnist --epochs 5 --seeds 2 --runs RUNS   # resumable; adds to the stored result
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from bayesbinn.environment import environment
from bayesbinn.training.run import train

RECIPES: dict[str, dict[str, Any]] = {
    "digits": {"lr": 0.00835},
    "mnist": {"width": 512, "batch_size": 100, "dropout": 0.1, "lr": 0.0002},
}


def settings(data: str) -> dict[str, Any]:
    """What all trainings on a data set have in common, beside the number of epochs."""
    rule = {"estimator": "draw", "form": "plain", "momentum": 0.0, "kl_weight": 0.002}
    return {**RECIPES[data], **rule, "threads": 1}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("data", choices=RECIPES)
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--runs", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "natural_dtype.json")
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(arguments.seeds):
        for dtype in ("float32", "bfloat16"):
            own = {"data": arguments.data, "epochs": arguments.epochs, "seed": seed, "natural_dtype": dtype}
            result = train(
                settings(arguments.data) | own, arguments.runs / f"{arguments.data}-{dtype}-{seed}", resume=True
            )
            kept = {part: {k: result[part][k] for k in ("accuracy", "nll", "ece")} for part in ("mode", "mean")}
            found.setdefault(dtype, []).append({"seed": seed, **kept})
            print(dtype, seed, kept, flush=True)
    stored = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    stored[arguments.data] = {"environment": environment(), "epochs": arguments.epochs, "runs": found}
    arguments.output.write_text(json.dumps(stored, indent=1) + "\n")


if __name__ == "__main__":
    main()

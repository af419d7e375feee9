"""Predictions by moments, in one pass, beside the mean of drawn networks: on trained runs.

    python experiments/moments.py RUN[=OTHER] ... --output experiments/results/moments.json
    python experiments/moments.py --output experiments/results/moments.json --page docs/uncertainty.md   # the table

Each RUN is a folder of `bayesbinn train`; OTHER is a data set that it has not seen, for AUROC by entropy.  The whole
test sets; time is the median of seven passes over 1,000 inputs, those of the mode in turn with them.
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import bayesbinn as bb
from bayesbinn.data import load_data
from bayesbinn.environment import environment
from bayesbinn.files import write_text
from bayesbinn.prediction import Samples
from bayesbinn.training import load_run

WAYS: tuple[Samples, ...] = (0, 1, 4, 32, 256, "moments")


def measured(run: Path, other: str) -> dict[str, Any]:
    """Figures of each way to predict."""
    net, config, _ = load_run(run)
    data = load_data(config.data)
    x, y = data.test.x.float(), data.test.y
    outside = load_data(other).test.x.float() if other else None
    found: dict[str, Any] = {}
    for way in WAYS:
        p = bb.predict(net, x, way)
        row = {m: float(getattr(bb.metrics, m)(p.probs, y)) for m in ("accuracy", "nll", "ece")}
        if outside is not None:
            row["auroc"] = float(bb.metrics.auroc(p.entropy, bb.predict(net, outside, way).entropy))
        found[str(way)] = row
    times: dict[str, list[float]] = {"0": [], "moments": []}
    for _ in range(7):
        for way in (0, "moments"):
            started = time.perf_counter()
            bb.predict(net, x[:1000], way)  # type: ignore[arg-type]
            times[str(way)].append(time.perf_counter() - started)
    ratio = statistics.median(times["moments"]) / statistics.median(times["0"])
    settings = {k: getattr(config, k) for k in ("data", "model", "epochs", "seed")}
    return {"settings": {**settings, "data": Path(config.data).stem}, "ways": found, "ratio": ratio}


def table(stored: dict[str, Any]) -> str:
    """A row a run and way."""
    lines = ["| run | networks | accuracy % | NLL | ECE | AUROC |", "|---" * 6 + "|"]
    for name, run in stored["runs"].items():
        for way, row in run["ways"].items():
            shown = {"0": "the mode", "moments": f"**moments**, {run['ratio']:.1f} × the mode's time"}
            auroc = f"{row['auroc']:.3f}" if "auroc" in row else "–"
            figures = f"{100 * row['accuracy']:.2f} | {row['nll']:.4f} | {row['ece']:.4f} | {auroc}"
            lines.append(f"| {name} | {shown.get(way, way)} | {figures} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("runs", nargs="*")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--page", type=Path, help="write the table into this page, measure nothing")
    arguments = parser.parse_args()
    if arguments.page:
        stored = json.loads(arguments.output.read_text(encoding="utf-8"))
        text = arguments.page.read_text(encoding="utf-8")
        begin, end = "<!-- moments: begin -->", "<!-- moments: end -->"
        made = f"`{stored['environment']['command']}` on {stored['environment']['cpu']}, one thread, one seed."
        before, after = text.partition(begin)[0], text.partition(end)[2]
        write_text(arguments.page, f"{before}{begin}\n{table(stored)}\n\n{made}\n{end}{after}")
        return
    torch.set_num_threads(1)
    runs = {}
    for given in arguments.runs:
        run, _, other = given.partition("=")
        found = measured(Path(run), other)
        s = found["settings"]
        runs[f"{s['data']}, {s['model']}, {s['epochs']} epochs"] = found
        print(json.dumps(found, indent=1), flush=True)
    command = "moments.py RUN=OTHER ... --output experiments/results/moments.json"
    content = {"environment": {**environment(), "command": command}, "runs": runs}
    write_text(arguments.output, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()

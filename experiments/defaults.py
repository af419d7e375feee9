"""Which form, estimator, lr and kl_weight suit several networks at once: short runs, judged on held-out data.

    python experiments/defaults.py --output experiments/results/defaults.json --workers 12 [--only mnist]

Every run takes a sixth of the training set as validation, anneals lr by a cosine to 0, and is calibrated at the end on
4,096 training inputs.  A run that is stored already is not run again.
"""

import argparse
import itertools
import json
import math
import multiprocessing
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import bayesbinn as bb
from bayesbinn.binarizers import MeanWeight, StraightThroughSample
from bayesbinn.data import batches, load_data
from bayesbinn.environment import environment
from bayesbinn.files import write_text
from bayesbinn.optim.network import FORM, KL_WEIGHT, LR
from bayesbinn.training.models import ModelConfig, build_model

NETWORKS = {
    "digits": {"data": "digits", "width": 256, "epochs": 40, "batch_size": 32},
    "mnist": {"data": "mnist", "width": 512, "epochs": 5, "batch_size": 100},
    "fashion": {"data": "fashion-mnist", "width": 512, "epochs": 5, "batch_size": 100},
}
RATES = {"weight": (0.03, 0.1, 0.3), "tensor": (0.1, 0.3, 1.0), "plain": (0.001, 0.01)}
KL_WEIGHTS = (0.01, 0.001, 0.0003, 0.0001)


def settings() -> list[dict[str, Any]]:
    """Every setting of every network."""
    return [
        {"network": n, "form": form, "lr": lr, "kl_weight": kl, "estimator": e, "seed": 0}
        for n, form, kl, e in itertools.product(NETWORKS, RATES, KL_WEIGHTS, ("mean", "draw"))
        for lr in RATES[form]
    ]


def run(s: dict[str, Any]) -> dict[str, Any]:
    """Train with the settings `s` and measure on the validation part."""
    torch.set_num_threads(1)
    c = NETWORKS[s["network"]]
    data = load_data(c["data"], validation=1 / 6)
    torch.manual_seed(s["seed"])
    model = ModelConfig(width=c["width"], depth=3, dropout=0.1)
    net = build_model(model, data.input_shape, data.num_classes, data.mean, data.std)
    bb.binarize_(net, binarizer=MeanWeight() if s["estimator"] == "mean" else StraightThroughSample())
    options = {"lr": s["lr"], "kl_weight": s["kl_weight"], "form": s["form"]}
    optimizer = bb.optimizer_for(
        net, num_data=len(data.train), momentum=0.0 if s["form"] == "plain" else 0.9, **options
    )
    total = c["epochs"] * (len(data.train) // c["batch_size"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 0.5 * (1 + math.cos(math.pi * t / total)))
    started = time.perf_counter()
    for epoch in range(c["epochs"]):
        for x, y in batches(data.train, c["batch_size"], s["seed"], epoch):
            F.cross_entropy(net(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
    seconds = time.perf_counter() - started
    bb.calibrate_(net, data.calibration())
    result: dict[str, Any] = {"settings": s, "seconds": seconds}
    x, y = data.validation.x, data.validation.y
    for name, samples in (("mode", 0), ("mean", 16)):
        probs = bb.predict(net, x.float(), samples).probs
        result[name] = {m: float(getattr(bb.metrics, m)(probs, y)) for m in ("accuracy", "nll", "ece")}
    result["undecided"] = bb.posterior_summary(net).total.undecided
    return result


Rows = dict[tuple[Any, ...], dict[str, dict[str, Any]]]


def by_setting(runs: list[dict[str, Any]]) -> Rows:
    """{(form, estimator, lr, kl_weight): {network: its run}}."""
    rows: Rows = {}
    for r in runs:
        s = r["settings"]
        rows.setdefault(tuple(s[k] for k in ("form", "estimator", "lr", "kl_weight")), {})[s["network"]] = r
    return rows


def table(runs: list[dict[str, Any]]) -> str:
    """The settings that every network has by their mean distance from the best NLL of the images, the nearest first."""
    best = {
        (n, w): min(r[w]["nll"] for r in runs if r["settings"]["network"] == n)
        for n in {r["settings"]["network"] for r in runs}
        for w in ("mode", "mean")
    }
    rows = by_setting(runs)
    names = [n for n in NETWORKS if any(r["settings"]["network"] == n for r in runs)]
    images = [n for n in names if n != "digits"]  # whose held-out part has more than a few hundred examples

    def distance(row: dict[str, dict[str, Any]]) -> float:
        return sum(row[n][w]["nll"] - best[n, w] for n in images for w in ("mode", "mean")) / (2 * len(images))

    head = "| form | estimator | lr | kl_weight | " + " | ".join(f"{n}: mode %, NLL, mean NLL" for n in names)
    lines = [f"{head} | distance (nats) |", "|---" * (5 + len(names)) + "|"]
    full = {key: row for key, row in rows.items() if row.keys() >= set(names)}
    ranked = sorted(full.items(), key=lambda item: distance(item[1]))
    default = (FORM, "draw", LR, KL_WEIGHT)
    for key, row in [*ranked[:12], *(item for item in ranked[12:] if item[0] == default)]:
        cells = [
            f"{row[n]['mode']['accuracy']:.2%}, {row[n]['mode']['nll']:.4f}, {row[n]['mean']['nll']:.4f}" for n in names
        ]
        name = " | ".join(map(str, key)) if key != default else " | ".join(f"**{part}**" for part in key)
        lines.append(f"| {name} | {' | '.join(cells)} | {distance(row):.4f} |")
    return "\n".join(lines)


def about(stored: dict[str, Any]) -> str:
    """What is in the table and what is not, and what made it."""
    runs, every = stored["runs"], settings()
    rows, planned = by_setting(runs), by_setting([{"settings": s} for s in every])
    lacking: dict[tuple[str, ...], list[str]] = {}
    for key, row in rows.items():
        if missing := tuple(n for n in NETWORKS if n not in row):
            lacking.setdefault(missing, []).append(" ".join(map(str, key)))
    lines = [
        f"Stored are {len(runs)} runs of {len(every)}, one seed each, of {len(rows)} settings of {len(planned)}. "
        f"{len(rows) - sum(map(len, lacking.values()))} settings have every network and are ranked; shown are the "
        "nearest 12, and the default (bold). Distance: how far the NLL of the mode and of the mean are above the "
        "lowest stored one, averaged over both and over the images."
    ]
    for missing, keys in sorted(lacking.items()):
        lines.append(f"Not ranked, since they were not run on {', '.join(missing)}: {'; '.join(sorted(keys))}.")
    made: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for r in runs:
        here = stored["environment"] if "cpu" not in r else r
        made.setdefault((here["cpu"], here.get("command", "")), []).append(r["settings"])
    for (cpu, command), of in made.items():
        kl_weights = ", ".join(f"{k:g}" for k in sorted({s["kl_weight"] for s in of}, reverse=True))
        by = f"by `{command}`" if command else "by the same program, at a command that was not kept"
        lines.append(f"{len(of)} runs (kl_weight {kl_weights}) were made on {cpu} {by}.")
    return "\n\n".join(lines)


def render(text: str, stored: dict[str, Any]) -> str:
    """The page with the table between its marks made anew."""
    begin, end = "<!-- defaults: begin -->", "<!-- defaults: end -->"
    before, after = text.partition(begin)[0], text.partition(end)[2]
    return f"{before}{begin}\n{table(stored['runs'])}\n\n{about(stored)}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=list(NETWORKS))
    parser.add_argument("--seconds", type=float, default=math.inf, help="start no run after this long")
    parser.add_argument("--page", type=Path, help="write the table into this page, run nothing")
    arguments = parser.parse_args()
    if arguments.page:
        page = arguments.page.read_text(encoding="utf-8")
        write_text(arguments.page, render(page, json.loads(arguments.output.read_text())))
        return
    here = environment()
    stored = json.loads(arguments.output.read_text()) if arguments.output.exists() else {}
    content = {"command": here["command"], "environment": here, "runs": []} | stored
    known = [r["settings"] for r in content["runs"]]
    todo = [s for s in settings() if s["network"] in arguments.only and s not in known]
    deadline = time.monotonic() + arguments.seconds
    with multiprocessing.get_context("spawn").Pool(arguments.workers) as pool:
        for result in pool.imap_unordered(run, todo):
            content["runs"].append(result | {"cpu": here["cpu"], "command": here["command"]})
            write_text(arguments.output, json.dumps(content, indent=1) + "\n")
            if time.monotonic() > deadline:
                pool.terminate()
                break


if __name__ == "__main__":
    main()

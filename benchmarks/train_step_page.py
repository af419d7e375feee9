"""The tables of docs/performance.md from the results of train_step.py and natural_dtype.py: blocks between comments."""

import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bayesbinn.optim import BayesBiNN
from bayesbinn.optim.bayesbinn import FORMS
from benchmarks.natural_dtype import settings

Results = dict[str, Any]
SIZES = ("1M", "10M", "10M avx2", "100M")  # of one size on two processors, the second under the name of both
PARTS = ("forward+backward", "draw", "update", "step")


def stored(folder: Path) -> Results:
    """What both programs have written into the folder of results."""
    results: Results = json.loads((folder / "train_step.json").read_text())
    return {**results, "natural_dtype": json.loads((folder / "natural_dtype.json").read_text())}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def called(name: str) -> str:
    """A contender as the page calls it: ours by its form, which is plain where the name has none."""
    ours, _, rest = name.partition("bayesbinn")
    return name if ours or rest.startswith(" per ") else f"bayesbinn plain{rest}"


def where(entry: Results) -> str:
    """The processor and its instruction set, which belong to every time."""
    made = entry["environment"]
    return f"{made['cpu']}, {made.get('isa', 'instruction set not recorded')}"


def threaded(threads: str) -> str:
    return f"{threads} thread{'s' if threads != '1' else ''}"


def steps(results: Results) -> str:
    """Milliseconds of each part of a step, a table for each size and number of threads."""
    blocks = []
    for size in SIZES:
        for threads, entry in sorted(results.get(size, {}).items()):
            rows = [
                [called(name), *(number(parts[part]) for part in PARTS)]
                for name, parts in entry["results"].items()
                if name != "weights"
            ]
            title = f"{size.split()[0]} weights, {threaded(threads)}, {where(entry)} (milliseconds):"
            blocks.append(f"{title}\n\n{table(['', *PARTS], rows)}")
    return "\n\n".join(blocks)


def a_weight(entry: Results) -> float:
    """Milliseconds that draw and update of one weight take."""
    return float(entry["bayesbinn"]["own"] / entry["weights"])


def ratios(results: Results) -> dict[str, list[tuple[str, str, str, bool | None]]]:
    """Of each `where`: (what is compared, the aim if any, what was measured, whether it holds), as far as known."""
    found: dict[str, list[tuple[str, str, str, bool | None]]] = {}

    def add(what: str, aim: float | None, value: float, at_least: bool = False) -> None:
        rows = found.setdefault(here, [])
        if aim is None:
            rows.append((what, "–", f"{value:.2f}", None))
            return
        holds = value >= aim if at_least else value <= aim
        rows.append((what, f"{'≥' if at_least else '≤'} {aim:g}", f"{value:.2f}", holds))

    for threads, entry in sorted(results.get("10M before", {}).items()):
        here = where(entry)
        own, adam = (entry["results"][name] for name in ("bayesbinn", "float, Adam"))
        what = f"draw and update, plain / fused Adam, {threaded(threads)}, the former rule (f5f3485)"
        add(what, 2, own["own"] / adam["update"])
    tens = [item for size in ("10M", "10M avx2") for item in sorted(results.get(size, {}).items())]
    for threads, entry in tens:
        here = where(entry)
        r, at = entry["results"], f", {threaded(threads)}"
        ours, adam, ste, old = (r[name] for name in ("bayesbinn", "float, Adam", "ste, Adam", "2020 rule"))
        kept = r["2020 rule, memory kept"]
        add(f"draw and update, plain / fused Adam{at}", 2, ours["own"] / adam["update"])
        for name, aim in (("bayesbinn per tensor", 2), ("bayesbinn per weight", 2.5)):
            if name in r:
                add(f"the same, {name.removeprefix('bayesbinn ')}{at}", aim, r[name]["own"] / adam["update"])
        add(f"2020 rule's draw and update / ours{at}", 30, old["own"] / ours["own"], at_least=True)
        add(f"2020 rule's draw and update / ours, memory kept for both{at}", None, kept["own"] / ours["own"])
        add(f"step / step of float with fused Adam{at}", 1.25, ours["step"] / adam["step"])
        add(f"step / step of ste with fused Adam{at}", 1, ours["step"] / ste["step"])
        add(f"step of the 2020 rule / ours{at}", 8, old["step"] / ours["step"], at_least=True)
        add(f"step of the 2020 rule / ours, memory kept for both{at}", None, kept["step"] / ours["step"])
    for threads, entry in sorted(results.get("epoch", {}).items()):
        here = where(entry)
        ms, at = entry["results"]["ms a step"], f", {threaded(threads)}"
        add(f"MNIST with data / float with fused Adam{at}", 1.25, ms["bayesbinn"] / ms["float, Adam"])
        add(f"MNIST with data / ste with fused Adam{at}", 1, ms["bayesbinn"] / ms["ste, Adam"])
        add(f"MNIST with data, 2020 rule / ours{at}", 8, ms["2020 rule"] / ms["bayesbinn"], at_least=True)
        kept = ms["2020 rule, memory kept"] / ms["bayesbinn"]
        add(f"MNIST with data, 2020 rule / ours, memory kept for both{at}", None, kept)
    for threads in sorted(set(results.get("1M", {})) & set(results.get("100M", {}))):
        both = [results[size][threads] for size in ("1M", "100M")]
        here = " and ".join(dict.fromkeys(map(where, both)))
        small, large = (a_weight(entry["results"]) for entry in both)
        add(f"draw and update a weight, 100M / 1M, {threaded(threads)}", 1.2, large / small)
    return found


def targets(results: Results) -> str:
    words = {True: "yes", False: "no", None: "–"}
    blocks = []
    for place, found in ratios(results).items():
        rows = [[what, aim, value, words[holds]] for what, aim, value, holds in found]
        blocks.append(f"On {place}:\n\n{table(['compared', 'aim', 'measured', 'met'], rows)}")
    return "\n\n".join(blocks)


def memory(results: Results) -> str:
    rows = [[called(name), f"{m['rest']:.1f}", f"{m['peak']:.1f}"] for name, m in results.get("memory", {}).items()]
    return table(["", "bytes a weight between steps", "at the peak of an update, without the gradient"], rows)


def state(results: Results) -> str:
    """Bytes a weight that λ and the optimizer hold, counted in their tensors: of a layer of 1,000 × 1,000 weights."""
    rows = []
    for form in FORMS:
        counts = []
        for dtype, momentum in ((d, m) for d in (torch.float32, torch.bfloat16) for m in (0.0, 0.9)):
            natural = torch.zeros(1000, 1000, dtype=dtype, requires_grad=True)
            optimizer = BayesBiNN([natural], 0.1, num_data=1, form=form, momentum=momentum)
            natural.grad = torch.zeros_like(natural)
            optimizer.step()
            held = [natural, *(value for value in optimizer.state[natural].values() if isinstance(value, torch.Tensor))]
            counts.append(f"{sum(t.nbytes for t in held) / natural.numel():.1f}")
        rows.append([f"`{form}`", *counts])
    head = [f"λ in {d}, {m}" for d in ("float32", "bfloat16") for m in ("no momentum", "momentum")]
    return table(["form", *head], rows)


def profile(results: Results) -> str:
    blocks = []
    for threads, entry in sorted(results.get("profile", {}).items()):
        rows = [[f"`{name}`", number(ms)] for name, ms in entry["results"]]
        title = f"{threaded(threads)}, {where(entry)}:"
        blocks.append(f"{title}\n\n{table(['operation', 'ms a step'], rows)}")
    return "\n\n".join(blocks)


def hardware(results: Results) -> str:
    entries = [e for part in (*SIZES, "epoch", "profile") for e in results.get(part, {}).values()]
    seen = {f"{e['environment']['cpu']}, {e['environment']['isa']}, torch {e['environment']['torch']}" for e in entries}
    commands = sorted({f"`{e['environment']['command']}`" for e in entries})
    text = f"Measured on: {'; '.join(sorted(seen))}. Commands: {', '.join(commands)}."
    if any(e["environment"].get("clock") == "thread_time" for e in entries):
        text += (
            " Where the command says `--cpu-time`, the time is what the processor gave the thread, since other programs"
            " ran on the machine: ratios count, absolute figures are too high."
        )
    return text


def natural_dtype(results: Results) -> str:
    """Test accuracy and NLL with λ in float32 and in bfloat16: the same trainings, means and deviations over seeds."""
    rows, notes = [], []
    for data, study in results["natural_dtype"].items():
        for dtype, seeds in study["runs"].items():
            row = [f"{data}, {study['epochs']} epochs", dtype, str(len(seeds))]
            for part, key, factor, digits in (
                ("mode", "accuracy", 100, 2),
                ("mean", "accuracy", 100, 2),
                ("mode", "nll", 1, 4),
                ("mean", "nll", 1, 4),
            ):
                values = [factor * s[part][key] for s in seeds]
                row.append(f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}")
            rows.append(row)
        options = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings(data).items())
        train = f"bayesbinn train {data} {options} --epochs {study['epochs']} --natural-dtype DTYPE --seed SEED"
        notes.append(f"`{train} --output RUN`, {where(study)}, all of it by `{study['environment']['command']}`.")
    head = ["data", "λ in", "seeds", "mode %", "mean of 32 %", "NLL of the mode", "NLL of the mean"]
    return "\n\n".join([table(head, rows), *notes])


BLOCKS = {
    "hardware": hardware,
    "targets": targets,
    "steps": steps,
    "memory": memory,
    "state": state,
    "profile": profile,
    "natural dtype": natural_dtype,
}


def render(page: str, results: Results) -> str:
    """The page with each block between its two comments made anew."""
    for name, make in BLOCKS.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        block = f"{begin}\n\n{make(results)}\n\n{end}"
        page, count = re.subn(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _, block=block: block, page, flags=re.S)
        if count != 1:
            raise ValueError(f"the page needs one block between {begin} and {end}, found {count}")
    return page


def write_page(path: Path, results: Results) -> None:
    path.write_text(render(path.read_text(), results))

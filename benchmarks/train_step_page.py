"""The tables of docs/performance.md from the result of train_step.py: blocks between comments."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Results = dict[str, Any]
SIZES = ("1M", "10M", "100M")
PARTS = ("forward+backward", "draw", "update", "step")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines)


def number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def steps(results: Results) -> str:
    """Milliseconds of each part of a step, a table for each size and number of threads."""
    blocks = []
    for size in SIZES:
        for threads, entry in sorted(results.get(size, {}).items()):
            rows = [
                [name, *(number(parts[part]) for part in PARTS)]
                for name, parts in entry["results"].items()
                if name != "weights"
            ]
            title = f"{size} weights, {threads} thread{'s' if threads != '1' else ''} (milliseconds):"
            blocks.append(f"{title}\n\n{table(['', *PARTS], rows)}")
    return "\n\n".join(blocks)


def a_weight(entry: Results) -> float:
    """Milliseconds that draw and update of one weight take."""
    return float(entry["bayesbinn"]["own"] / entry["weights"])


def ratios(results: Results) -> list[tuple[str, str, str, bool]]:
    """(what is compared, the aim, what was measured, whether it holds), as far as there are results."""
    rows: list[tuple[str, str, str, bool]] = []

    def add(what: str, aim: float, value: float, at_least: bool = False) -> None:
        holds = value >= aim if at_least else value <= aim
        rows.append((what, f"{'≥' if at_least else '≤'} {aim:g}", f"{value:.2f}", holds))

    for threads, entry in sorted(results.get("10M", {}).items()):
        r, at = entry["results"], f", {threads} thread{'s' if threads != '1' else ''}"
        ours, adam, ste, old = (r[name] for name in ("bayesbinn", "float, Adam", "ste, Adam", "2020 rule"))
        add(f"draw and update / fused Adam{at}", 2, ours["own"] / adam["update"])
        add(f"2020 rule's draw and update / ours{at}", 30, old["own"] / ours["own"], at_least=True)
        add(f"step / step of float with fused Adam{at}", 1.25, ours["step"] / adam["step"])
        add(f"step / step of ste with fused Adam{at}", 1, ours["step"] / ste["step"])
        add(f"step of the 2020 rule / ours{at}", 8, old["step"] / ours["step"], at_least=True)
    for threads, entry in sorted(results.get("epoch", {}).items()):
        ms, at = entry["results"]["ms a step"], f", {threads} thread{'s' if threads != '1' else ''}"
        add(f"MNIST with data / float with fused Adam{at}", 1.25, ms["bayesbinn"] / ms["float, Adam"])
        add(f"MNIST with data / ste with fused Adam{at}", 1, ms["bayesbinn"] / ms["ste, Adam"])
        add(f"MNIST with data, 2020 rule / ours{at}", 8, ms["2020 rule"] / ms["bayesbinn"], at_least=True)
    for threads in sorted(set(results.get("1M", {})) & set(results.get("100M", {}))):
        small, large = (a_weight(results[size][threads]["results"]) for size in ("1M", "100M"))
        add(f"draw and update a weight, 100M / 1M, {threads} thread{'s' if threads != '1' else ''}", 1.2, large / small)
    return rows


def targets(results: Results) -> str:
    rows = [[what, aim, value, "yes" if holds else "no"] for what, aim, value, holds in ratios(results)]
    return table(["compared", "aim", "measured", "met"], rows)


def memory(results: Results) -> str:
    rows = [[name, f"{m['rest']:.1f}", f"{m['peak']:.1f}"] for name, m in results.get("memory", {}).items()]
    return table(["", "bytes a weight between steps", "at the peak of an update, without the gradient"], rows)


def profile(results: Results) -> str:
    blocks = []
    for threads, entry in sorted(results.get("profile", {}).items()):
        rows = [[f"`{name}`", number(ms)] for name, ms in entry["results"]]
        blocks.append(f"{threads} thread{'s' if threads != '1' else ''}:\n\n{table(['operation', 'ms a step'], rows)}")
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


BLOCKS = {"hardware": hardware, "targets": targets, "steps": steps, "memory": memory, "profile": profile}


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

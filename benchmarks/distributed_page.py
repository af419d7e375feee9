"""Write the measured part of docs/distributed.md from the stored results of scaling.py and faults.py.

python benchmarks/distributed_page.py
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->"


def scaling(result: dict[str, Any]) -> list[str]:
    made = result["environment"]
    lines = [
        f"Throughput of two processes with one thread each over one process with one thread, MLP 784-2048×3-10 "
        f"({result['num_weights']:,} binary weights), DDP on gloo, {result['cores']} cores of {made['cpu']}, torch "
        f"{made['torch']}; medians of {result['rounds']} rounds in turns, `{made['command']}`:",
        "",
        "| batch of one | s, one | apart | s, two, same batch each | weak | s, two, half the batch each | strong |",
        "|---|---|---|---|---|---|---|",
    ]
    for batch, row in result["batches"].items():
        seconds = row["seconds per step"]
        of = "throughput of two over one"
        apart = f"{row[f'apart: {of}']:.2f}×" if f"apart: {of}" in row else "not measured"
        weak, strong = row[f"weak: {of}"], row[f"strong: {of}"]
        lines.append(
            f"| {batch} | {seconds['one']} | {apart} | {seconds['weak']} | {weak:.2f}× | {seconds['strong']} "
            f"| {strong:.2f}× |"
        )
    small = result["small collectives, seconds"]
    lines += [
        "",
        "Weak scaling keeps the batch of a process, strong scaling the batch of all; apart, two processes work at once "
        "and exchange nothing, which is what this machine's memory and cores allow at most. The gradient of "
        "every weight is sent each step whatever the batch, so small shares scale worse. The two small collectives of a step cost "  # noqa: E501
        f"{small['stop'] * 1000:.2f} ms (whether to stop) and {small['metrics and statistics'] * 1000:.2f} ms (metrics "
        "and running statistics).",
    ]
    return lines


def faults(result: dict[str, Any]) -> list[str]:
    killed = result["killed"]
    lines = [f"Killed runs (`{killed['environment']['command']}`, a checkpoint after every step):", ""]
    lines += ["| processes | killed | while saving | ends as the undisturbed run, bit for bit |", "|---|---|---|---|"]
    for run in killed["runs"]:
        kills = ", ".join(f"{victim} {count}×" for victim, count in sorted(run["kills"].items()))
        equal = "yes" if run["weights, optimizer state and generators equal, bit for bit"] else "no"
        saving = run["of these while a checkpoint was being written"]
        lines.append(f"| {run['processes']} | {kills} | {saving} | {equal} |")
    if "writers" in result:
        w = result["writers"]
        bad = w["missing"] + w["mixed or damaged"] + w["ends that are nobody's"]
        lines += [
            "",
            f"Two processes, one folder (`{w['environment']['command']}`): {w['trials']} trials with random starts and "
            f"{w['writers killed']} kills, {w['writers refused']} writers refused; of {w['readings']:,} checkpoints"
            f" read meanwhile and those at the end {bad} were missing, mixed or of no run.",
        ]
    if "distributed" in result:
        d = result["distributed"]
        total = sum(sum(found.values()) for found in d["trials"].values())
        each = "; ".join(
            f"{scenario}: " + ", ".join(f"{count} {what}" for what, count in found.items())
            for scenario, found in d["trials"].items()
        )
        lines += [
            "",
            "Two processes whose gloo threads take the mutex of their queue up to "
            f"{d['largest delay of a mutex, ms']} ms late (`{d['environment']['command']}`), {total} trials: {each}.",
        ]
    return lines


def main() -> None:
    lines: list[str] = []
    for name, render in (("scaling", scaling), ("faults", faults)):
        file = RESULTS / f"{name}.json"
        if file.exists():
            lines += [*render(json.loads(file.read_text(encoding="utf-8"))), ""]
        else:
            lines += [f"`benchmarks/{name}.py` has no stored result yet.", ""]
    page = ROOT / "docs" / "distributed.md"
    text = page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    page.write_text(before + BEGIN + "\n".join(lines[:-1]) + "\n" + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()

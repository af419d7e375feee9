"""docs/inference.md from the stored results: python benchmarks/page.py"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import deploy_accuracy, inference, int8  # noqa: E402

Result = dict[str, Any]
RESULTS, PAGE = ROOT / "benchmarks" / "results", ROOT / "docs" / "inference.md"
RIVALS = {
    "float32": inference.FLOAT,
    "low-bit": inference.LOW_BIT,
    "1 bit × 1 bit": ("openvino BinaryConvolution",),
}


def load_results(folder: Path = RESULTS) -> dict[str, Result]:
    """The stored results."""
    return {
        name: json.loads((folder / f"{name}.json").read_text())
        for name in ("inference", "int8", "predict", "deploy_accuracy", "fuzz")
    }


def ordered(cases: Result) -> list[tuple[str, Result]]:
    return [(case, cases[case]) for case in inference.CASES if case in cases]


def times_table(cases: Result) -> list[str]:
    """One row a case: the fastest rival of each kind, and ours, in microseconds."""
    lines = ["| case | fastest float32 engine | fastest 2/4-bit engine, ggml Q1_0 | int8 | int16 | 1-bit activations |"]
    lines += ["|---|--:|--:|--:|--:|--:|"]
    for case, entry in ordered(cases):
        micro = entry["microseconds"]
        cells = []
        for names in (inference.FLOAT, inference.LOW_BIT):
            found = min(((micro[n], n) for n in names if n in micro), default=None)
            cells.append(f"{found[0]:,.1f} ({found[1]})" if found else "–")
        cells += [f"{micro[n]:,.1f}" if n in micro else "–" for n in ("ours int8", "ours int16", "ours 1-bit")]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return lines


def targets_table(cases: Result) -> list[str]:
    lines = ["| case | ours against | wanted | measured | |", "|---|---|--:|--:|---|"]
    for case, entry in ordered(cases):
        for what, ratio, wanted in inference.targets(case, entry["microseconds"]):
            lines.append(
                f"| {case} | {what} | ≥ {wanted:g}× | {ratio:.1f}× | {'met' if ratio >= wanted else '**missed**'} |"
            )
    return lines


def losses(threads: str, cases: Result) -> list[str]:
    """Promises missed, and rivals that are faster than one of our ways to run the same case."""
    lines = []
    for case, entry in ordered(cases):
        micro = entry["microseconds"]
        for what, ratio, wanted in inference.targets(case, micro):
            if ratio < wanted:
                lines.append(f"- {case}, threads: {threads}: {ratio:.2f}× against {what}, {wanted:g}× wanted.")
        for mine in (name for name in micro if name.startswith("ours")):
            faster = [
                f"{name} ({kind}, {micro[mine] / micro[name]:.1f}× as fast)"
                for kind, names in RIVALS.items()
                for name in names
                if name in micro and micro[name] < micro[mine]
            ]
            if faster:
                lines.append(
                    f"- {case}, threads: {threads}: {mine.removeprefix('ours ')} is slower than {', '.join(faster)}."
                )
    return lines


INT8 = """\
The same layer or network in int8, by the engines that an engineer would pick instead: onnxruntime (dynamic, or
fixed steps and weights per channel), openvino (the same QDQ model), torch's quantised layers; whole networks by
onnxruntime's own static quantiser. `ours int6` has 63 levels of activations (`activations="int6"`).

What limits each, counted for AVX-512 in 512-bit instructions: an int8 product needs 1 for 64 multiply-
accumulates (`vpdpbusd`). Our int8 look-ups need 2 permutations, 2 additions and 1.2 more to widen sums for 384:
74 an instruction. int6 needs 1 permutation and 1 `vpdpbusd` for 256: 128 an instruction. The tables come to it:
about 20 instructions for 6 int8 activations, 12 for 16 of int6, whatever the number of output channels, so that
layers with few outputs gain least. Of permutations Zen 4 does two in a cycle, Intel's cores one (one of their
ports has the unit), and one or two products: there int8 look-ups are bound to 192 multiply-accumulates a cycle, int6 to
256, beside 64 or 128 of an int8 product.
""".splitlines()


def predict_table(result: Result) -> list[str]:
    """What a prediction costs beside its runs, on one machine."""
    lines = [f"One input, one thread, {result['machine']}; {result['date']}; `{result['command']}`.", ""]
    lines += ["| network | `run_samples` µs | `predict` µs | | the same in numpy µs |", "|---|--:|--:|--:|--:|"]
    for case, micro in result["microseconds"].items():
        run, own, before = micro["run"], micro["predict"], micro["predict in numpy"]
        lines.append(f"| {case} | {run:.1f} | {own:.1f} | {own / run:.2f}× | {before:.1f} |")
    return [*lines, ""]


def speed_lines(speed: Result) -> list[str]:
    """All cases on one machine, and where we lose."""
    versions = ", ".join(f"{name} {version}" for name, version in speed["versions"].items() if version)
    lines = [
        f"{speed['machine']}; instruction set `{speed['instruction_set']}`; {versions}; {speed['date']}.",
        f"Medians over the calls of {speed['rounds']} rounds; load average before a case {inference.loads(speed)}.",
        f"`{speed['command']}`",
        "",
    ]
    for threads, cases in speed["threads"].items():
        lines += [f"#### Threads: {threads}", "", *times_table(cases), "", *targets_table(cases), ""]
    lines += ["#### Where it is slower", ""]
    lost = [line for threads, cases in speed["threads"].items() for line in losses(threads, cases)]
    return [*lines, *(lost or ["No engine measured here was faster."]), ""]


def page(results: dict[str, Result]) -> str:
    """The page as Markdown."""
    fuzz, machines = results["fuzz"], list(results["inference"].values())
    imported = machines[-1]["import"]
    lines = [
        "# Inference: figures",
        "",
        "Made by `python benchmarks/page.py` from `benchmarks/results/`; how it works: [deploy.md](deploy.md).",
        "",
        "## Speed",
        "",
        "Microseconds a call from Python, with quantising the activations; all engines take turns.",
        "`--table FILE` prints every engine. On a machine with more load than cores, calls that last longer than a few",
        "milliseconds look slower than they are; only cases that were measured are listed.",
        "",
    ]
    for speed in machines:
        lines += [f"### {speed['machine']}", "", *speed_lines(speed)]
    lines += ["## Beside int8", "", *INT8, "", *int8.table(results["int8"]).splitlines()]
    lines += ["", "## A prediction", ""]
    lines += [line for result in results["predict"].values() for line in predict_table(result)]
    lines += ["## Accuracy and size", "", *deploy_accuracy.table(results["deploy_accuracy"]).splitlines(), ""]
    lines += [
        "## Import and safety",
        "",
        f"`import bayesbinn.runtime` takes {imported['bayesbinn.runtime after it']:.3f} s after numpy's own "
        f"{imported['numpy']:.3f} s; torch {'is' if imported['imports torch'] else 'is not'} imported.",
        "",
        *[
            f"- `{run['command']}` ({run['tools']}, {run['date']}): {run['findings']} findings in {run['seconds']} s"
            + (f", {run['executions']:,} executions, {run['edges reached']} edges." if "executions" in run else ".")
            for run in fuzz.values()
        ],
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(load_results()))

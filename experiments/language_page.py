"""The tables and the figure of docs/language.md from stored results: python experiments/language_page.py"""

import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import decode  # noqa: E402
from experiments.figure_style import line, panel  # noqa: E402
from experiments.uncertainty_page import spread, table  # noqa: E402

PAGE = ROOT / "docs" / "language.md"
FIGURE = ROOT / "docs" / "figures" / "language-curves.svg"
RESULTS = ROOT / "experiments" / "results"
Results = dict[str, Any]
FIGURES = {"bits_per_byte": 3, "perplexity": 2}  # and their digits
NAMES = ("language-day", "tuning-language-day", "language-next-day", "llama-cpp")


def load() -> Results:
    """The stored results that there are."""
    files = {name: RESULTS / f"{name}.json" for name in NAMES}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
    return found | {"decode": json.loads((ROOT / "benchmarks" / "results" / "decode.json").read_text(encoding="utf-8"))}


def by_run(result: Results) -> dict[str, list[Results]]:
    """The results of each run of a recipe, one for each seed."""
    found: dict[str, list[Results]] = {}
    for one in sorted(result["runs"], key=lambda r: r["settings"]["seed"]):
        found.setdefault(one["settings"]["run"], []).append(one)
    return found


def how(result: Results) -> str:
    """What a table was made with."""
    environment, s = result["runs"][0]["environment"], result["runs"][0]["settings"]
    tokens = s["batch_size"] * (s["epoch_size"] // s["batch_size"]) * s["epochs"] * s["context"]
    return (
        f"Width {s['width']}, depth {s['depth']}, context {s['context']}, batches of {s['batch_size']}, {tokens:,} "
        f"bytes of training text for each. torch {environment['torch']}, {environment['cpu']}, one thread a run. "
        f"`{result['command']}`"
    )


def results(found: Results) -> str:
    """Bits per byte of every method."""
    result, rows = found["language-day"], []
    best = {}
    for name, seeds in by_run(result).items():
        modes, means = ([one["evaluation"][which] for one in seeds] for which in ("mode", "mean"))
        mean = spread([m["bits_per_byte"] for m in means], 3) if all(means) else "–"
        speed = statistics.fmean(one["evaluation"]["train_tokens_per_second"] for one in seeds)
        mode, perplexity = (spread([m[key] for m in modes], digits) for key, digits in FIGURES.items())
        rows.append([f"`{name}`", str(len(seeds)), mode, mean, perplexity, f"{speed:,.0f}"])
        best[name] = statistics.fmean(m["bits_per_byte"] for m in modes)
    head = ["method", "seeds", "mode", "mean of 8", "perplexity of the mode", "bytes a second in training"]
    rival, gap = (best["bayesbinn"] - best[name] for name in ("ste", "float"))
    return "\n".join(
        [
            f"{result['title']}: bits per byte on two plays that were held out (As You Like It, Macbeth).",
            "",
            table(head, rows),
            "",
            f"The mode of `bayesbinn` is {rival:+.3f} bits per byte beside `ste`, and {gap:+.3f} beside real weights. "
            f"{result['note']} {how(result)}",
            "",
            "![Bits per byte on held-out text against bytes of training](figures/language-curves.svg)",
        ]
    )


def outside(found: Results) -> str:
    """How well windows of another text are told."""
    labels = {"entropy": "mode, entropy", "mean_entropy": "mean of 8, entropy"}
    labels["mutual_information"] = "mean of 8, mutual information"
    rows, first = [], found["language-day"]["runs"][0]
    for name, seeds in by_run(found["language-day"]).items():
        for score, label in labels.items():
            values = [one["outside"]["pydoc"]["auroc"].get(score) for one in seeds]
            if all(value is not None for value in values):
                rows.append([f"`{name}`", label, spread(values, 4)])
    return "\n".join(
        [
            'Area under the ROC curve (1 is perfect, ½ chance) for "this is not Shakespeare": 64 bytes of the Python',
            "library reference against 64 bytes of the held-out plays, by a score averaged over the 64;",
            f"{first['outside']['pydoc']['windows']} windows of {first['settings']['context']} bytes of each.",
            "",
            table(["method", "score", "AUROC"], rows),
        ]
    )


def tried(found: Results) -> str:
    """All settings that were compared."""
    result, rows = found["tuning-language-day"], []
    shared = {"run", "seed", "data", "model", "width", "depth", "context", "batch_size", "epoch_size", "epochs"}
    shared |= {"validation", "samples", "method"}
    for one in sorted(result["runs"], key=lambda r: r["curve"][-1]["validation_bits_per_byte"]):
        s, last = one["settings"], one["curve"][-1]["validation_bits_per_byte"]
        own = ", ".join(f"{name} {value}" for name, value in s.items() if name not in shared)
        rows.append([f"`{s.get('method', 'bayesbinn')}`", own or "defaults", f"{last:.3f}"])
    head = ["method", "settings beside the defaults", "bits per byte, validation"]
    return "\n".join([result["note"], "", table(head, rows), "", how(result)])


def following(found: Results) -> str:
    """Bits per byte on both texts before and after the second."""
    result = found["language-next-day"]
    first = by_run(found["language-day"])["bayesbinn-draw"][0]["evaluation"]["mode"]["bits_per_byte"]
    rows = [["before", "–", f"{first:.3f}", "–"]]
    for one in result["runs"]:
        s = one["settings"]
        old, new = (m["mode"]["bits_per_byte"] for m in (one["outside"]["shakespeare"], one["evaluation"]))
        rows.append([f"`{s.get('prior', 'uniform')}`", f"{s.get('kl_weight', 0.0003):g}", f"{old:.3f}", f"{new:.3f}"])
    windows = result["runs"][0]["outside"]["shakespeare"]["windows"]
    return "\n".join(
        [
            "The network that learned Shakespeare goes on with the King James Bible, its posterior the prior or not.",
            "",
            table(["prior", "kl_weight", "Shakespeare, bits per byte", "King James, bits per byte"], rows),
            "",
            f"Mode; after the second text Shakespeare is measured on the first {windows} windows of the held-out "
            f"plays, before it on all. {result['note']} {how(result)}",
        ]
    )


def llama(found: Results) -> str:
    """How close llama.cpp is."""
    r = found["llama-cpp"]
    greedy, far, exact, size = r["greedy"], r["held-out text"], r["held-out text, all in float32"], r["size"]
    parted = greedy["first divergence"]
    text = f"Of {greedy['tokens']} greedy tokens after {greedy['prompt']!r}, "
    if parted is None:
        text += "all are those of torch."
    else:
        there = greedy["there"]
        text += (
            f"the first {parted} are those of torch; there the logits of the two candidates are "
            f"{there['logit gap, ours']:.3f} apart in torch and {there['logit gap, llama.cpp']:.3f} in llama.cpp."
        )
    return "\n".join(
        [
            f"The run of seed 0 below in stock llama.cpp (the wheel xllamacpp {r['versions']['xllamacpp']}), on "
            f"{far['tokens']:,} held-out bytes: log-probabilities differ by {far['mean difference']:.4f} nats on",
            f"average and {far['largest difference']:.3f} at most. With the same file in float32 these are "
            f"{exact['mean difference']:.4f} and {exact['largest difference']:.4f}: the rest is of llama.cpp's 8-bit",
            f"activations and float16 keys and values. {text}",
            f"The file has {size['bytes']:,} bytes, {size['bytes in float16'] / size['bytes']:.1f} times fewer than "
            f"with matrices in float16 ({size['bytes in float16']:,}).",
            f"`{r['command']}`, {r['machine']}, {r['date']}.",
        ]
    )


def draw(found: Results, path: Path) -> None:
    """Learning curves, a line for each seed."""
    labels = {"xlabel": "million bytes of training text", "ylabel": "bits per byte, mode"}
    with panel(path, title="held-out plays", **labels) as axes:
        for number, (name, seeds) in enumerate(by_run(found["language-day"]).items()):
            for i, one in enumerate(seeds):
                s = one["settings"]
                each = s["batch_size"] * (s["epoch_size"] // s["batch_size"]) * s["context"] / 1e6
                x = [point["epoch"] * each for point in one["curve"]]
                y = [point["test_bits_per_byte"] for point in one["curve"]]
                axes.plot(x, y, alpha=1 - 0.4 * i, label=None if i else name, **line(number))
        axes.legend()


def page(text: str, found: Results) -> str:
    """The page with its blocks filled."""
    speed = decode.table(found["decode"]).rstrip()
    blocks = {"results": results, "outside": outside, "next": following, "tried": tried, "llama": llama}
    made = {name: block(found) for name, block in blocks.items()} | {"speed": speed}
    for name, content in made.items():
        begin, end = (f"<!-- {name}: {mark} -->" for mark in ("begin", "end"))
        head, rest = text.split(begin)
        text = f"{head}{begin}\n{content}\n{end}{rest.split(end)[1]}"
    return text


def main(arguments: Sequence[str] = ()) -> None:
    found = load()
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    draw(found, FIGURE)


if __name__ == "__main__":
    main()

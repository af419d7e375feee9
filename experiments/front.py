"""The figures of README.md: its script over ten seeds, the picture of votes, and the parts between comments.

python experiments/front.py           # run the script, store experiments/results/front.json, draw, write README.md
python experiments/front.py --render  # from what is stored
python experiments/front.py --check   # exit 1 if README.md differs from what is stored
"""

import argparse
import contextlib
import io
import json
import re
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

import bayesbinn as bb
from bayesbinn.environment import environment
from bayesbinn.files import write_text

ROOT = Path(__file__).resolve().parents[1]
README, PICTURE = ROOT / "README.md", ROOT / "docs" / "figures" / "votes.svg"
RESULTS, BENCHMARKS = ROOT / "experiments" / "results", ROOT / "benchmarks" / "results"
SEEDS, VOTES = 10, 8
INK, RIGHT, OTHER = "#1c2733", "#1b7f5c", "#d08a1d"


def script() -> str:
    """The Python block of README.md."""
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)[0]


def run(seed: int) -> tuple[dict[str, Any], str]:
    """The names that the script defines, and what it prints."""
    torch.manual_seed(seed)
    names: dict[str, Any] = {}
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        exec(compile(script(), "README.md", "exec"), names)
    return names, said.getvalue()


def measure() -> dict[str, Any]:
    """The script over all seeds."""
    torch.set_num_threads(1)
    runs = []
    for seed in range(SEEDS):
        started = time.perf_counter()
        names, said = run(seed)
        seconds, p = time.perf_counter() - started, names["p"]
        wrong = p.labels != names["y"][names["test"]]
        tenth = p.mutual_information.argsort(descending=True)[: len(wrong) // 10]
        found = {"accuracy": 1 - float(wrong.float().mean()), "errors": int(wrong.sum())}
        found |= {"errors_in_the_least_sure_tenth": int(wrong[tenth].sum()), "seconds": seconds, "said": said}
        runs.append({"seed": seed, **found})
    return {"environment": environment(), "runs": runs}


def draw() -> None:
    """Four test images on which eight drawn networks agree, and four on which they do not, with their votes."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "bayesbinn"
    import matplotlib.pyplot as plt

    names, _ = run(0)
    x, y = names["x"][names["test"]], names["y"][names["test"]]
    p = names["p"]
    outputs = bb.prediction.posterior_outputs(names["net"], x, VOTES)
    votes = torch.stack([logits.argmax(-1) for logits in outputs])  # (S, B)
    order = p.mutual_information.argsort()
    sure = [int(order[i]) for i in (0, 7, 14, 21)]
    unsure = [int(i) for i in order[-4:].flip(0)]
    figure, axes = plt.subplots(4, 4, figsize=(5.2, 5.6), layout="constrained", height_ratios=[1.5, 1, 1.5, 1])
    figure.patch.set_facecolor("white")
    for block, (title, chosen) in enumerate((("all eight agree", sure), ("they do not", unsure))):
        for column, i in enumerate(chosen):
            image, bars = axes[2 * block, column], axes[2 * block + 1, column]
            image.imshow(x[i].reshape(8, 8), cmap="gray_r")
            image.set(xticks=[], yticks=[])
            image.set_title(f"a {int(y[i])}", color=INK, fontsize=13)
            counts = votes[:, i].bincount(minlength=10)
            bars.bar(range(10), counts, color=[RIGHT if c == int(y[i]) else OTHER for c in range(10)])
            bars.set(xticks=counts.nonzero()[:, 0], xlim=(-1, 10), ylim=(0, VOTES + 0.4), yticks=[0, VOTES])
            bars.tick_params(labelsize=12, colors=INK)
            bars.spines[["top", "right"]].set_visible(False)
        axes[2 * block + 1, 0].set_ylabel("votes", color=INK, fontsize=12)
        axes[2 * block, 0].set_ylabel(title, color=INK, fontsize=13)
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})
    plt.close(figure)


def stored(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def spread(values: list[float], digits: int) -> str:
    sd = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.{digits}f}{sd}"


def reasons() -> list[str]:
    """Three reasons with a figure each."""
    front = stored(RESULTS / "front.json")
    size = re.search(r"([\d.]+ kB → [\d.]+ kB)", front["runs"][0]["said"])
    assert size is not None
    accuracies = [100 * r["accuracy"] for r in front["runs"]]
    errors, in_tenth = (sum(r[k] for r in front["runs"]) for k in ("errors", "errors_in_the_least_sure_tenth"))
    held = 100 * in_tenth / errors
    machine, decode = next(iter(stored(BENCHMARKS / "decode.json").items()))
    speed = decode["cases"]["26 M"]["tokens_per_second"]
    tasks = stored(RESULTS / "continual-five-day.json")["results"]
    prior, naive = (
        spread([100 * run["metrics"]["mean_average"] for run in tasks[name].values()], 1) for name in ("prior", "naive")
    )
    small = f"{size[1]}, and {spread(accuracies, 1)} % of the test digits ({len(accuracies)} seeds)"
    faster, model = f"{speed['ours'] / speed['llama.cpp']:.1f} times", "a language model of 26 million weights"
    return [
        f"* **Small and fast.** The network above: {small}. {model.capitalize()} writes {faster} the tokens a second",
        f"  of llama.cpp on one thread ({machine.split(' (')[0]}; [how](docs/language.md)).",
        "* **Sure, or not.** Drawn networks disagree where they do not know: the tenth of the test digits on which",
        f"  they disagree most holds {held:.0f} % of the errors ([figures](experiments/results/front.json),",
        "  [uses](docs/uncertainty.md)).",
        "* **Learns on.** The posterior of a task is the prior of the next. After five permuted MNIST tasks the",
        f"  average over all is {prior} %, without the prior {naive} % ([how](docs/continual.md)).",
    ]


# what a prediction of each row is the mean of
AVERAGED = {
    "bayesbinn": "32 draws",
    "bayesbinn-modes": "32 draws of 5 posteriors",
    "Monte-Carlo dropout": "32 dropout masks",
    "ensemble of 5 ste": "5 networks",
}


def comparison() -> list[str]:
    """Rows of MNIST."""
    from experiments.at_once_page import LABELS, TASKS, grouped
    from experiments.figures_in_words import four, percent
    from experiments.figures_in_words import spread as plus_minus

    runs = grouped(stored(RESULTS / "at-once.json"))["mnist"]
    shown = ("bayesbinn", "bayesbinn-modes", "ste", "Monte-Carlo dropout", "ensemble of 5 ste", "float")
    lines = [f"{TASKS['mnist'].title}, defaults ([more](docs/at-once.md)):", ""]
    lines += ["| run | trainings | mean of | seeds | accuracy % | NLL (nats) | ECE |", "|---|---|---|---|---|---|---|"]
    for label in shown:
        if label in runs:
            seeds = runs[label]
            best = [r["mean"] or r["mode"] for r in seeds]
            cells = [
                plus_minus([b[m] for b in best], f) for m, f in (("accuracy", percent), ("nll", four), ("ece", four))
            ]
            trainings = len(seeds[0]["train_seconds"])
            cells = [str(trainings), AVERAGED.get(label, "one network"), str(len(seeds)), *cells]
            lines.append(f"| {LABELS[label]} | {' | '.join(cells)} |")
    return lines


def rendered(text: str) -> str:
    """README.md with the parts between comments renewed."""
    for name, lines in (("reasons", reasons()), ("comparison", comparison())):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = "\n".join([before + begin, *lines, end + rest.split(end)[1]])
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    if arguments.check:
        if rendered(text) != text:
            sys.exit("README.md differs from the results: run python experiments/front.py --render")
        return
    if not arguments.render:
        write_text(RESULTS / "front.json", json.dumps(measure(), indent=1, ensure_ascii=False) + "\n")
        draw()
    write_text(README, rendered(text))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

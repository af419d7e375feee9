"""Bias and variance of every gradient estimator on weights, against the exact ∂E[loss]/∂μ, and the cost of a step.

    bayesbinn reproduce estimators --budget day --again    # measure (minutes; `--budget smoke`: one)
    python experiments/estimators.py --render      # write docs/estimators.md and its figure from the day's results

The network is small enough (3-3-1, 12 weights) to sum over all 2¹² of its weights.  λ is ±`magnitude` with random
signs, so that one number says how certain the posterior is.  Estimators that draw ±1 weights get their exact moments
from the 2¹² draws (`DisARM`: the 3¹² pairs); the others theirs from `draws` samples.
"""

import argparse
import inspect
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bayesbinn import BinaryLinear, bernoulli, disarm_loss
from bayesbinn.binarizers import (
    AdaSTE,
    Binarizer,
    Concrete,
    LocalReparam,
    Reference2020,
    ReinMax,
    SignSTE,
    StraightThroughSample,
    TanhAnneal,
)
from bayesbinn.disarm import antithetic_gradient
from bayesbinn.environment import environment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments/results/estimators-day.json"
TABLE = ROOT / "docs/estimators.md"
FIGURES = ROOT / "docs/figures"
QUANTITIES = {"bias": "bias", "std": "standard deviation"}

MAGNITUDES = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0)
HIDDEN, INPUTS, EXAMPLES = 3, 3, 16
WEIGHTS = HIDDEN * INPUTS + HIDDEN
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"tanh": torch.tanh, "relu": torch.relu}

# how the moments are had: from all 2¹² hard draws, from samples, or from the one value that there is
EXACT: tuple[Binarizer, ...] = (StraightThroughSample(), ReinMax(), Reference2020(temperature=1e-10))
SAMPLED: tuple[Binarizer, ...] = (Concrete(temperature=1.0), Concrete(temperature=0.1), LocalReparam())
DETERMINISTIC: tuple[Binarizer, ...] = (
    SignSTE(clip=float("inf")),
    TanhAnneal(beta=1.0, mirror=True),
    TanhAnneal(beta=1.0),
    AdaSTE(),
)
DISARM = "disarm_loss"


class Problem:
    """A two-layer network on random examples of a binary classification, evaluated for R weights at once.

    Attributes:
        losses: (2¹²,), the loss of every weight in `weights` (2¹², 12).
    """

    def __init__(self, seed: int, activation: str) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.x = torch.randn(EXAMPLES, INPUTS, generator=generator, dtype=torch.float64)
        teacher = torch.randn(INPUTS, generator=generator, dtype=torch.float64)
        self.y = (self.x @ teacher > 0).double()
        # without a bias a sign-symmetric network has gradient 0 at λ = 0
        self.hidden_bias = torch.randn(HIDDEN, generator=generator, dtype=torch.float64)
        self.activation = ACTIVATIONS[activation]
        self.signs = torch.randint(0, 2, (WEIGHTS,), generator=generator).double() * 2 - 1
        self.weights = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * WEIGHTS)
        self.losses = self.loss(self.weights, _op)

    def loss(self, parameters: Tensor, apply: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """(R,), the mean loss over the examples for (R, 12) parameters, each layer computing `apply(x, parameter)`."""
        first, last = parameters.split([HIDDEN * INPUTS, HIDDEN], dim=1)
        hidden = self.activation(apply(self.x, first.view(-1, HIDDEN, INPUTS)) + self.hidden_bias)
        logits = apply(hidden, last.view(-1, 1, HIDDEN)).squeeze(-1)
        return F.binary_cross_entropy_with_logits(logits, self.y.expand_as(logits), reduction="none").mean(-1)

    def estimates(self, binarizer: Binarizer, natural: Tensor, noise: Tensor | None = None) -> Tensor:
        """(R, 12), what R steps with this binarizer leave in `.grad` of λ (R, 12); `noise` (R, 12) fixes the draws."""
        natural = natural.clone().requires_grad_()
        if noise is None:
            loss = self.loss(natural, lambda x, part: binarizer(_op, x, part))
        else:
            loss = self.loss(binarizer.binarize(natural, noise=noise), _op)
        (gradient,) = torch.autograd.grad(loss.sum(), natural)
        return gradient

    def exact(self, natural: Tensor) -> Tensor:
        """(12,), ∂E[loss]/∂μ at λ (12,): Σ_w loss(w) · w_i/2 · P(w)/P(w_i)."""
        log_probs = F.logsigmoid(2 * natural * self.weights)
        others = torch.exp(log_probs.sum(1, keepdim=True) - log_probs)
        return (self.losses[:, None] * self.weights / 2 * others).sum(0)

    def disarm(self, natural: Tensor) -> tuple[Tensor, Tensor]:
        """Every estimate (3¹², 12) of DisARM, and its probability (3¹²,)."""
        mode, differ = bernoulli.sign(natural), torch.sigmoid(-2 * natural.abs())
        kinds = torch.cartesian_prod(*[torch.arange(3)] * WEIGHTS)  # both the mode; only w̃; only w
        weight, partner = torch.where(kinds == 2, -mode, mode), torch.where(kinds == 1, -mode, mode)
        probability = torch.where(kinds == 0, 1 - 2 * differ, differ).prod(1)
        difference = self.losses[_index(weight)] - self.losses[_index(partner)]
        return antithetic_gradient(natural, weight, partner, difference[:, None]), probability


def _op(x: Tensor, weight: Tensor, *, bias: bool = True) -> Tensor:
    return x @ weight.mT


def _index(weight: Tensor) -> Tensor:
    """Row of `Problem.weights` that holds this weight: its signs are the binary digits."""
    return ((weight > 0).long() * 2 ** torch.arange(WEIGHTS - 1, -1, -1)).sum(1)


def moments(problem: Problem, estimator: Binarizer | str, magnitude: float, draws: int) -> tuple[Tensor, float, int]:
    """Mean (12,) of the estimate, its variance summed over the weights, and the number of draws (0: exact)."""
    natural = problem.signs * magnitude
    if isinstance(estimator, str):
        estimates, probability = problem.disarm(natural)
    elif estimator in EXACT:
        every = natural.expand(len(problem.weights), -1)
        estimates = problem.estimates(estimator, every, noise=problem.weights * (magnitude + 1))
        probability = torch.sigmoid(2 * natural * problem.weights).prod(1)
    elif estimator in DETERMINISTIC:
        return problem.estimates(estimator, natural[None])[0], 0.0, 0
    else:
        chunks = [problem.estimates(estimator, natural.expand(10_000, -1)) for _ in range(draws // 10_000)]
        estimates = torch.cat(chunks)
        return estimates.mean(0), float(estimates.var(0).sum()), len(estimates)
    mean = probability @ estimates
    return mean, float((probability @ (estimates - mean) ** 2).sum()), 0


def quality(estimator: Binarizer | str, activation: str, magnitude: float, problems: int, draws: int) -> dict[str, Any]:
    """Relative to the norm of the exact gradient, over all problems: bias and deviation of one estimate."""
    squares = {"exact": 0.0, "bias": 0.0, "variance": 0.0, "error": 0.0}
    cosines = []
    for seed in range(problems):
        torch.manual_seed(seed)
        problem = Problem(seed, activation)
        exact = problem.exact(problem.signs * magnitude)
        mean, variance, sampled = moments(problem, estimator, magnitude, draws)
        squares["exact"] += float(exact.square().sum())
        squares["bias"] += float((mean - exact).square().sum())
        squares["variance"] += variance
        squares["error"] += variance / sampled if sampled else 0.0
        cosines.append(float(F.cosine_similarity(mean, exact, dim=0)))
    relative = {name: (value / squares["exact"]) ** 0.5 for name, value in squares.items()}
    return {
        "magnitude": magnitude,
        "entropy": float(bernoulli.entropy(torch.tensor(magnitude))),
        "bias": relative["bias"],
        "bias_standard_error": relative["error"],
        "std": relative["variance"],
        "cosine": statistics.mean(cosines),
        "cosine_per_problem": cosines,
    }


def cost(repetitions: int, features: int, batch: int) -> dict[str, Any]:
    """Median time of forward and backward through one layer, the estimators taking turns."""
    x, upstream = torch.randn(batch, features), torch.randn(batch, features) / batch

    def step_of(layer: nn.Module, disarm: bool = False) -> Callable[[], None]:
        def loss() -> Tensor:
            return (layer(x) * upstream).sum()

        def step() -> None:
            layer.zero_grad()
            (disarm_loss(layer, loss) if disarm else loss()).backward()

        return step

    binarizers = EXACT + SAMPLED + DETERMINISTIC
    steps = {repr(each): step_of(BinaryLinear(features, features, binarizer=each)) for each in binarizers}
    steps[DISARM] = step_of(BinaryLinear(features, features), disarm=True)
    steps["torch.nn.Linear"] = step_of(nn.Linear(features, features))
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repetitions + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append((time.perf_counter() - start) * 1e6)
    medians = {name: statistics.median(each[2:]) for name, each in times.items()}
    return {"features": features, "batch": batch, "repetitions": repetitions, "microseconds": medians}


def measure(
    problems: int = 5,
    draws: int = 40_000,
    magnitudes: tuple[float, ...] = MAGNITUDES,
    repetitions: int = 40,
    features: int = 1024,
    batch: int = 100,
) -> dict[str, Any]:
    """All numbers, with what is needed to repeat them."""
    start = time.perf_counter()
    estimators: tuple[Binarizer | str, ...] = (*EXACT[:2], DISARM, *SAMPLED, EXACT[2], *DETERMINISTIC)
    qualities = {
        activation: {
            str(estimator): [quality(estimator, activation, m, problems, draws) for m in magnitudes]
            for estimator in estimators
        }
        for activation in ACTIVATIONS
    }
    return {
        "config": {"problems": problems, "draws": draws, "network": [INPUTS, HIDDEN, 1], "examples": EXAMPLES},
        "quality": qualities,
        "cost": cost(repetitions, features, batch),
        "environment": {**environment(), "commit": _commit()},
        "seconds": time.perf_counter() - start,
    }


def _commit() -> str:
    command = ["git", "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def table(results: dict[str, Any]) -> str:
    """The results as a Markdown page."""
    config, times, made = results["config"], results["cost"], results["environment"]
    lines = [
        "<!-- generated by `python experiments/estimators.py --render`: do not edit -->",
        "# Gradient estimators on weights",
        "",
        f"A {'-'.join(map(str, config['network']))} network with ±1 weights and real hidden biases,",
        f"{config['examples']} examples, logistic loss, {config['problems']} random problems; every |λ| is the same,",
        "its sign random. Each estimate is compared with the exact ∂E[loss]/∂μ, a sum over all 2¹² networks. A cell is",
        "*bias / standard deviation* of one estimate, both as a share of the norm of the exact gradient; `≲` marks a",
        f"bias that is not above twice its own sampling error ({config['draws']:,} draws; those without are exact).",
        "The last column is the cosine between the mean estimate and the exact gradient for the most certain",
        "posterior: it does not see the scale. The fan-in is 3, which is hard on `LocalReparam`: its normal",
        "approximation gets better with more inputs. `MeanWeight()` has the values and the gradient of",
        "`TanhAnneal(beta=1.0, mirror=True)`, and no row of its own.",
    ]
    for activation, estimators in results["quality"].items():
        points = [p for p in next(iter(estimators.values())) if p["magnitude"] in (0.0, 0.5, 1.0, 2.0, 4.0, 6.0)]
        shown = {p["magnitude"] for p in points}
        header = [f"λ = ±{p['magnitude']:g} ({p['entropy']:.2g} nats)" for p in points]
        lines += ["", f"## {activation}", "", "| " + " | ".join(["estimator", *header, "cosine"]) + " |"]
        lines.append("|---" * (len(header) + 2) + "|")
        for name, row in estimators.items():
            cells = [_cell(p) for p in row if p["magnitude"] in shown]
            lines.append("| " + " | ".join([f"`{name}`", *cells, f"{row[-1]['cosine']:.3f}"]) + " |")
    lines += [
        "",
        "Bias, and standard deviation of one estimate, as shares of the norm of the exact ∂E[loss]/∂μ:",
        "",
        *(
            f"![{label} against the certainty of the posterior, {activation}]({panel_file(activation, quantity)})"
            for activation in results["quality"]
            for quantity, label in QUANTITIES.items()
        ),
        "![names of the estimators by colour and mark](figures/estimators-names.svg)",
        "",
        "## Cost",
        "",
        f"Forward and backward of one {times['features']}×{times['features']} layer, batch {times['batch']}, float32,",
        f"median of {times['repetitions']} interleaved repetitions; threads: {made['threads']}; {made['cpu']}.",
        "Where the machine was shared, the ratios count, not the microseconds.",
        "",
        "| estimator | µs | × `torch.nn.Linear` |",
        "|---|---|---|",
    ]
    base = times["microseconds"]["torch.nn.Linear"]
    for name, value in sorted(times["microseconds"].items(), key=lambda item: item[1]):
        lines.append(f"| `{name}` | {value:,.0f} | {value / base:.2f} |")
    lines += ["", f"Measured with `{made['command']}`, torch {made['torch']}, commit {made['commit']}."]
    return "\n".join(lines) + "\n"


def _cell(point: dict[str, Any]) -> str:
    uncertain = point["bias"] <= 2 * point["bias_standard_error"]
    bias = "0" if point["bias"] < 1e-9 else f"{'≲ ' if uncertain else ''}{_number(point['bias'])}"
    return f"{bias} / {'0' if point['std'] == 0 else _number(point['std'])}"


def _number(value: float) -> str:
    return f"{value:.2f}" if 0.005 <= value < 99.5 else f"{value:.1g}" if value < 0.005 else f"{value:,.0f}"


def panel_file(activation: str, quantity: str) -> str:
    """Where a panel is, seen from the page."""
    return f"figures/estimators-{activation}-{quantity}.svg"


def figure(results: dict[str, Any], folder: Path) -> None:
    """Bias and standard deviation against |λ| and entropy, a panel for each activation; the names in a file."""
    from experiments.figure_style import legend, line, panel

    names = list(next(iter(results["quality"].values())))
    for activation, estimators in results["quality"].items():
        for quantity, label in QUANTITIES.items():
            labels = {"title": f"{activation}: {label}", "xlabel": "|λ|, and entropy of a weight (nats)"}
            with panel(folder.parent / panel_file(activation, quantity), yscale="log", **labels) as axes:
                for name, row in estimators.items():
                    points = [(p["magnitude"], p[quantity]) for p in row if p[quantity] > 1e-9]
                    if points:
                        axes.plot(*zip(*points, strict=True), **line(names.index(name)))
                ticks = [p for p in row if p["magnitude"] in (0, 1, 2, 4, 6)]
                shown = [f"{p['magnitude']:.0f}\n{p['entropy']:.1g}" for p in ticks]
                axes.set_xticks([p["magnitude"] for p in ticks], shown)
    legend(folder / "estimators-names.svg", {name: line(i) for i, name in enumerate(names)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--config", type=Path, help="recipe whose [settings] are the arguments of `measure`")
    parser.add_argument("--output", type=Path, default=RESULTS, help="file of the results (default: %(default)s)")
    parser.add_argument("--render", action="store_true", help=f"write {TABLE.name} and its figures from the results")
    arguments = parser.parse_args()
    if arguments.config:
        settings = tomllib.loads(arguments.config.read_text(encoding="utf-8")).get("settings", {})
        known = list(inspect.signature(measure).parameters)
        if unknown := sorted(settings.keys() - set(known)):
            parser.error(f"{arguments.config} sets {', '.join(unknown)}: the settings are {', '.join(known)}")
        torch.set_num_threads(1)
        results = json.loads(json.dumps(measure(**settings)), parse_float=lambda digits: float(f"{float(digits):.6g}"))
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(results, indent=1, ensure_ascii=False) + "\n"
        arguments.output.write_text(text, encoding="utf-8")
    if arguments.render:
        results = json.loads(arguments.output.read_text(encoding="utf-8"))
        TABLE.write_text(table(results), encoding="utf-8")
        figure(results, FIGURES)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()

"""A continual run from end to end: start or resume it, and what it leaves."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import _native, continual
from ..continual import Stream
from ..data.dataset import load_data
from ..environment import environment
from ..errors import UserError
from ..files import write_text
from ..locks import one_writer
from ..optim import BayesBiNN, BiMU, Palimpsest
from ..posterior import has_posterior
from .checkpoint import has_checkpoint
from .config import make, read_toml, to_toml
from .continual_config import ContinualConfig, resolve_continual
from .continual_loop import ContinualCallbacks, ContinualTrainer
from .methods import apply_method
from .models import build_model
from .run import check_new, find_device
from .tasks import load_stream, statistics


def build(stream: Stream, config: ContinualConfig) -> tuple[nn.Module, dict[str, Optimizer], continual.Strategy]:
    """The network, its optimizers and the strategy of a resolved configuration.

    Raises:
        UserError: for settings that the library refuses, or a buffer larger than the data.
    """
    c = config
    net = build_model(c.model_config, stream.input_shape, stream.num_outputs, *statistics(stream))
    binary_weights = c.method != "float"
    statistics_of: Any = c.statistics  # one of the choices
    continual.normalize_(net, statistics_of, c.tasks, c.output_gain, binary=binary_weights)
    net, optimizers = apply_method(net.to(c.device), c)
    binary = optimizers.get("binary")
    strategy: continual.Strategy = continual.Naive()
    if c.strategy in ("prior", "bayesbinn-2020"):
        assert isinstance(binary, BayesBiNN)
        strategy = continual.PosteriorToPrior(binary, c.strength, c.limit or None)
    elif c.strategy == "ewc":
        strategy = continual.EWC(net, c.strength, seed=c.seed)
    elif c.strategy == "replay":
        total = len(stream[0].train) * len(stream)
        if c.buffer > total:
            raise UserError(f"buffer {c.buffer} is larger than the data, {total} examples in all: lower it")
        strategy = continual.Replay(c.buffer, seed=c.seed)
    elif c.strategy == "window" and binary is not None:
        for group in binary.param_groups:
            group["metaplasticity"] = c.metaplasticity
        if c.limit:
            strategy = continual.Bounded(binary.param_groups[0]["params"], c.limit)
    elif c.strategy == "palimpsest":
        assert binary is not None
        assert c.window is not None
        optimizers["binary"] = Palimpsest(
            binary.param_groups[0]["params"],
            num_examples=c.batch_size / (c.kl_weight or 1.0),
            window=c.window / c.batch_size,
            metaplasticity=c.metaplasticity,
            momentum=c.momentum or 0.0,
        )
    elif c.strategy == "bimu":
        assert binary is not None
        assert c.window is not None
        assert c.lr is not None
        steps = c.window / c.batch_size
        optimizers["binary"] = BiMU(
            binary.param_groups[0]["params"], c.lr, window=steps, gradient_gain=c.gain, max_step=c.max_step
        )
    return net, optimizers, strategy


def train_continual(
    settings: dict[str, Any], run: Path, *, resume: bool = False, callbacks: ContinualCallbacks | None = None
) -> dict[str, Any]:
    """Train on a stream into the folder `run`.

    Args:
        settings: of `ContinualConfig`; what is left out has its default.
        run: the run's folder; new or empty, unless resuming.
        resume: continue the run in `run` bit for bit; starts it where there is none yet.
        callbacks: for progress and for stopping.

    Returns:
        What RUN/results.json holds: "matrix" (T rows, from `row_examples` test examples a task and `row_samples`
        networks), "mode_row" and "mean_row" (after the last task: all test examples, the mode and the mean of `samples`
        networks), "untrained", "metrics", "tasks" (a line per task), "config", "train_seconds" and "environment".

    Raises:
        UserError: for anything wrong with the settings, the data or the folder.
        StoppedError: at a signal, with everything saved.
    """
    with one_writer(run):
        return _train(settings, run, resume, callbacks)


def _train(settings: dict[str, Any], run: Path, resume: bool, callbacks: ContinualCallbacks | None) -> dict[str, Any]:
    resuming = resume and (run / "config.toml").exists()
    config = make(ContinualConfig, settings)
    if resuming:
        config = _stored(settings, config, run)
    else:
        check_new(run)
    if config.threads:
        torch.set_num_threads(config.threads)
    _native.check_choice()
    find_device(config.device)  # before anything is loaded
    asked = config
    stream = load_stream(config)
    config = resolve_continual(config, len(stream[0].train))
    torch.manual_seed(config.seed)
    ood = _unknown_inputs(config, stream)
    try:
        net, optimizers, strategy = build(stream, config)
    except UserError:
        raise
    except ValueError as error:  # what the library refuses, the user asked for
        raise UserError(str(error)) from None
    trainer = ContinualTrainer(net, optimizers, strategy, stream, config, run, ood)
    if resuming and has_checkpoint(run):
        trainer.load()
    else:
        write_text(run / "config.toml", to_toml(asked))
    trainer.fit(callbacks)
    result = _result(trainer)
    write_text(run / "results.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    return result


def _result(trainer: ContinualTrainer) -> dict[str, Any]:
    c, p = trainer.config, trainer.progress
    rows = [line["accuracy"] for line in p.lines]
    final: dict[str, list[float]] = {"mode_row": [], "mean_row": []}
    for j in range(c.tasks):
        test = trainer.stream[j].test
        final["mode_row"].append(trainer.accuracy(j, test, 0))
        final["mean_row"].append(
            trainer.accuracy(j, test, c.samples) if has_posterior(trainer.net) else final["mode_row"][-1]
        )
    matrix = torch.tensor(rows, dtype=torch.float64)
    metrics = continual.metrics.summary(matrix, torch.tensor(p.untrained, dtype=torch.float64))
    for name in ("mode", "mean"):
        last = torch.tensor(final[f"{name}_row"], dtype=torch.float64).expand(c.tasks, -1)
        metrics |= {
            f"{name}_average": continual.metrics.average_accuracy(last),
            f"{name}_last_5": continual.metrics.average_accuracy(last, last=5),
            f"{name}_last_20": continual.metrics.average_accuracy(last, last=20),
        }
    return {
        "metrics": metrics,
        "matrix": rows,
        **final,
        "untrained": p.untrained,
        "tasks": [{k: v for k, v in line.items() if k != "accuracy"} for line in p.lines],
        "config": {k: v for k, v in dataclasses.asdict(c).items() if v is not None},
        "train_seconds": p.seconds,
        "environment": environment(),
    }


def _unknown_inputs(config: ContinualConfig, stream: Stream) -> Tensor | None:
    if not config.ood:
        return None
    x = load_data(config.ood).test.x
    if tuple(x.shape[1:]) != stream.input_shape:
        found = tuple(x.shape[1:])
        raise UserError(f"ood {config.ood} has inputs of shape {found}, the stream of shape {stream.input_shape}")
    return x[: config.row_examples or len(x)]


def _stored(settings: dict[str, Any], config: ContinualConfig, run: Path) -> ContinualConfig:
    stored = make(ContinualConfig, read_toml(run / "config.toml"))
    for key in settings:
        before, now = getattr(stored, key), getattr(config, key)
        if before != now:
            raise UserError(f"{run} was started with {key} = {before!r}, not {now!r}: resume it unchanged")
    return stored

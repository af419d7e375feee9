"""A continual run from end to end: start or resume it, what is measured after each task, and what it leaves."""

import json
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import continual, metrics
from ..continual import Examples, Stream, Task, set_task, task_logits
from ..data import load_data
from ..environment import environment
from ..errors import UserError
from ..files import write_text
from ..locks import one_writer
from ..nn import UncalibratedWarning
from ..posterior import has_posterior, posterior_summary
from ..prediction import predict
from .config import settings_of
from .course import Callbacks, Course
from .distributed import World
from .loop import Trainer
from .start import begin, check_augment, find_device, make_network, optimizer_of, started
from .strategies import STRATEGIES, ContinualConfig
from .tasks import absolute, fingerprint, load_stream, statistics


def train_continual(
    settings: dict[str, Any], run: Path, *, resume: bool = False, callbacks: Callbacks | None = None
) -> dict[str, Any]:
    """Train on a stream into the folder `run`.

    Args:
        settings: of `ContinualConfig`, the method and the strategy; what is left out has its default.
        run: the run's folder; new or empty, unless resuming.
        resume: continue the run in `run` bit for bit; starts it where there is none yet.
        callbacks: for progress and for stopping.

    Returns:
        What RUN/results.json holds: "matrix" (T rows, from `row_examples` test examples a task and `row_samples`
        networks; a row begins with the task that "first" says), "mode_row" and "mean_row" (after the last task: all
        test examples, the mode and the mean of `samples` networks), "untrained", "metrics", "tasks" (a line per task),
        "config", "train_seconds" and "environment".

    Raises:
        UserError: for anything wrong with the settings, the data or the folder.
        StoppedError: at a signal, with everything saved.
    """
    with one_writer(run):
        config, resuming = started(ContinualConfig, settings, run, resume, World(), absolute)
        find_device(config.device)  # before anything is loaded
        stream = load_stream(config)
        for note in (*config.notes, *stream.notes):
            (callbacks or Callbacks()).note(note)
        trainer, matrix = build(replace(config, data=absolute(config.data)), stream, run)
        begin(trainer, resuming)
        trainer.fit(callbacks)
        result = matrix.result(trainer)
        write_text(run / "results.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
        return result


def build(config: ContinualConfig, stream: Stream, run: Path) -> tuple[Trainer, "Matrix"]:
    """The trainer of a configuration, and what it measures.

    Raises:
        UserError: for settings that the library refuses, or a buffer larger than the data.
    """
    c, row = config, STRATEGIES[config.strategy]
    check_augment(c, stream.input_shape)
    torch.manual_seed(c.seed)
    unknown = _unknown_inputs(c, stream)
    net = make_network(c, stream.input_shape, stream.num_outputs, *statistics(stream)).to(find_device(c.device))
    optimizer = optimizer_of(net, c, len(stream[0].train))
    matrix = Matrix(c, stream, unknown, {})
    course = Course(
        joint(stream) if c.strategy == "joint" else stream,
        strategy=row.make(net, optimizer, c.strategy_options, stream, c.seed),
        blend=c.blend,
        share=len(stream) if c.strategy == "joint" else 1,
        measure=matrix.measure,
    )
    description = {
        "model": c.model,
        "method": c.method,
        "stream": fingerprint(stream),
        "input_shape": list(stream.input_shape),
        "num_outputs": stream.num_outputs,
        "classes": list(stream.classes),
        "offset": list(stream.offset),
        "features": list(stream.features),
        "image_size": c.image_size,
        "config": settings_of(c),
    }
    return Trainer(net, optimizer, course, c, run, description), matrix


def joint(stream: Stream) -> Stream:
    """The same stream, every task with the training examples of all: a T-th of them each time is as many steps."""

    def union() -> Examples:
        parts = [task.train for task in stream]
        return Examples(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]))

    def make(index: int) -> Task:
        task = stream[index]
        outputs = None if stream.heads is None else tuple(range(stream.num_outputs))
        return replace(task, make_train=union, outputs=outputs)

    return replace(stream, make=make)


@dataclass(frozen=True)
class Matrix:
    """Measures what a network knows of every task, seen or not, before the first task and after each.

    Attributes:
        unknown: inputs of another data set, of the stream's shape, or None.
        tests: the test examples of the matrix by task, the same in every row.
    """

    config: ContinualConfig
    stream: Stream
    unknown: Tensor | None
    tests: dict[int, Examples]

    def measure(self, trainer: Trainer) -> dict[str, Any]:
        """A row of the matrix, the entropy and saturation of the posterior, and how well unknown inputs stand out."""
        net, c, index = trainer.net, self.config, trainer.index
        row = self.row(len(trainer.progress.tasks) - 1)
        accuracy = [self.accuracy(net, j, self._test(j), c.row_samples, index) for j in row]
        line: dict[str, Any] = {"first": row.start, "accuracy": accuracy}
        if has_posterior(net):
            total = posterior_summary(net).total
            line |= {"entropy": total.entropy, "saturated": total.saturated, "undecided": total.undecided}
        if self.unknown is not None:
            pair, samples = (self._test(index).x, trainer.task.transform(self.unknown)), c.row_samples or c.samples
            probs = (self._predict(net, index, x, samples, index).double() for x in pair)
            line["ood_auroc"] = metrics.auroc(*(torch.special.entr(p).sum(-1) for p in probs))
        set_task(net, index)
        return line

    def row(self, index: int) -> range:
        """The tasks of the row after task `index`; that of the untrained network (-1) and the last one have all."""
        tasks, count = self.config.tasks, self.config.row_tasks
        if not count or index in (-1, tasks - 1):
            return range(tasks)
        row = range(max(0, index + 1 - count), min(tasks, index + 2))
        for task in self.tests.keys() - set(row):
            del self.tests[task]
        return row

    def accuracy(self, net: nn.Module, task: int, examples: Examples, num_samples: int, latest: int) -> float:
        """Accuracy on one task, in [0, 1]; one that has not been seen takes the batch-norm statistics of the latest."""
        labels = self._predict(net, task, examples.x, num_samples, latest).argmax(-1)
        return float((labels == examples.y.to(labels.device)).double().mean())

    def result(self, trainer: Trainer) -> dict[str, Any]:
        """What RUN/results.json holds."""
        c, net, last = self.config, trainer.net, self.config.tasks - 1
        untrained, *lines = trainer.progress.tasks
        rows = [line["accuracy"] for line in lines]
        matrix = torch.full((c.tasks, c.tasks), torch.nan, dtype=torch.float64)
        first = [line.get("first", 0) for line in lines]  # of older runs each row has all tasks
        for whole, start, measured in zip(matrix, first, rows, strict=True):
            whole[start:][: len(measured)] = torch.tensor(measured, dtype=torch.float64)
        final = {
            f"{name}_row": [self.accuracy(net, j, self.stream[j].test, samples, last) for j in range(c.tasks)]
            for name, samples in (("mode", 0), ("mean", c.samples))
        }
        found = continual.metrics.summary(matrix, torch.tensor(untrained["accuracy"], dtype=torch.float64))
        average = continual.metrics.average_accuracy
        for name in ("mode", "mean"):
            row = torch.tensor(final[f"{name}_row"], dtype=torch.float64).expand(c.tasks, -1)
            spans = {
                "average": average(row),
                "last_5": average(row, last=5),
                "last_20": average(row, last=20),
            }
            found |= {f"{name}_{span}": value for span, value in spans.items()}
        return {
            "metrics": found,
            "matrix": rows,
            "first": first,
            **final,
            "untrained": untrained["accuracy"],
            "tasks": [{k: v for k, v in line.items() if k not in ("accuracy", "first")} for line in lines],
            "config": settings_of(c),
            "train_seconds": trainer.progress.seconds,
            "environment": environment(),
        }

    def _predict(self, net: nn.Module, task: int, x: Tensor, num_samples: int, latest: int) -> Tensor:
        samples = num_samples if has_posterior(net) else 0
        outputs = self.stream.heads[task] if self.stream.heads else None
        set_task(net, min(task, latest))
        with warnings.catch_warnings():  # which statistics a stream predicts with is the setting `statistics`
            warnings.simplefilter("ignore", UncalibratedWarning)
            return predict(net, x, samples, seed=self.config.seed, output=lambda z: task_logits(z, outputs)).probs

    def _test(self, task: int) -> Examples:
        if task not in self.tests:
            test, count = self.stream[task].test, self.config.row_examples
            if count and count < len(test):
                chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(task))[:count]
                test = Examples(test.x[chosen], test.y[chosen])
            self.tests[task] = test
        return self.tests[task]


def _unknown_inputs(config: ContinualConfig, stream: Stream) -> Tensor | None:
    if not config.ood:
        return None
    channels = stream.input_shape[0] if len(stream.input_shape) == 3 else 0
    x = load_data(config.ood, offset=stream.offset, image_size=config.image_size, channels=channels).test.x
    if tuple(x.shape[1:]) != stream.input_shape:
        found = tuple(x.shape[1:])
        raise UserError(f"ood {config.ood} has inputs of shape {found}, the stream of shape {stream.input_shape}")
    return x[: config.row_examples or len(x)]

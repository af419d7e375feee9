"""The loop of a continual run: task after task, a row of the accuracy matrix after each, resumable at any step."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from .. import continual
from ..continual import Examples, Stream, Task, set_task
from ..errors import UserError
from ..optim import BayesBiNN
from ..posterior import has_posterior, posterior_summary
from ..predict import predict
from .checkpoint import flatten_optimizer, load_checkpoint, save_checkpoint, unflatten_optimizer
from .config import settings_of
from .continual_config import ContinualConfig
from .loop import StoppedError, rate_factor
from .restore import check_description, compare_threads, load_state
from .run import find_device
from .tasks import fingerprint


@dataclass
class ContinualCallbacks:
    """What the loop tells and asks the outside.

    Attributes:
        step: called with (task from 0, steps done in it, its steps) after every step.
        task: called with (what was measured after a task, number of tasks).
        stop: asked after every step; True saves a checkpoint and raises `StoppedError`.
    """

    step: Callable[[int, int, int], None] = lambda task, done, total: None
    task: Callable[[dict[str, Any], int], None] = lambda line, tasks: None
    stop: Callable[[], bool] = lambda: False


@dataclass
class ContinualProgress:
    """Where a run stands; all of it is in a checkpoint.  `untrained` holds the accuracies before the first step."""

    task: int = 0
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    untrained: list[float] = field(default_factory=list)
    lines: list[dict[str, Any]] = field(default_factory=list)


class ContinualTrainer:
    """Trains `net` on the tasks of `stream` into the folder `run`.

    Args:
        net, optimizers: from `build`.
        strategy: against forgetting.
        stream: its tasks are built one at a time.
        config: resolved.
        ood: inputs of another data set, of the stream's shape, or None.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizers: dict[str, Optimizer],
        strategy: continual.Strategy,
        stream: Stream,
        config: ContinualConfig,
        run: Path,
        ood: Tensor | None = None,
    ) -> None:
        self.net, self.optimizers, self.strategy, self.stream = net, optimizers, strategy, stream
        self.config, self.run, self.ood = config, run, ood
        self.device = find_device(config.device)
        self.base_rates = {name: [group["lr"] for group in o.param_groups] for name, o in optimizers.items()}
        self.offsets = continual.competitors(stream)
        self.progress = ContinualProgress()
        self._tests: dict[int, Examples] = {}

    def fit(self, callbacks: ContinualCallbacks | None = None) -> None:
        """Train on all tasks.

        Raises:
            UserError: when the loss is not finite; the last good checkpoint stays.
            StoppedError: at a signal, after saving.
        """
        callbacks = callbacks or ContinualCallbacks()
        p, c = self.progress, self.config
        if not p.untrained:
            p.untrained = self._row(0)
        while p.task < c.tasks:
            task, following = self._task(p.task), None
            if c.blend and p.task + 1 < c.tasks:
                following = self.stream[p.task + 1]
            set_task(self.net, p.task)
            self._train(task, following, callbacks)
            if not c.blend:
                self.strategy.after_task(self.net, task.train, task.outputs)
            line = {"task": p.task + 1, "name": task.name, "accuracy": self._row(p.task), **self._posterior(task)}
            line["seconds"] = p.seconds
            p.lines.append(line)
            p.task, p.epoch, p.batch = p.task + 1, 0, 0
            self.save()
            callbacks.task(line, c.tasks)
            if p.task < c.tasks and callbacks.stop():
                raise StoppedError

    def _task(self, index: int) -> Task:
        if self.config.strategy != "joint":
            return self.stream[index]
        parts = [task.train for task in self.stream]
        union = Examples(torch.cat([part.x for part in parts]), torch.cat([part.y for part in parts]))
        # a T-th of the union each time, so that joint training takes as many steps as the others
        return Task("all tasks", lambda: union, lambda: union)

    def _train(self, task: Task, following: Task | None, callbacks: ContinualCallbacks) -> None:
        p, c = self.progress, self.config
        size = len(task.train) // (c.tasks if c.strategy == "joint" else 1)
        per_epoch = size // c.batch_size
        if per_epoch == 0:
            raise UserError(f"batch_size {c.batch_size} exceeds the {size} training examples of {task.name}: lower it")
        total = c.epochs * per_epoch
        started = time.perf_counter() - p.seconds
        self.net.train()
        while p.epoch < c.epochs:
            # every random decision about data comes from this seed, so that a resumed epoch sees the same batches
            generator = torch.Generator().manual_seed(((c.seed << 40) + (p.task << 20) + p.epoch) % 2**63)
            order = torch.randperm(len(task.train), generator=generator).to(self.device)
            for batch in range(per_epoch):
                chosen = order[batch * c.batch_size : (batch + 1) * c.batch_size]
                done = p.epoch * per_epoch + batch
                x, y = continual.draw_batch(task, following, chosen, done / total, c.blend, generator)
                if batch < p.batch:  # drawn again only to move the generator on
                    continue
                self._step(x, y, rate_factor(c, done, per_epoch))
                p.batch += 1
                p.seconds = time.perf_counter() - started
                callbacks.step(p.task, done + 1, total)
                last = done + 1 == total  # followed by the task's own checkpoint
                stop = not last and callbacks.stop()
                if stop or (not last and c.checkpoint_steps and (done + 1) % c.checkpoint_steps == 0):
                    self.save()
                if stop:
                    raise StoppedError
            p.epoch, p.batch = p.epoch + 1, 0

    def _step(self, x: Tensor, y: Tensor, factor: float) -> None:
        for name, optimizer in self.optimizers.items():
            optimizer.zero_grad()
            for group, base in zip(optimizer.param_groups, self.base_rates[name], strict=True):
                group["lr"] = base * factor
        inputs, labels = self.strategy.batch(x, y)
        logits = self.net(inputs)
        if self.offsets is not None:
            logits = logits + self.offsets[labels]
        loss = F.cross_entropy(logits, labels) + self.strategy.penalty()
        if not math.isfinite(float(loss.detach())):
            raise UserError(
                f"the loss became {float(loss.detach())} in task {self.progress.task + 1}: training stopped, the last "
                f"checkpoint is kept; lower lr (now {self.config.lr})"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in self.optimizers.values():
            optimizer.step()
        self.strategy.after_step(x, y)

    def _row(self, task: int) -> list[float]:
        """Accuracy on every task, seen or not, of the network as it is."""
        return [self.accuracy(j, self._test(j), self.config.row_samples, latest=task) for j in range(self.config.tasks)]

    def accuracy(self, task: int, examples: Examples, num_samples: int, latest: int | None = None) -> float:
        """Accuracy on one task, in [0, 1]; one that has not been seen takes the batch-norm statistics of the latest."""
        latest = self.config.tasks - 1 if latest is None else latest
        probs = self._predict(task, examples.x, num_samples, latest)
        return float((probs.argmax(-1) == examples.y).double().mean())

    def _predict(self, task: int, x: Tensor, num_samples: int, latest: int) -> Tensor:
        samples = num_samples if has_posterior(self.net) else 0
        outputs = self.stream.heads[task] if self.stream.heads else None
        set_task(self.net, min(task, latest))
        return predict(_Head(self.net, outputs), x, samples, seed=self.config.seed).probs

    def _test(self, task: int) -> Examples:
        """The test examples for the matrix, kept: the same in every row."""
        if task not in self._tests:
            test, count = self.stream[task].test, self.config.row_examples
            if count and count < len(test):
                chosen = torch.randperm(len(test), generator=torch.Generator().manual_seed(task))[:count]
                test = Examples(test.x[chosen], test.y[chosen])
            self._tests[task] = test
        return self._tests[task]

    def _posterior(self, task: Task) -> dict[str, float]:
        """Entropy and saturation of the posterior, and how well unknown inputs stand out, after a task."""
        line: dict[str, float] = {}
        if has_posterior(self.net):
            rule = self.optimizers.get("binary")
            total = posterior_summary(self.net, rule if isinstance(rule, BayesBiNN) else None).total
            line = {"entropy": total.entropy, "saturated": total.saturated, "undecided": total.undecided}
        if self.ood is not None:
            from torchmetrics.functional.classification import binary_auroc  # slow to import

            index = self.progress.task
            inside = self._test(index).x
            entropies = []
            for x in (inside, task.transform(self.ood)):
                probs = self._predict(index, x, self.config.row_samples or self.config.samples, index).double()
                entropies.append(torch.special.entr(probs).sum(-1).cpu())
            scores = torch.cat(entropies)
            unknown = torch.arange(len(scores)) >= len(inside)
            ranks = torch.unique(scores, return_inverse=True)[1].double() / len(scores)
            line["ood_auroc"] = float(binary_auroc(ranks, unknown.long()))
        return line

    def save(self) -> None:
        """Replace the run's checkpoint by the present state."""
        training: dict[str, Tensor] = {"random.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            training["random.cuda"] = torch.cuda.get_rng_state(self.device)
        training |= {f"strategy.{name}": value for name, value in self.strategy.state_dict().items()}
        packed = {}
        for name, optimizer in self.optimizers.items():
            tensors, packed[name] = flatten_optimizer(name, optimizer)
            training |= tensors
        state = {
            "progress": dataclasses.asdict(self.progress),
            "optimizers": packed,
            "description": {"stream": fingerprint(self.stream), "config": settings_of(self.config)},
            "threads": torch.get_num_threads(),
        }
        save_checkpoint(self.run, self.net.state_dict(), training, state)

    def load(self) -> None:
        """Continue from the run's checkpoint.

        Raises:
            UserError: if it is missing, damaged, or of another network or stream.
        """
        model, training, state = load_checkpoint(self.run)
        if state["description"].get("stream") != fingerprint(self.stream):
            raise UserError(
                f"{self.run} was started with another stream than {self.config.data} is now: restore its data"
            )
        check_description(state["description"], {"config": settings_of(self.config)}, self.run)
        compare_threads(state["threads"], self.run)
        load_state(self.net, model, self.run)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(unflatten_optimizer(name, training, state["optimizers"][name]))
        prefix = "strategy."
        self.strategy.load_state_dict({k.removeprefix(prefix): v for k, v in training.items() if k.startswith(prefix)})
        self.progress = ContinualProgress(**state["progress"])
        torch.set_rng_state(training["random.cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(training["random.cuda"], self.device)


class _Head(nn.Module):
    """A network of which only some outputs compete."""

    def __init__(self, net: nn.Module, outputs: tuple[int, ...] | None) -> None:
        super().__init__()
        self.net, self.outputs = net, outputs

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        return continual.task_logits(logits, self.outputs)

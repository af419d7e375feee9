"""The one training loop: tasks of epochs of steps, a log line and a checkpoint per epoch, and resuming bit for bit.

A data set is a stream of one task.
"""

import json
import math
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .. import shards
from ..continual import competitors, draw_batch, set_task
from ..data import AUGMENTATIONS, channels_last
from ..errors import UserError
from ..files import write_text
from ..nn import Likelihood, likelihood_of
from ..nn.batch_norm import own_statistics
from ..optim import NetworkOptimizer
from ..posterior import has_posterior
from .checkpoint import damaged, load_checkpoint, save_checkpoint
from .config import Config
from .course import Callbacks, Course, StoppedError
from .distributed import World
from .measure import mode_metrics, posterior_metrics
from .methods import count_data_
from .restore import check_description
from .schedule import Schedule
from .state import Progress, State

CHECK_STEPS = 16  # between two looks at the loss on an accelerator: each waits for all that has been asked of it


class Trainer:
    """Trains `net` on `course` into the folder `run`.

    Args:
        net: from `build_model` and `make_binary_`, on the device to train on; with several ranks, equal on all.
        optimizer: from `make_optimizer`, of all parameters.
        config: `epochs` counts per task, and the schedules start anew with each.
        description: what the network is for and how it is trained; in every checkpoint, and the same in each.
        world: the processes that train together; every rank has a trainer, and rank 0 writes.
        likelihood: what the outputs are taken for in training; default: what the network ends with.

    Raises:
        UserError: if a batch is larger than the first task.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: NetworkOptimizer,
        course: Course,
        config: Config,
        run: Path,
        description: dict[str, Any],
        world: World | None = None,
        likelihood: Likelihood | None = None,
    ) -> None:
        self.net, self.optimizer, self.course, self.config, self.run = net, optimizer, course, config, run
        self.description, self.world = description, world or World()
        self.state = State(net, optimizer, course.strategy, self.world)
        self.device = self.state.device
        self.schedule = Schedule(net, optimizer, config)
        self.likelihood = (likelihood or likelihood_of(net)).to(self.device)
        self.loss = config.method_row.loss(config.method_options)
        offsets = competitors(course.stream)
        self.offsets = None if offsets is None else offsets.to(self.device)
        self.index = -1
        self._begin_task()
        self.model = self.world.wrap(net)
        norms = (m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats)
        self.statistics = [s for m in norms for s in (m.running_mean, m.running_var) if s is not None]
        full = self.world.sharding == "full"
        self.numbers = [p for p in net.parameters() if full and not shards.is_split(p)]
        if self.world.size > 1:  # the network was made alike on every rank; from here on each has its own draws
            self.world.seed(config.seed)

    @property
    def progress(self) -> Progress:
        """Where training stands."""
        return self.state.progress

    def fit(self, callbacks: Callbacks | None = None) -> None:
        """Train to the end.

        Raises:
            UserError: when the loss or a weight is not finite; the last good checkpoint stays.
            StoppedError: at a signal, after saving.
        """
        callbacks, p, c = callbacks or Callbacks(), self.progress, self.config
        tasks = len(self.course.stream)
        epochs = c.epochs * (tasks if c.modes == 1 else 1)
        if self.course.measure and not p.tasks:
            p.tasks.append(self.course.measure(self))
        while p.epoch < epochs:
            self._begin_task()
            self._epoch(callbacks)
            line = self._end_epoch()
            ended = c.place(p.epoch)[1] == 0
            if ended:
                self._end_task()
            self.save()
            self._write_log()
            callbacks.epoch(line, c.epochs)
            if ended and self.course.measure:
                callbacks.task(p.tasks[-1], tasks)
            if p.epoch < epochs and self.world.any(callbacks.stop()):
                raise StoppedError

    # --- one task, one epoch, one step ---

    def _begin_task(self) -> None:
        """Build the task in force, and the one that it drifts into."""
        c, stream = self.config, self.course.stream
        cycle, _, epochs = c.place(self.progress.epoch)
        index = min(cycle, len(stream) - 1)
        set_task(self.net, index)
        if index == self.index:
            return
        self.index, self.task, self.following = index, stream[index], None
        if self.course.blend and index + 1 < len(stream):
            self.following = stream[index + 1]
        count_data_(self.optimizer, c.method_options, self.task.train.y.numel())  # of text: tokens
        size = len(self.task.train) // self.course.share
        part = min(size, c.epoch_size or size)
        self.batches_per_epoch, self.parts = part // c.batch_size, max(1, size // max(1, part))
        self.total_steps = epochs * self.batches_per_epoch
        if self.batches_per_epoch == 0:
            whose = f" of {self.task.name}" if len(stream) > 1 else ""
            raise self.world.agreed(
                UserError(f"batch_size {c.batch_size} exceeds the {part} training examples{whose}: lower it")
            )

    @property
    def done(self) -> int:
        """Steps done in the task."""
        return self.config.place(self.progress.epoch)[1] * self.batches_per_epoch + self.progress.batch

    def _epoch(self, callbacks: Callbacks) -> None:
        p, c = self.progress, self.config
        started = time.perf_counter() - p.seconds
        self.net.train()
        for x, y in self._batches():
            self._step(AUGMENTATIONS[c.augment](x), y)
            p.batch += 1
            p.seconds = time.perf_counter() - started
            callbacks.step(self.done, self.total_steps)
            if p.batch < self.batches_per_epoch:  # after the last step, the end of the epoch saves and asks
                stop = self.world.any(callbacks.stop())
                if stop or (c.checkpoint_steps and p.batch % c.checkpoint_steps == 0):
                    self.save()
                if stop:
                    raise StoppedError

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """This rank's part of the batches that are left of the epoch; the rest of N is dropped."""
        p, c, train = self.progress, self.config, self.task.train
        # every random decision about data comes from this seed, so that a resumed epoch sees the same batches
        part = p.epoch % self.parts  # of one pass over the training set
        generator = torch.Generator().manual_seed((c.seed << 20) + p.epoch - part)
        order = torch.randperm(len(train), generator=generator).to(train.x.device)
        order = order[part * self.batches_per_epoch * c.batch_size :]
        done, first = self.done - p.batch, p.batch
        for batch in range(self.batches_per_epoch):
            chosen = self.world.part(order[batch * c.batch_size : (batch + 1) * c.batch_size])
            progress = (done + batch) / self.total_steps
            x, y = draw_batch(self.task, self.following, chosen, progress, self.course.blend, generator)
            if batch >= first:  # the others were drawn again only to move the generator on
                yield channels_last(x.to(self.device)), y.to(self.device)

    def _step(self, x: Tensor, y: Tensor) -> None:
        p, c, done = self.progress, self.config, self.done
        self.schedule.set_(done, self.total_steps, self.batches_per_epoch)
        self.optimizer.zero_grad()
        inputs, labels = self.course.strategy.batch(x, y)
        nll, score = torch.zeros_like(p.nll_sum), torch.zeros_like(p.score)
        size = c.micro_batch or len(labels)
        parts = [slice(start, start + size) for start in range(0, len(labels), size)]
        chunks = [(inputs[part], labels[part]) for part in parts] * c.train_samples
        for i, (own_inputs, own_labels) in enumerate(chunks):
            outputs: list[Tensor] = []
            weight = len(own_labels) / len(labels) / c.train_samples
            with nullcontext() if i == len(chunks) - 1 else self.world.accumulating(self.model):
                loss = self.loss(self.net, partial(self._evaluate, own_inputs, own_labels, outputs))
                ((loss + self.course.strategy.penalty()) * weight).backward()  # type: ignore[no-untyped-call]
            nll += loss.detach() * weight
            score += self.likelihood.score(outputs[0], own_labels) / c.train_samples
        self._share(nll, score)
        p.nll_sum += nll
        p.score += score
        p.seen += len(labels) * self.world.size
        if self.device.type == "cpu" or done % CHECK_STEPS == 0:
            self._check_loss()
        self.optimizer.step()
        self.course.strategy.after_step(x, y)

    def _evaluate(self, x: Tensor, y: Tensor, outputs: list[Tensor]) -> Tensor:
        # ±1 is exact in bfloat16: what it rounds are activations and gradients
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            out = self.model(x).float()
        if self.offsets is not None:
            out = out + self.offsets[y]
        outputs.append(out.detach())
        return self.likelihood.loss(out, y)

    @torch.no_grad()
    def _share(self, nll: Tensor, score: Tensor) -> None:
        """Make what a step has found the same on all ranks: average the loss, batch norm's running statistics and the
        gradients that FSDP2 leaves alone, add up the scores of all; so a loss of NaN on one rank is one on all."""
        if self.world.size > 1:
            averages = [nll, *(p.grad for p in self.numbers if p.grad is not None), *self.statistics]
            for average in averages:
                average /= self.world.size
            self.world.sum_(score, *averages)

    # --- what is measured ---

    def _end_epoch(self) -> dict[str, Any]:
        p = self.progress
        self._check_loss()
        nll = float(p.nll_sum) / self.batches_per_epoch
        several = len(self.course.stream) > 1 and self.config.modes == 1
        line: dict[str, Any] = {"task": self.index + 1} if several else {}
        line |= {"epoch": p.epoch % self.config.epochs + 1, "loss": nll, "nll": nll}
        line[self.likelihood.figure] = self.likelihood.figure_of(float(p.score), p.seen)
        seen = self.course.calibration
        own = own_statistics(self.net, seen) if seen is not None else nullcontext()
        with own:
            measured = mode_metrics(self.net, self.task.test, outputs=self.task.outputs, world=self.world)
        line |= {f"{self.course.part}_{name}": value for name, value in measured.items()}
        previous, now = self.state.summary, self.state.summarise(self.state.summary)
        if previous is not None and now is not None:
            line["flip_rate"] = now.total.flip_rate
            if has_posterior(self.net):
                line |= posterior_metrics(self.net, now, self.optimizer, nll)
        self.state.summary = now
        line["seconds"] = p.seconds
        p.log.append(line)
        p.start_epoch()
        return line

    def _end_task(self) -> None:
        p = self.progress
        self.course.strategy.after_task(self.net, self.task.train, self.task.outputs)
        if self.course.measure:
            line = {"task": self.index + 1, "name": self.task.name, **self.course.measure(self)}
            p.tasks.append({**line, "seconds": p.seconds})

    def _write_log(self) -> None:
        if self.world.main:
            lines = "".join(json.dumps(line) + "\n" for line in self.progress.log)
            write_text(self.run / "metrics.jsonl", lines)

    def _check_loss(self) -> None:
        # a sum stays NaN or infinite: no step goes unnoticed, and it is the same on all ranks
        if not math.isfinite(float(self.progress.nll_sum)):
            raise self.world.agreed(self._diverged(f"the loss became {float(self.progress.nll_sum)}"))

    def _diverged(self, what: str) -> UserError:
        options = vars(self.config.method_options)
        at = f"step {self.done or self.total_steps} of {self.total_steps}"
        at += f" of task {self.index + 1}" if len(self.course.stream) > 1 else ""
        rates = " or ".join(f"{name} (now {options[name]})" for name in ("lr", "real_lr") if name in options)
        return UserError(
            f"{what} around {at}: training stopped, the last good checkpoint (if any) is kept; lower {rates}"
        )

    # --- saving and resuming ---

    def save(self) -> None:
        """Replace the run's checkpoint by the present state, of which rank 0 writes the whole.

        Raises:
            UserError: if that is not finite; the checkpoint stays as it is.
        """
        self._check_loss()
        model, training, state = self.state.pack()
        with self.world.together():
            if self.world.main:
                for name, tensor in (model | training).items():
                    if not bool(tensor.isfinite().all()):
                        raise self._diverged(f"{name} became NaN or infinite")
                save_checkpoint(self.run, model, training, {**state, "description": self.description})

    def load(self) -> None:
        """Continue from the run's checkpoint, see `State.unpack_`.

        Raises:
            UserError: if it is missing, damaged, or of another network.
        """
        model, training, state = load_checkpoint(self.run)
        try:
            check_description(state["description"], self.description, self.run)
            self.state.unpack_(model, training, state, self.run, self.config.seed)
        except KeyError as error:
            raise damaged(self.run, error) from None
        self._begin_task()
        self._write_log()  # the process may have died after the checkpoint, before the log

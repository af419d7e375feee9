"""The training loop: epochs of steps, a log line and a checkpoint per epoch, and resuming bit for bit."""

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from .. import shards
from ..data.dataset import AUGMENTATIONS, Data, Split, batches, channels_last
from ..errors import UserError
from ..files import write_text
from ..nn import binary_layers
from ..optim import BayesBiNN
from ..outputs import batch_norm_statistics, evaluating
from ..posterior import PosteriorSummary, has_posterior, posterior_summary
from .checkpoint import (
    damaged,
    flatten_optimizer,
    load_checkpoint,
    save_checkpoint,
    unflatten_optimizer,
)
from .config import Config
from .distributed import World
from .methods import METHODS, anneal_, annealed
from .restore import (
    check_description,
    compare_threads,
    load_state,
    random_states,
    set_random_states,
    split_state,
    whole,
)

CHECK_STEPS = 16  # between two looks at the loss on an accelerator: each waits for all that has been asked of it


class StoppedError(Exception):
    """Training ended early, at a signal, with everything saved: resume it."""


@dataclass
class Callbacks:
    """What the loop tells and asks the outside.

    Attributes:
        step: called with (steps done, total steps) after every step.
        epoch: called with the log line of every epoch, and the number of epochs.
        stop: asked after every step but the last; True (of any rank) saves a checkpoint and raises `StoppedError`.
    """

    step: Callable[[int, int], None] = lambda done, total: None
    epoch: Callable[[dict[str, Any], int], None] = lambda line, epochs: None
    stop: Callable[[], bool] = lambda: False


@dataclass
class Progress:
    """Where training stands; all of it is in a checkpoint.

    Attributes:
        epoch, batch: done so far; `batch` within the epoch.
        seconds: spent in training steps.
        log: the lines of metrics.jsonl.
        nll_sum, correct: sums over the batches of this epoch, of all ranks.
    """

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    log: list[dict[str, Any]] = field(default_factory=list)
    nll_sum: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))
    correct: Tensor = field(default_factory=lambda: torch.zeros((), dtype=torch.float64))


class Trainer:
    """Trains `net` on `data` into the folder `run`.

    Args:
        net: from `build_model` and `apply_method`, on the data's device; with several ranks, equal on all.
        optimizers: from `apply_method`.
        config: resolved.
        description: what the network is for and how it is trained; in every checkpoint, and the same in each.
        world: the processes that train together; every rank has a trainer, and rank 0 writes.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizers: dict[str, Optimizer],
        data: Data,
        config: Config,
        run: Path,
        description: dict[str, Any],
        world: World | None = None,
    ) -> None:
        self.net, self.optimizers, self.data, self.config, self.run = net, optimizers, data, config, run
        self.description, self.world = description, world or World()
        self.device = data.train.x.device
        self.batches_per_epoch = len(data.train) // config.batch_size
        if self.batches_per_epoch == 0:
            raise self.world.agreed(
                UserError(f"batch_size {config.batch_size} exceeds the {len(data.train)} training examples: lower it")
            )
        self.total_steps = config.epochs * self.batches_per_epoch
        self.base_rates = {name: [group["lr"] for group in o.param_groups] for name, o in optimizers.items()}
        self.loss = METHODS[config.method].loss
        self.anneals = bool(annealed(config, 0.0))
        self.cooling = config.cooling or 1.0
        self.progress = Progress()
        self._place_sums()
        self.summary = self._summary()
        self.calibration = data.calibration(config.augment) if has_posterior(net) else None
        self.model = self.world.wrap(net)
        norms = (m for m in net.modules() if isinstance(m, _BatchNorm) and m.track_running_stats)
        self.statistics = [s for m in norms for s in (m.running_mean, m.running_var) if s is not None]
        full = self.world.sharding == "full"
        self.numbers = [p for p in net.parameters() if full and not shards.is_split(p)]
        if self.world.size > 1:  # the network was made alike on every rank; from here on each has its own draws
            self.world.seed(config.seed)

    def fit(self, callbacks: Callbacks | None = None) -> None:
        """Train to the end.

        Raises:
            UserError: when the loss or a weight is not finite; the last good checkpoint stays.
            StoppedError: at a signal, after saving.
        """
        callbacks = callbacks or Callbacks()
        p = self.progress
        while p.epoch < self.config.epochs:
            self._epoch(callbacks)
            callbacks.epoch(self._end_epoch(), self.config.epochs)
            if p.epoch < self.config.epochs and self.world.any(callbacks.stop()):
                raise StoppedError

    def _epoch(self, callbacks: Callbacks) -> None:
        p, c = self.progress, self.config
        started = time.perf_counter() - p.seconds
        self.net.train()
        for x, y in batches(self.data.train, c.batch_size, c.seed, p.epoch, p.batch, self.world.part):
            self._step(AUGMENTATIONS[c.augment](x), y)
            p.batch += 1
            p.seconds = time.perf_counter() - started
            done = p.epoch * self.batches_per_epoch + p.batch
            callbacks.step(done, self.total_steps)
            if p.batch < self.batches_per_epoch:  # after the last step, the end of the epoch saves and asks
                stop = self.world.any(callbacks.stop())
                if stop or (c.checkpoint_steps and p.batch % c.checkpoint_steps == 0):
                    self.save()
                if stop:
                    raise StoppedError

    def _step(self, x: Tensor, y: Tensor) -> None:
        p, c = self.progress, self.config
        done = p.epoch * self.batches_per_epoch + p.batch
        factor = rate_factor(c, done, self.batches_per_epoch)
        if self.anneals:
            anneal_(self.net, self.optimizers, annealed(c, done / self.total_steps))
        rise = {"binary": 1.0}  # of the rates beside their schedule
        if self.cooling != 1:
            rule = self.optimizers["binary"]
            assert isinstance(rule, BayesBiNN)
            rule.temper_(self.cooling ** (-1 / self.total_steps))
            rise["binary"] = self.cooling ** ((done + 1) / self.total_steps)
        for name, optimizer in self.optimizers.items():
            optimizer.zero_grad()
            for group, base in zip(optimizer.param_groups, self.base_rates[name], strict=True):
                group["lr"] = base * factor * rise.get(name, 1.0)
        nll, correct = torch.zeros_like(p.nll_sum), torch.zeros_like(p.correct)
        for sample in range(c.train_samples):
            logits: list[Tensor] = []
            last = sample == c.train_samples - 1
            with nullcontext() if last else self.world.accumulating(self.model):
                loss = self.loss(self.net, partial(self._evaluate, x, y, logits))
                (loss / c.train_samples).backward()  # type: ignore[no-untyped-call]
            nll += loss.detach() / c.train_samples
            correct += (logits[0].argmax(-1) == y).sum() / c.train_samples
        self._share(nll, correct)
        p.nll_sum += nll
        p.correct += correct
        if self.device.type == "cpu" or done % CHECK_STEPS == 0:
            self._check_loss()
        for optimizer in self.optimizers.values():
            optimizer.step()

    @torch.no_grad()
    def _share(self, nll: Tensor, correct: Tensor) -> None:
        """Make what a step has found the same on all ranks: average the loss, batch norm's running statistics and the
        gradients that FSDP2 leaves alone, count the hits of all; so a loss of NaN on one rank is one on all."""
        if self.world.size > 1:
            averages = [nll, *(p.grad for p in self.numbers if p.grad is not None), *self.statistics]
            for average in averages:
                average /= self.world.size
            self.world.sum_(correct, *averages)

    def _place_sums(self) -> None:
        p = self.progress  # where the losses are, so that adding one up waits for nothing
        p.nll_sum, p.correct = p.nll_sum.to(self.device), p.correct.to(self.device)

    def _check_loss(self) -> None:
        # a sum stays NaN or infinite: no step goes unnoticed, and it is the same on all ranks
        if not math.isfinite(float(self.progress.nll_sum)):
            raise self.world.agreed(self._diverged(f"the loss became {float(self.progress.nll_sum)}"))

    def _evaluate(self, x: Tensor, y: Tensor, logits: list[Tensor]) -> Tensor:
        # ±1 is exact in bfloat16: what it rounds are activations and gradients
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bfloat16"):
            out = self.model(x).float()
        logits.append(out.detach())
        return F.cross_entropy(out, y)

    def _end_epoch(self) -> dict[str, Any]:
        p, c = self.progress, self.config
        self._check_loss()
        part = "test" if self.data.validation is None else "validation"
        nll = float(p.nll_sum) / self.batches_per_epoch
        line: dict[str, Any] = {"epoch": p.epoch + 1, "loss": nll, "nll": nll}
        line["accuracy"] = float(p.correct) / (self.batches_per_epoch * c.batch_size)
        held_out = self.data.validation or self.data.test
        own = batch_norm_statistics(self.net, self.calibration) if self.calibration is not None else nullcontext()
        with own:
            line |= {f"{part}_{k}": v for k, v in mode_metrics(self.net, held_out, world=self.world).items()}
        rule = self.optimizers.get("binary")
        previous, self.summary = self.summary, self._summary(self.summary)
        if previous is not None and self.summary is not None:
            total = self.summary.total
            line["flip_rate"] = total.flip_rate
            if isinstance(rule, BayesBiNN):
                line |= {"kl": total.kl, "entropy": total.entropy}
                line |= {"undecided": total.undecided, "saturated": total.saturated}
                # the negative ELBO per example, with the KL weighted as in training
                line["loss"] = nll + self._weighted_kl(rule, self.summary) / (c.num_data or 1)
        line["seconds"] = p.seconds
        p.log.append(line)
        p.epoch, p.batch = p.epoch + 1, 0
        p.nll_sum, p.correct = torch.zeros_like(p.nll_sum), torch.zeros_like(p.correct)
        self.save()
        self._write_log()
        return line

    def _weighted_kl(self, rule: BayesBiNN, summary: PosteriorSummary) -> float:
        weights = {id(p): group["kl_weight"] for group in rule.param_groups for p in group["params"]}
        kl = {
            id(layer.natural): own.kl for (_, layer), own in zip(binary_layers(self.net), summary.layers, strict=True)
        }
        return float(sum(weights[key] * value for key, value in kl.items()))

    def _summary(self, previous: PosteriorSummary | None = None) -> PosteriorSummary | None:
        if not any(True for _ in binary_layers(self.net)):
            return None
        rule = self.optimizers["binary"]
        return posterior_summary(self.net, rule if isinstance(rule, BayesBiNN) else None, previous)

    def _write_log(self) -> None:
        if not self.world.main:
            return
        write_text(self.run / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in self.progress.log))

    def _diverged(self, what: str) -> UserError:
        at = self.progress.epoch * self.batches_per_epoch + self.progress.batch
        return UserError(
            f"{what} around step {at} of {self.total_steps}: training stopped, the last good checkpoint (if any) is "
            f"kept; lower lr (now {self.config.lr}) or real_lr (now {self.config.real_lr})"
        )

    def save(self) -> None:
        """Replace the run's checkpoint by the present state, of which rank 0 writes the whole.

        Raises:
            UserError: if that is not finite; the checkpoint stays as it is.
        """
        self._check_loss()
        p, model = self.progress, self.net.state_dict()
        training: dict[str, Tensor] = random_states(self.device, self.world)
        optimizers = {}
        for name, optimizer in self.optimizers.items():
            tensors, optimizers[name] = flatten_optimizer(name, optimizer)
            training |= tensors
        if self.summary is not None:  # the signs at the start of the epoch, for its flip rate
            training |= {f"signs.{name}": signs for name, signs in self.summary.signs.items()}
        model, training = whole(model, self.world), whole(training, self.world)
        training |= {"sums.nll": p.nll_sum, "sums.correct": p.correct}
        state = {
            "progress": {"epoch": p.epoch, "batch": p.batch, "seconds": p.seconds, "log": p.log},
            "optimizers": optimizers,
            "description": self.description,
            "threads": torch.get_num_threads(),
        }
        with self.world.together():
            if self.world.main:
                for name, tensor in (model | training).items():
                    if not bool(tensor.isfinite().all()):
                        raise self._diverged(f"{name} became NaN or infinite")
                save_checkpoint(self.run, model, training, state)

    def load(self) -> None:
        """Continue from the run's checkpoint, made on any number of ranks: bit for bit if it is the same number.

        On another number the ranks' random streams start anew, decided by the seed, the number and the step.

        Raises:
            UserError: if it is missing, damaged, or of another network.
        """
        model, training, state = load_checkpoint(self.run)
        try:
            self._restore(model, training, state)
        except KeyError as error:
            raise damaged(self.run, error) from None
        self._write_log()  # the process may have died after the checkpoint, before the log

    def _restore(self, model: dict[str, Tensor], training: dict[str, Tensor], state: dict[str, Any]) -> None:
        check_description(state["description"], self.description, self.run)
        compare_threads(state["threads"], self.run)
        load_state(self.net, model, self.run)
        for name, optimizer in self.optimizers.items():
            packed = unflatten_optimizer(name, training, state["optimizers"][name])
            optimizer.load_state_dict(split_state(optimizer, packed))
        saved = state["progress"]
        sums = {"nll_sum": training["sums.nll"], "correct": training["sums.correct"]}
        self.progress = Progress(saved["epoch"], saved["batch"], saved["seconds"], saved["log"], **sums)
        self._place_sums()
        if self.summary is not None:
            signs = {
                name: shards.split(training[f"signs.{name}"].to(self.device), like=now)
                for name, now in self.summary.signs.items()
            }
            self.summary = PosteriorSummary(self.summary.layers, self.summary.total, signs)
        if not set_random_states(training, self.device, self.world):
            self.world.seed(self.config.seed, self.world.size, self.progress.epoch, self.progress.batch)


def rate_factor(config: Config, step: int, batches_per_epoch: int) -> float:
    """The learning rates at `step` (from 0) as a share of their peak: linear warm-up, then the schedule to 0.

    >>> rate_factor(Config(epochs=2), step=10, batches_per_epoch=10)
    0.5
    """
    warm, total = config.warmup * batches_per_epoch, config.epochs * batches_per_epoch
    factor = min(1.0, (step + 1) / warm) if warm else 1.0
    if config.schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * step / total))
    return factor


@torch.no_grad()
def mode_metrics(net: nn.Module, split: Split, batch_size: int = 1024, world: World | None = None) -> dict[str, float]:
    """Accuracy and NLL (nats) of the mode, without keeping the probabilities; each rank computes for its share."""
    world = world or World()
    correct, nll = 0.0, 0.0
    with evaluating(net):
        for start in range(0, len(split), batch_size):
            # every rank takes part in every batch, be its share empty: the layers of a split network are collective
            own = slice(start + world.rank, start + batch_size, world.size)
            x, y = split.x[own], split.y[own]
            logits = net(channels_last(x.float()))
            correct += float((logits.argmax(-1) == y).sum())
            nll += float(F.cross_entropy(logits, y, reduction="sum"))
    sums = torch.tensor([correct, nll], dtype=torch.float64)
    world.sum_(sums)
    return {"accuracy": float(sums[0]) / len(split), "nll": float(sums[1]) / len(split)}

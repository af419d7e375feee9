"""What is learned, who listens to it, and how it is stopped."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ..continual import Naive, Strategy, Stream

if TYPE_CHECKING:
    from .loop import Trainer


class StoppedError(Exception):
    """Training ended early, at a signal, with everything saved: resume it."""


@dataclass
class Callbacks:
    """What the loop tells and asks the outside.

    Attributes:
        step: called with (steps done, total steps) of the task after every step.
        epoch: called with the log line of every epoch, and the number of epochs.
        task: called with what was measured after every task of a stream, and the number of tasks.
        note: called with each sentence of what was left out or changed of the data.
        stop: asked after every step but the last; True (of any rank) saves a checkpoint and raises `StoppedError`.
    """

    step: Callable[[int, int], None] = lambda done, total: None
    epoch: Callable[[dict[str, Any], int], None] = lambda line, epochs: None
    task: Callable[[dict[str, Any], int], None] = lambda line, tasks: None
    stop: Callable[[], bool] = lambda: False
    note: Callable[[str], None] = lambda note: None


@dataclass(frozen=True)
class Course:
    """What is learned, and what is done about forgetting.

    Attributes:
        stream: its tasks are built one at a time; their `test` is what an epoch is measured on.
        part: what `test` is called in the log.
        calibration: training inputs whose batch-norm statistics the mode is measured with; None: those of training.
        strategy: against forgetting.
        blend: share of a task over which it drifts into the next.
        share: an epoch takes one `share`-th of a task's examples.
        measure: what to measure before the first task and after each (for `Progress.tasks`).
    """

    stream: Stream
    part: str = "test"
    calibration: Tensor | None = None
    strategy: Strategy = field(default_factory=Naive)
    blend: float = 0.0
    share: int = 1
    measure: Callable[["Trainer"], dict[str, Any]] | None = None

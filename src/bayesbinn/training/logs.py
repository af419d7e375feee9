"""Where the figures of each epoch may go besides the run's own metrics.jsonl: an `on_metrics` for `fit` and `train`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError

OnMetrics = Callable[[dict[str, float], int], None]  # ({name: figure} of an epoch, its number from 1)


def tensorboard(folder: Path | str) -> OnMetrics:
    """Write each figure to a TensorBoard log in `folder`: look at it with `tensorboard --logdir FOLDER`.

    Raises:
        UserError: if tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError(f"TensorBoard is missing ({error}): pip install tensorboard") from None
    writers: list[Any] = []

    def write(figures: dict[str, float], epoch: int) -> None:
        if not writers:  # not before training has begun: it refuses a folder that holds anything
            writers.append(SummaryWriter(str(folder)))
        for name, value in figures.items():
            writers[0].add_scalar(name, value, epoch)
        writers[0].flush()

    return write


def trackio(project: str, **options: Any) -> OnMetrics:
    """Log each figure to a trackio project; `options` are those of `trackio.init` (name, config, ...).

    Raises:
        UserError: if trackio is not installed.
    """
    try:
        import trackio as library
    except ImportError as error:
        raise UserError(f"trackio is missing ({error}): pip install trackio") from None
    begun: list[Any] = []

    def write(figures: dict[str, float], epoch: int) -> None:
        if not begun:
            begun.append(library.init(project=project, **options))
        library.log(figures, step=epoch)

    return write


Epoch = Callable[[dict[str, Any], int], None]

LOGS: dict[str, Callable[[Path], OnMetrics]] = {  # of `bayesbinn train --log`, for a run's folder
    "tensorboard": lambda run: tensorboard(run / "tensorboard"),
    "trackio": lambda run: trackio("bayesbinn", name=run.name),
}


def figures(line: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics.jsonl.

    >>> figures({"epoch": 2, "nll": 0.5, "name": "digits"})
    {'nll': 0.5}
    """
    return {k: float(v) for k, v in line.items() if isinstance(v, (int, float)) and k not in ("epoch", "task")}


def told(on_metrics: OnMetrics | None, then: Epoch = lambda line, epochs: None) -> Epoch:
    """`Callbacks.epoch` that gives an epoch's figures to `on_metrics`, if there is one, and its line to `then`."""

    def epoch(line: dict[str, Any], epochs: int) -> None:
        if on_metrics is not None:
            on_metrics(figures(line), (line.get("task", 1) - 1) * epochs + line["epoch"])
        then(line, epochs)

    return epoch

"""Which outputs of a network compete: all of them (single head), or those of one task (multi-head)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ..examples import Examples
from .streams import Stream, Task


def multi_head(stream: Stream) -> Stream:
    """The same tasks, each with outputs of its own: task t uses outputs t·C to (t+1)·C − 1, and labels move along.

    >>> from bayesbinn.continual import from_tasks
    >>> data = Examples(torch.zeros(2, 3), torch.tensor([0, 1]))
    >>> task = multi_head(from_tasks([(data, data)] * 3))[2]
    >>> task.outputs, task.train.y.tolist()
    ((4, 5), [4, 5])
    """
    width = stream.num_outputs

    heads = tuple(tuple(range(t * width, (t + 1) * width)) for t in range(stream.num_tasks))

    def make(t: int) -> Task:
        task = stream.make(t)
        train, test = (partial(_relabelled, make, t * width) for make in (task.make_train, task.make_test))
        return replace(task, make_train=train, make_test=test, outputs=heads[t])

    return replace(stream, num_outputs=width * stream.num_tasks, make=make, heads=heads)


def competitors(stream: Stream) -> Tensor | None:
    """(num_outputs, num_outputs) offsets of the logits, one row per label: 0 where an output competes with it, else −∞.

    `logits + competitors[y]` is what to train on when a batch may hold several tasks; None for a single head.

    >>> from bayesbinn.continual import split
    >>> data = Examples(torch.zeros(4, 1), torch.arange(4))
    >>> competitors(split(data, data, num_tasks=2, heads=True))[3].tolist()
    [-inf, -inf, 0.0, 0.0]
    """
    if stream.heads is None:
        return None
    offsets = torch.full((stream.num_outputs, stream.num_outputs), float("-inf"))
    for outputs in stream.heads:
        index = torch.tensor(outputs)
        offsets[index[:, None], index] = 0.0
    return offsets


def task_logits(logits: Tensor, outputs: tuple[int, ...] | None) -> Tensor:
    """Logits (B, C) with the outputs of other tasks at −∞, so that they neither win nor learn; None changes nothing.

    >>> task_logits(torch.tensor([[1.0, 2.0, 3.0]]), (0, 2))
    tensor([[1., -inf, 3.]])
    """
    if outputs is None:
        return logits
    closed = torch.full((logits.shape[-1],), float("-inf"), dtype=logits.dtype, device=logits.device)
    closed[list(outputs)] = 0.0
    return logits + closed


def _relabelled(make: Callable[[], Examples], offset: int) -> Examples:
    examples = make()
    return Examples(examples.x, examples.y + offset)

"""Streams of tasks made from whole tensors: permuted, rotated, split, or a user's own; with or without boundaries.

A task is built when it is asked for, so that a hundred permutations of a data set need the memory of one.  Everything
random depends only on a seed.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
import torch.nn.functional as F
from torch import Tensor

from ..examples import Examples


@dataclass(frozen=True)
class Task:
    """One task of a stream; `train` and `test` are made when first asked for.

    Attributes:
        make_train, make_test: give the examples.
        transform: what the task does to inputs (B, ...) of the base data set, e.g. its permutation: for inputs from
            elsewhere, such as out-of-distribution ones.
        outputs: the network outputs that compete in this task, ascending; None is all of them (single head).
    """

    name: str
    make_train: Callable[[], Examples]
    make_test: Callable[[], Examples]
    transform: Callable[[Tensor], Tensor] = lambda x: x
    outputs: tuple[int, ...] | None = None

    @cached_property
    def train(self) -> Examples:
        """The training examples."""
        return self.make_train()

    @cached_property
    def test(self) -> Examples:
        """The test examples."""
        return self.make_test()


@dataclass(frozen=True)
class Stream:
    """`num_tasks` tasks for one network: `stream[t]` builds task t, iterating gives them in order.

    Attributes:
        input_shape: of one input, the same for every task.
        num_outputs: outputs that the network needs.
        make: builds task t.
        heads: `outputs` of every task, if each has its own: no output belongs to two tasks.
        offset: what was subtracted from each channel or feature of the data, for inputs from elsewhere; () for nothing.
        classes: names of the labels 0, 1, ... of the data; () where they have none.
        features: names of the columns, where the data have any.
        notes: what was left out or changed of the data, a sentence each.
    """

    name: str
    num_tasks: int
    input_shape: tuple[int, ...]
    num_outputs: int
    make: Callable[[int], Task]
    heads: tuple[tuple[int, ...], ...] | None = None
    offset: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.num_tasks

    def __getitem__(self, task: int) -> Task:
        if not 0 <= task < self.num_tasks:
            raise IndexError(f"{self.name} has tasks 0 to {self.num_tasks - 1}, not {task}")
        return self.make(task)

    def __iter__(self) -> Iterator[Task]:
        return (self.make(task) for task in range(self.num_tasks))


def permuted(train: Examples, test: Examples, num_tasks: int, seed: int = 0) -> Stream:
    """Each task shuffles the pixels of every input by its own fixed permutation; labels stay (domain-incremental).

    Args:
        train, test: the base data set.
        num_tasks: T ≥ 1; the first tasks of a longer stream are those of a shorter one.
        seed: of the permutations.

    Raises:
        ValueError: for fewer than 1 task.

    Source: Goodfellow et al. (2013); Kirkpatrick et al. (2017).

    >>> data = Examples(torch.arange(8).reshape(2, 1, 2, 2), torch.tensor([0, 1]))
    >>> sorted(permuted(data, data, num_tasks=3)[2].train.x[1].flatten().tolist())
    [4, 5, 6, 7]
    """
    _at_least_one(num_tasks)
    size = train.x[0].numel()
    generator = torch.Generator().manual_seed(seed)
    orders = [torch.randperm(size, generator=generator) for _ in range(num_tasks)]

    def make(task: int) -> Task:
        order = orders[task].to(train.x.device)
        return _transformed(f"permutation {task + 1}", train, test, lambda x: x.flatten(1)[:, order].reshape(x.shape))

    return Stream("permuted", num_tasks, tuple(train.x.shape[1:]), _num_classes(train), make)


def rotated(train: Examples, test: Examples, num_tasks: int, seed: int = 0, max_angle: float = 180.0) -> Stream:
    """Each task turns every image by its own angle, drawn from [0, `max_angle`) degrees; the first is not turned.

    Args:
        train, test: images (N, C, H, W).
        num_tasks, seed: as in `permuted`.
        max_angle: in degrees.

    Raises:
        ValueError: for fewer than 1 task, or inputs that are not images.

    Source: Lopez-Paz & Ranzato (2017).

    >>> data = Examples(torch.eye(4).reshape(1, 1, 4, 4), torch.tensor([0]))
    >>> rotated(data, data, num_tasks=2)[1].train.x.shape
    torch.Size([1, 1, 4, 4])
    """
    _at_least_one(num_tasks)
    if train.x.ndim != 4:
        raise ValueError(f"rotated needs images of shape (N, C, H, W), got {tuple(train.x.shape)}")
    angles = torch.rand(num_tasks, generator=torch.Generator().manual_seed(seed)).mul(max_angle)
    angles[0] = 0.0

    def make(task: int) -> Task:
        angle = float(angles[task])
        return _transformed(f"rotation by {angle:.0f}°", train, test, lambda x: rotate(x, angle))

    return Stream("rotated", num_tasks, tuple(train.x.shape[1:]), _num_classes(train), make)


def rotate(x: Tensor, angle: float) -> Tensor:
    """Images x (B, C, H, W) turned by `angle` degrees, bilinear, zeros coming in; the dtype stays.

    >>> rotate(torch.tensor([[[[1, 2], [3, 4]]]]), 90.0).tolist()
    [[[[3, 1], [4, 2]]]]
    """
    turn = torch.deg2rad(torch.tensor(float(angle)))
    cos, sin = torch.cos(turn), torch.sin(turn)
    theta = torch.stack([torch.stack([cos, sin, turn * 0]), torch.stack([-sin, cos, turn * 0])]).to(x.device)
    out = []
    for chunk in torch.split(x, 4096):  # in bounded memory
        images = chunk if chunk.is_floating_point() else chunk.float()
        grid = F.affine_grid(theta.expand(len(chunk), 2, 3).to(images.dtype), list(chunk.shape), align_corners=False)
        turned = F.grid_sample(images, grid, align_corners=False)
        out.append(turned if chunk.is_floating_point() else turned.round().to(x.dtype))
    return torch.cat(out)


def split(train: Examples, test: Examples, num_tasks: int, *, heads: bool = False, seed: int | None = None) -> Stream:
    """The classes dealt out evenly: task t holds the t-th C/T of them.

    Args:
        train, test: the base data set, with C classes.
        num_tasks: T, a divisor of C with at least 2 classes a task.
        heads: True tells the network the task, so that only its classes compete (task-incremental); False lets all
            outputs compete (class-incremental).
        seed: shuffles the classes first; None keeps their order.

    Raises:
        ValueError: if there are not enough classes, or they do not divide evenly.

    Source: Zenke et al. (2017); scenarios after van de Ven & Tolias (2019).

    >>> data = Examples(torch.zeros(4, 1), torch.arange(4))
    >>> split(data, data, num_tasks=2, heads=True)[1].outputs
    (2, 3)
    """
    _at_least_one(num_tasks)
    num_classes = _num_classes(train)
    if num_tasks > num_classes // 2:
        most = num_classes // 2
        raise ValueError(f"{num_tasks} tasks need {2 * num_tasks} classes, the data has {num_classes}: at most {most}")
    if num_classes % num_tasks:
        raise ValueError(f"{num_classes} classes do not divide into {num_tasks} equal tasks: choose a divisor")
    order = torch.arange(num_classes)
    if seed is not None:
        order = torch.randperm(num_classes, generator=torch.Generator().manual_seed(seed))
    members = [tuple(sorted(group)) for group in order.reshape(num_tasks, -1).tolist()]

    def make(task: int) -> Task:
        make_train, make_test = (partial(_of_classes, part, members[task]) for part in (train, test))
        name = "classes " + ", ".join(map(str, members[task]))
        return Task(name, make_train, make_test, outputs=members[task] if heads else None)

    shape = tuple(train.x.shape[1:])
    return Stream("split", num_tasks, shape, num_classes, make, tuple(members) if heads else None)


def from_tasks(tasks: Sequence[tuple[Examples, Examples]], name: str = "own", num_outputs: int = 0) -> Stream:
    """A stream of a user's own (train, test) pairs; `num_outputs` are those that the labels need, unless it is given.

    Raises:
        ValueError: for no task, an empty one, or tasks whose inputs differ in shape.

    >>> data = Examples(torch.zeros(4, 3), torch.tensor([0, 1, 0, 1]))
    >>> from_tasks([(data, data), (data, data)]).input_shape
    (3,)
    """
    _at_least_one(len(tasks))
    shape = tuple(tasks[0][0].x.shape[1:])
    for t, task in enumerate(tasks):
        for part, examples in zip(("train", "test"), task, strict=True):
            if len(examples) == 0:
                raise ValueError(f"task {t + 1} has no {part} examples")
            found = tuple(examples.x.shape[1:])
            if found != shape:
                raise ValueError(f"task {t + 1} has {part} inputs of shape {found}, task 1 of shape {shape}")
    num_outputs = num_outputs or max(_num_classes(examples) for task in tasks for examples in task)

    def make(task: int) -> Task:
        train, test = tasks[task]
        return Task(f"task {task + 1}", lambda: train, lambda: test)

    return Stream(name, len(tasks), shape, num_outputs, make)


def draw_batch(
    task: Task, following: Task | None, chosen: Tensor, progress: float, blend: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The examples `chosen` of a task, drifting into the following one: a stream without boundaries.

    In the last share `blend` of a task, an example comes from the following task with a probability that rises
    linearly from 0 to 1, so that no step is the boundary.

    Args:
        task, following: the present task and the next; None at the end of the stream.
        chosen: (B,) indices into the task's training examples.
        progress: share of the task that is done, in [0, 1).
        blend: share of the task in which it drifts, in [0, 1]; 0 is an abrupt change.
        generator: decides which examples come from the following task.

    Returns:
        x (B, ...) float32 and y (B,).
    """
    x, y = task.train.x[chosen], task.train.y[chosen]
    if following is not None and blend and progress > 1 - blend:
        share = (progress - (1 - blend)) / blend
        moved = torch.rand(len(chosen), generator=generator).to(chosen.device) < share
        other = chosen[moved] % len(following.train)
        x, y = x.clone(), y.clone()
        x[moved], y[moved] = following.train.x[other], following.train.y[other]
    return x.float(), y


def _transformed(name: str, train: Examples, test: Examples, transform: Callable[[Tensor], Tensor]) -> Task:
    return Task(name, partial(_applied, train, transform), partial(_applied, test, transform), transform)


def _applied(examples: Examples, transform: Callable[[Tensor], Tensor]) -> Examples:
    return Examples(transform(examples.x), examples.y)


def _of_classes(examples: Examples, classes: tuple[int, ...]) -> Examples:
    chosen = torch.isin(examples.y, torch.tensor(classes, device=examples.y.device))
    return Examples(examples.x[chosen], examples.y[chosen])


def _num_classes(examples: Examples) -> int:
    return int(examples.y.max()) + 1


def _at_least_one(num_tasks: int) -> None:
    if num_tasks < 1:
        raise ValueError(f"a stream needs at least 1 task, got {num_tasks}")

"""Data sets as whole tensors in memory, made from what a reader or a person gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..examples import Examples
from .batches import AUGMENTATIONS, channels_last
from .checks import (
    Limits,
    checked_inputs,
    find_limits,
    find_offset,
    fingerprint,
    other_units,
    shifted,
    statistics,
)
from .images import AS_THEY_ARE, Images
from .inputs import fit_images
from .labels import check_features, numbering
from .memory import from_memory
from .readers import read_set
from .source import SPLIT_SEED, Array, Source, some
from .table_source import Wanted, table_source
from .targets import AUTO, TARGETS, class_names, spread

CALIBRATION = 4096  # training inputs that batch norm sees again


@dataclass(frozen=True)
class Data:
    """A data set, ready for training.

    Attributes:
        validation: the held-out part of the training set, or None.
        classes: C names; label i is called `classes[i]`.
        mean, std: (C,) statistics of the training part, per channel (images) or feature (vectors); std is 1 where the
            data does not vary.
        offset: what was subtracted from each channel or feature, in float64, before float32 lost its differences; ()
            for nothing.  New inputs need the same.
        features: names of the columns, where the data have any.
        limits: smallest and largest value of the training part before `offset`, see `checks.find_limits`.
        task: `classification`, or `regression`: y is (N,) float32 then, and there are no classes.
        target: the name of what is predicted, where it has one.
        target_mean, target_std: of the training part of a regression; else 0 and 1.
        columns: of a table, how each of its columns became inputs (`runtime.preparation`).
        images: how images were read, see `images.Images`.
        fingerprint: sizes and a digest, to recognise the data.
        notes: what was left out or changed, a sentence each.
        vocabulary, tokenizer, bytes_per_token: of text (task `text`: y is (N, T) int64): V, as `tokens.tokenizer_of`
            takes it, and how long a token is on average.
    """

    name: str
    train: Examples
    validation: Examples | None
    test: Examples
    classes: tuple[str, ...]
    mean: Tensor
    std: Tensor
    offset: tuple[float, ...]
    features: tuple[str, ...]
    limits: Limits
    fingerprint: str
    notes: tuple[str, ...]
    task: str = "classification"
    target: str = ""
    target_mean: float = 0.0
    target_std: float = 1.0
    columns: tuple[Mapping[str, Any], ...] = ()
    images: Images = AS_THEY_ARE
    vocabulary: int = 0
    tokenizer: str = ""
    bytes_per_token: float = 1.0

    @property
    def num_classes(self) -> int:
        """C; 0 for a regression."""
        return len(self.classes)

    @property
    def num_outputs(self) -> int:
        """What a network says of one input (of text: of one token): C or V logits, or one number."""
        return self.num_classes or self.vocabulary or 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch."""
        return tuple(self.train.x.shape[1:])

    def calibration(self, augment: str = "none") -> Tensor:
        """Training inputs at random, for batch norm, changed as in training (`Config.augment`).

        Every n-th would miss classes where a file has them in turn.  The statistics of unchanged images are not those
        that the weights were learned under, and cost the mode accuracy.
        """
        x = self.train.x
        chosen = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))[:CALIBRATION]
        inputs = x[chosen.to(x.device)].cpu()
        with torch.random.fork_rng(devices=[]):  # on the CPU: one generator to put back
            torch.manual_seed(0)
            inputs = AUGMENTATIONS[augment](inputs)
        return channels_last(inputs.to(x.device))


def load_data(
    data: Any,
    validation: float = 0.0,
    *,
    name: str | None = None,
    classes: Sequence[str] = (),
    offset: Sequence[float] | None = None,
    features: Sequence[str] = (),
    limits: Limits = (),
    target: str = "",
    task: str = AUTO,
    columns: Sequence[Mapping[str, Any]] | None = None,
    image_size: int = 0,
    channels: int = 0,
    skip_damaged: bool = False,
    whole: bool = False,
) -> Data:
    """A data set by name, or from memory.

    Args:
        data: `digits` (embedded), `mnist`, `fashion-mnist`, `cifar10`, `cifar100` (NAME.npz in the folder
            $BAYESBINN_DATA if it is there, else from the Hugging Face hub), `npz:FILE`, `csv:FILE`, `imagefolder:DIR`
            or `hf:NAME`; or arrays, tensors or Datasets: (x, y), ((x_train, y_train), (x_test, y_test)), a dict with
            those keys, a Dataset or two.  x is (N, H, W), (N, H, W, C ≤ 4), (N, C, H, W) or (N, F); y is (N,), whole
            numbers or names of classes, or any numbers for a regression.  Where the test part is missing, a fifth of
            each class becomes it.  With a `target`: `csv:FILE`, `parquet:FILE`, a data frame, a dict of columns or a
            list of rows, with numbers, categories, dates and missing values (docs/tables.md).
        validation: share of the training set to hold out, in [0, 1); the same examples in every run.
        name: what reports call the data; default: the name that was read, or "data".
        classes, offset, features, limits: of the data that a network was trained on, for data that it is to be tested
            on; default: of the training part.
        target: the column of a table to predict.
        task: `classification`, `regression`, or `auto`: for a table as its target shows, else classification.
        columns: how the columns of that table became inputs, as `classes`; None: that is found on the training part.
        image_size: N: of every image the short side is resized to N pixels, and the centre N×N is kept.
        channels: of image files: 1 grey, 3 colours; 0: as most of the training images have.
        skip_damaged: leave image files out that cannot be read (`imagefolder:DIR`), instead of refusing them.
        whole: where the test part is missing, all examples are it, and none is held back from training.

    Raises:
        UserError: for an unknown name, a missing or unreadable file, or arrays that do not fit together; it names the
            array and what is wrong with it.

    >>> load_data("digits", validation=0.1).input_shape
    (1, 8, 8)
    >>> load_data((torch.randn(50, 4), ["cat", "dog"] * 25)).classes
    ('cat', 'dog')
    """
    if not 0 <= validation < 1:
        raise UserError(f"validation must be a share of the training set, at least 0 and below 1, got {validation}")
    if isinstance(data, Data):
        if target or task not in (AUTO, data.task) or image_size not in (0, data.images.size):
            raise UserError(
                f"{data.name} is loaded already: give target, task and image_size to load_data, which made it"
            )
        return data if validation == 0 else _held_out(data, validation)
    images = Images(image_size, channels, skip_damaged)
    named, wanted = isinstance(data, str), Wanted(target, task, columns, images, whole)
    if named:
        source = read_set(data, wanted)
    else:
        source = table_source(name or "data", data, wanted) if target else wanted.applied(from_memory(data, images))
    made = _made(name or (data if named else "data"), source, classes, offset, features, limits, images, whole)
    return _held_out(made, validation) if validation else made


def load_tasks(names: Sequence[str], target: str = "") -> list[Data]:
    """Data sets for one network: the classes are those of all, and `offset` and `columns` are those of the first.

    Raises:
        UserError: as `load_data`.
    """
    sources: list[Source] = []
    for name in names:
        columns = sources[0].columns if sources and target else None
        sources.append(read_set(name, Wanted(target, "classification", columns)))
    labels = [
        TARGETS[source.task].checked(name, part[1], len(part[1]), source.names)
        for name, source in zip(names, sources, strict=True)
        for part in (source.train, source.test)
        if part is not None
    ]
    classes = class_names(names[0], np.concatenate(labels))
    tasks: list[Data] = []
    for name, source in zip(names, sources, strict=True):
        known = (tasks[0].offset, tasks[0].features) if tasks else (None, ())
        tasks.append(_made(name, source, classes, *known))
    return [replace(tasks[0], notes=(*numbering(names[0], classes), *tasks[0].notes)), *tasks[1:]]


def to_device(data: Data, device: torch.device) -> Data:
    """The same data on another device."""

    def move(split: Examples | None) -> Any:
        return split and Examples(split.x.to(device), split.y.to(device))

    return replace(data, train=move(data.train), validation=move(data.validation), test=move(data.test))


def _made(
    name: str,
    source: Source,
    classes: Sequence[str],
    offset: Sequence[float] | None,
    features: Sequence[str],
    limits: Limits = (),
    images: Images = AS_THEY_ARE,
    whole: bool = False,
) -> Data:
    """The data of a source, checked; none is held out for validation but what the source holds out."""
    check_features(name, source.features, features)
    targets = TARGETS[source.task]
    x, names, more = _checked(name, "train", source.train, source, images)
    notes = [*source.notes, *more]
    if source.test is None and whole:
        x_test, names_test = x, names
    elif source.test is None:
        chosen, note = targets.held_out(name, names)
        notes.append(note)
        x_test, names_test = x[torch.from_numpy(chosen)], names[chosen]
        x, names = x[torch.from_numpy(~chosen)], names[~chosen]
    else:
        x_test, names_test, more = _checked(name, "test", source.test, source, images)
        notes += more
    if x.shape[1:] != x_test.shape[1:]:
        shapes = f"{tuple(x.shape[1:])} and {tuple(x_test.shape[1:])}"
        raise UserError(f"{name}: inputs of x_train and x_test differ in shape, {shapes}: make them equal")
    if not classes:
        classes = source.names or targets.classes(name, names)
        notes += numbering(name, classes)
    if offset is None:
        offset = find_offset(f"{name}: x_train", x)
        far = {i: f"{value:.15g}" for i, value in enumerate(offset) if value}
        if far:
            notes.append(
                f"float32 cannot tell apart the values of feature {some(far)} of {name}: {some(far.values())} is "
                "subtracted from them; subtract it too from inputs that you give to the network yourself"
            )
    limits = limits or find_limits(x)
    notes += other_units(f"{name}: x_test", x_test, limits, source.features)

    def part(what: str, x: Tensor, names: Array) -> Examples:
        tensors = shifted(f"{name}: x_{what}", x, offset), targets.tensor(f"{name}: y_{what}", names, classes)
        return Examples(*tensors)

    train, test = part("train", x, names), part("test", x_test, names_test)
    validation = None
    if source.validation is not None:
        held_out, names_held_out, more = _checked(name, "validation", source.validation, source, images)
        validation = part("validation", held_out, names_held_out)
        notes += more
    constant = int((train.x.amax(0) == train.x.amin(0)).sum()) if train.x.ndim == 2 else 0
    if constant:
        notes.append(f"{constant} of {train.x.shape[1]} features of {name} are the same in every training example")
    digest = fingerprint(classes, *((p.x, p.y) for p in (train, validation, test) if p is not None))
    mean, std = statistics(train.x)
    target_mean, target_std = (0.0, 1.0) if classes else spread(name, names)
    return Data(
        name,
        train,
        validation,
        test,
        tuple(classes),
        mean,
        std,
        tuple(offset),
        source.features,
        limits,
        digest,
        tuple(notes),
        source.task,
        source.target,
        target_mean,
        target_std,
        tuple(source.columns),
        images,
    )


def _checked(
    name: str, part: str, pair: tuple[Array, Array], source: Source, images: Images
) -> tuple[Tensor, Array, tuple[str, ...]]:
    x, notes = fit_images(name, checked_inputs(f"{name}: x_{part}", pair[0], source.layout), images.size)
    return x, TARGETS[source.task].checked(f"{name}: y_{part}", pair[1], len(x), source.names), notes


def _held_out(data: Data, share: float) -> Data:
    """The same data with a share of the training part held out, and the statistics of the rest."""
    train = data.train
    if data.validation is not None:
        raise UserError(f"{data.name} holds {len(data.validation)} examples out already: leave validation out")
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SPLIT_SEED))
    count = max(1, round(share * len(train)))
    if count >= len(train):
        raise UserError(f"validation {share} leaves none of the {len(train)} training examples: lower it")
    held_out, rest = (Examples(train.x[chosen], train.y[chosen]) for chosen in (order[:count], order[count:]))
    mean, std = statistics(rest.x)
    return replace(data, train=rest, validation=held_out, mean=mean, std=std)

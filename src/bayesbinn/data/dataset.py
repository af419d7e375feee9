"""Data sets as whole tensors in memory, and batches cut from them without a per-example loop."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from .readers import IMAGES, SPLIT_SEED, read_arrays, read_image, read_set

CALIBRATION = 4096  # training inputs that batch norm sees again


@dataclass(frozen=True)
class Split:
    """N examples: x (N, C, H, W) or (N, F), in the units of the data file (uint8 or float32); y (N,) int64 classes."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Data:
    """A data set, ready for training.

    Attributes:
        validation: the held-out part of the training set, or None.
        mean, std: (C,) statistics of the training part, per channel (images) or feature (vectors); std is 1 where the
            data does not vary.
    """

    name: str
    train: Split
    validation: Split | None
    test: Split
    num_classes: int
    mean: Tensor
    std: Tensor

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


def load_data(name: str, validation: float = 0.0) -> Data:
    """Load a data set by name.

    Args:
        name: `digits` (embedded), `mnist`, `fashion-mnist`, `cifar10`, `cifar100` (NAME.npz in the folder
            $BAYESBINN_DATA if it is there, else from the Hugging Face hub), `npz:FILE`, `imagefolder:DIR` or `hf:NAME`.
        validation: share of the training set to hold out, in [0, 1); the same examples in every run.

    Raises:
        UserError: for an unknown name, a missing or unreadable file, or arrays that do not fit together.

    >>> load_data("digits", validation=0.1).input_shape
    (1, 8, 8)
    """
    return make_data(name, read_set(name), validation)


def make_data(name: str, arrays: dict[str, np.ndarray[Any, Any]], validation: float = 0.0) -> Data:
    """A `Data` from the arrays x_train, y_train, x_test and y_test, checked.

    x is (N, H, W), (N, H, W, C ≤ 4), (N, C, H, W) or (N, F), integer or float; y is (N,), whole numbers from 0.

    Raises:
        UserError: naming the array and what is wrong with it.
    """
    train, test = (_split(name, arrays, part) for part in ("train", "test"))
    if train.x.shape[1:] != test.x.shape[1:]:
        shapes = f"{tuple(train.x.shape[1:])} and {tuple(test.x.shape[1:])}"
        raise UserError(f"{name}: inputs of x_train and x_test differ in shape, {shapes}: make them equal")
    num_classes = int(train.y.max()) + 1
    if num_classes < 2:
        raise UserError(f"{name}: y_train holds one class only: give at least two")
    if num_classes > len(train):
        raise UserError(
            f"{name}: y_train holds label {num_classes - 1}, for {len(train)} inputs: number the classes from 0"
        )
    if int(test.y.max()) >= num_classes:
        raise UserError(f"{name}: y_test holds class {int(test.y.max())}, y_train only 0 to {num_classes - 1}")
    held_out = None
    if validation:
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SPLIT_SEED))
        count = max(1, round(validation * len(train)))
        if count >= len(train):
            raise UserError(f"validation {validation} leaves none of the {len(train)} training examples: lower it")
        held_out = Split(train.x[order[:count]], train.y[order[:count]])
        train = Split(train.x[order[count:]], train.y[order[count:]])
    mean, std = _statistics(train.x)
    return Data(name, train, held_out, test, num_classes, mean, std)


def to_device(data: Data, device: torch.device) -> Data:
    """The same data on another device."""

    def move(split: Split | None) -> Any:
        return split and Split(split.x.to(device), split.y.to(device))

    return replace(data, train=move(data.train), validation=move(data.validation), test=move(data.test))


def batches(
    split: Split,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    part: Callable[[Tensor], Tensor] = lambda batch: batch,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches (x float32, y) of one epoch in an order that only `seed` and `epoch` decide; the rest of N is dropped.

    Args:
        start: number of the first batch to give, to resume within an epoch.
        part: picks what to give of each batch of indices (a rank's share).
    """
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    order = torch.randperm(len(split), generator=generator).to(split.x.device)
    for i in range(start, len(split) // batch_size):
        chosen = part(order[i * batch_size : (i + 1) * batch_size])
        yield channels_last(split.x[chosen].float()), split.y[chosen]


def channels_last(x: Tensor) -> Tensor:
    """x with each pixel's channels side by side if it is a batch of images (B, C, H, W): convolutions are faster so.

    >>> channels_last(torch.zeros(1, 3, 8, 8)).stride()
    (192, 1, 24, 3)
    """
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def crop_flip(x: Tensor, padding: int = 4) -> Tensor:
    """Each image of x (B, C, H, W) shifted by up to `padding` pixels, zeros coming in, and mirrored half the time."""
    batch, _, height, width = x.shape
    padded = torch.nn.functional.pad(x, (padding,) * 4)
    top, left = (torch.randint(0, 2 * padding + 1, (batch, 1), device=x.device) for _ in range(2))
    rows = top + torch.arange(height, device=x.device)
    columns = left + torch.arange(width, device=x.device)
    columns = torch.where(torch.rand(batch, 1, device=x.device) < 0.5, columns, columns.flip(1))
    images = torch.arange(batch, device=x.device)[:, None, None]
    # indexing the channels-last view keeps each pixel's channels together
    cut = padded.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2)


# what `Config.augment` can name; each takes and gives a batch of inputs
AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "crop-flip": crop_flip}


def read_inputs(path: Path, input_shape: tuple[int, ...]) -> Tensor:
    """The inputs in a `.npy`, `.npz` (array `x`, else `x_test`) or image file, as (N, *input_shape) float32.

    Raises:
        UserError: if the file is missing, unreadable, of another shape, empty, or holds NaN or infinity.
    """
    suffix = path.suffix.lower()
    if suffix in IMAGES:
        array = read_image(path, gray=input_shape[0] == 1)[None]
    elif suffix in (".npy", ".npz"):
        arrays = read_arrays(path)
        key = next((k for k in ("", "x", "x_test") if k in arrays), None)
        if key is None:
            raise UserError(f"{path} holds {', '.join(arrays) or 'nothing'}: name the inputs x or x_test")
        array = arrays[key]
    else:
        raise UserError(f"cannot read {path}: {suffix or 'no'} suffix, expected .npy, .npz, {', '.join(IMAGES)}")
    if array.shape == input_shape or array.shape in (input_shape[1:], (*input_shape[1:], *input_shape[:1])):
        array = array[None]  # a single input
    x = _inputs(str(path), array).float()
    if x.shape[1:] != input_shape:
        raise UserError(f"{path} has inputs of shape {tuple(x.shape[1:])}, the network takes {input_shape}")
    return x


def _split(name: str, arrays: dict[str, np.ndarray[Any, Any]], part: str) -> Split:
    x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
    inputs = _inputs(f"{name}: x_{part}", x)
    if y.shape != (len(x),):
        raise UserError(f"{name}: y_{part} has shape {y.shape}, x_{part} needs ({len(x)},): one label per input")
    if y.dtype.kind not in "iubf":
        raise UserError(f"{name}: y_{part} is of type {y.dtype}: labels must be whole numbers from 0")
    wrong = y[~((y >= 0) & (y < 2**31) & (y == np.floor(y)))]
    if wrong.size:
        raise UserError(f"{name}: y_{part} holds label {wrong[0]}: labels must be whole numbers from 0")
    return Split(inputs, torch.from_numpy(y.astype(np.int64)))


def _inputs(what: str, x: np.ndarray[Any, Any]) -> Tensor:
    if x.dtype.kind not in "iubf" or x.ndim not in (2, 3, 4):
        raise UserError(
            f"{what} has type {x.dtype} and shape {x.shape}: expected numbers of shape (N, H, W[, C]) or (N, F)"
        )
    if x.size == 0:
        raise UserError(f"{what} is empty, of shape {x.shape}: give at least one input")
    if x.dtype != np.uint8:
        with np.errstate(over="ignore"):  # to infinity, and that is refused
            x = x.astype(np.float32)
        if not np.isfinite(x).all():
            raise UserError(f"{what} holds NaN, infinity or numbers too large for float32: clean the data first")
    tensor = torch.from_numpy(np.ascontiguousarray(x))
    if tensor.ndim == 3:
        return tensor[:, None]
    if tensor.ndim == 4 and tensor.shape[-1] <= 4 and tensor.shape[1] > 4:
        return tensor.permute(0, 3, 1, 2)
    return tensor


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    dims, count = [d for d in range(x.ndim) if d != 1], x.numel() / x.shape[1]
    chunks = torch.split(x, 4096)  # in float64 one after the other, to bound the memory
    mean = torch.stack([chunk.double().sum(dims) for chunk in chunks]).sum(0) / count
    centre = mean.reshape(-1, *(1,) * (x.ndim - 2))
    std = (torch.stack([(chunk.double() - centre).square().sum(dims) for chunk in chunks]).sum(0) / count).sqrt()
    return mean.float(), torch.where(std > 1e-6, std, 1.0).float()

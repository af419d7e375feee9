"""Inputs without labels, to predict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UserError
from ..runtime.preparation import prepare
from .checks import FIRST, LAST, Limits, checked_inputs, other_units, shifted
from .images import fitted, image_suffixes, read_image
from .labels import check_features
from .npz import read_arrays
from .table_source import FILES, read_table_file
from .tables import read_csv_inputs

FAR = 8  # widths of training's range: no bright image of the same units is that far beyond it


def read_inputs(
    path: Path,
    input_shape: tuple[int, ...],
    offset: Sequence[float] = (),
    features: Sequence[str] = (),
    limits: Limits = (),
    columns: Sequence[Mapping[str, Any]] = (),
    image_size: int = 0,
) -> tuple[Tensor, tuple[str, ...]]:
    """Inputs (N, *input_shape) float32 of a `.npy`, `.npz` (array `x`, else `x_test`), `.csv` or image file, and notes.

    With `columns`, a `.csv` or `.parquet` file holds those of the training table, in any order and beside others.

    Args:
        input_shape: of the network; it decides whether channels are first or last.
        offset, features, limits, columns: of the training data, see `Data`.
        image_size: what images of other sizes are resized and cropped to, as in training; 0: they are refused.

    Raises:
        UserError: if the file is missing, unreadable, of another shape, empty, or holds NaN or infinity; if it is an
            image, of 0 to 255, and the training data were in other units.
    """
    suffix, image, colours = path.suffix.lower(), False, False
    notes: tuple[str, ...] = ()
    if columns and suffix.removeprefix(".") in FILES:
        try:
            rows, said = prepare(columns, read_table_file(path), str(path))
        except UserError:
            raise
        except ValueError as error:
            raise UserError(str(error)) from None
        return torch.from_numpy(rows), tuple(said)
    if columns:
        raise UserError(f"{path} has no named columns, and training had a table: give a .csv or .parquet file")
    if suffix in (".npy", ".npz"):
        arrays = read_arrays(path)
        key = next((k for k in ("", "x", "x_test") if k in arrays), None)
        if key is None:
            raise UserError(f"{path} holds {', '.join(arrays) or 'nothing'}: name the inputs x or x_test")
        array = arrays[key]
    elif suffix == ".csv":
        found, array = read_csv_inputs(path)
        check_features(str(path), found, features)
    elif suffix in image_suffixes():
        image = True
        array, remarks = read_image(path, input_shape[0] == 1, image_size)
        colours = array.ndim == 3
        array, notes = array[None], tuple(f"{path} has {remark}" for remark in remarks)
    else:
        raise UserError(f"cannot read {path}: {suffix or 'no'} suffix, expected .npy, .npz, .csv or an image")
    last = (*input_shape[1:], *input_shape[:1])
    if array.shape in (input_shape, last, input_shape[1:]):
        array = array[None]  # a single input
    other = image_size and not image and array.ndim == 4 and array.shape[1:] not in (input_shape, last)
    layout = "" if other else LAST if colours or array.shape[1:] == last != input_shape else FIRST
    x, more = fit_images(str(path), checked_inputs(str(path), array, layout), image_size)
    if x.shape[1:] != input_shape:
        raise UserError(f"{path} has inputs of shape {tuple(x.shape[1:])}, the network takes {input_shape}")
    if image and limits and (most := limits[0][1]) + FAR * (most - limits[0][0]) < float(x.max()):
        span = f"{limits[0][0]:.6g} to {most:.6g}"
        raise UserError(f"{path} is read as 0 to 255, training had {span}: give an array in those units (.npy)")
    notes = (*notes, *more, *other_units(str(path), x, limits, features))
    return shifted(str(path), x, offset).float(), notes


def fit_images(what: str, x: Tensor, size: int) -> tuple[Tensor, tuple[str, ...]]:
    """Images (B, C, H, W) as (B, C, N, N), each `images.fitted`, and a note of what that did; 0 is no change.

    Raises:
        UserError: for inputs that are no images.
    """
    if not size or x.shape[2:] == (size, size):
        return x, ()
    if x.ndim != 4:
        raise UserError(f"image_size {size} is for images, {what} has inputs of {x.shape[1]} numbers: leave it out")
    made = [fitted(image.permute(1, 2, 0).numpy(), size) for image in x]
    notes = tuple(f"the images of {what} have {remark}" for remark in made[0][1])
    return torch.from_numpy(np.stack([array for array, _ in made])).permute(0, 3, 1, 2), notes

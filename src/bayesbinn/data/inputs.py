"""Inputs without labels, to predict."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import UserError
from ..runtime.preparation import prepare
from .checks import FIRST, LAST, Limits, checked_inputs, other_units, shifted
from .images import image_suffixes, read_image
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
) -> tuple[Tensor, tuple[str, ...]]:
    """Inputs (N, *input_shape) float32 of a `.npy`, `.npz` (array `x`, else `x_test`), `.csv` or image file, and notes.

    With `columns`, a `.csv` or `.parquet` file holds those of the training table, in any order and beside others.

    Args:
        input_shape: of the network; it decides whether channels are first or last.
        offset, features, limits, columns: of the training data, see `Data`.

    Raises:
        UserError: if the file is missing, unreadable, of another shape, empty, or holds NaN or infinity; if it is an
            image, of 0 to 255, and the training data were in other units.
    """
    suffix, image = path.suffix.lower(), False
    notes: tuple[str, ...] = ()
    if columns and suffix.removeprefix(".") in FILES:
        try:
            rows, more = prepare(columns, read_table_file(path), str(path))
        except UserError:
            raise
        except ValueError as error:
            raise UserError(str(error)) from None
        return torch.from_numpy(rows), tuple(more)
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
        array, remarks = read_image(path, gray=input_shape[0] == 1)
        array, notes = array[None], tuple(f"{path} has {remark}" for remark in remarks)
    else:
        raise UserError(f"cannot read {path}: {suffix or 'no'} suffix, expected .npy, .npz, .csv or an image")
    last = (*input_shape[1:], *input_shape[:1])
    if array.shape in (input_shape, last, input_shape[1:]):
        array = array[None]  # a single input
    layout = LAST if array.shape[1:] == last != input_shape else FIRST
    x = checked_inputs(str(path), array, layout)
    if x.shape[1:] != input_shape:
        raise UserError(f"{path} has inputs of shape {tuple(x.shape[1:])}, the network takes {input_shape}")
    if image and limits and (most := limits[0][1]) + FAR * (most - limits[0][0]) < float(x.max()):
        span = f"{limits[0][0]:.6g} to {most:.6g}"
        raise UserError(f"{path} is read as 0 to 255, training had {span}: give an array in those units (.npy)")
    notes = (*notes, *other_units(str(path), x, limits, features))
    return shifted(str(path), x, offset).float(), notes

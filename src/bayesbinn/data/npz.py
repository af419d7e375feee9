"""Data sets and inputs in numpy's files."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..errors import UserError
from .source import Array, Source

ARRAYS = ("x_train", "y_train", "x_test", "y_test")
LAYOUT = "layout"


def read_npz(file: str) -> Source:
    """The data set in an .npz file: the four arrays, and `layout` where the shape leaves it open."""
    arrays = read_arrays(Path(file).expanduser(), (*ARRAYS, LAYOUT))
    missing = [key for key in ARRAYS if key not in arrays]
    if missing:
        raise UserError(f"{file} lacks {', '.join(missing)}: it must hold {', '.join(ARRAYS)}")
    x_train, y_train, x_test, y_test = (arrays[key] for key in ARRAYS)
    return Source((x_train, y_train), (x_test, y_test), layout=str(arrays.get(LAYOUT, "")))


def read_arrays(path: Path, names: Iterable[str] | None = None) -> dict[str, Array]:
    """The arrays in an .npz file (those of `names` only), or the one in an .npy file under the name ''."""
    try:
        with path.open("rb") as file:  # numpy leaves a damaged file open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"": loaded}
            return {name: loaded[name] for name in loaded if names is None or name in names}
    except FileNotFoundError:
        raise UserError(f"no file at {path}: give an existing .npz or .npy file") from None
    except Exception as error:  # a damaged file can raise nearly anything: zip, zlib and header errors of every kind
        raise UserError(f"cannot read {path} ({error}): write it again with numpy.savez or numpy.save") from None

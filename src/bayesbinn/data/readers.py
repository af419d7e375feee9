"""Read data sets from files and from the Hugging Face hub, as numpy arrays."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError, unknown

DATA_FOLDER = "BAYESBINN_DATA"  # environment variable: the folder of NAME.npz files
NPZ_SETS = ("mnist", "fashion-mnist", "cifar10", "cifar100")
HUB_NAMES = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
}
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
SPLIT_SEED = 2020  # one split for every run, so that what was held out stays held out

Arrays = dict[str, np.ndarray[Any, Any]]


def read_set(name: str) -> Arrays:
    """The arrays x_train, y_train, x_test and y_test of a data set, named as in `data.load_data`; not checked.

    Raises:
        UserError: for an unknown name, or what cannot be read.
    """
    kind, _, where = name.partition(":")
    if where and kind in _LOADERS:
        return _LOADERS[kind](where)
    if name == "digits":
        return _digits()
    if name in NPZ_SETS:
        return _named(name)
    raise unknown("data set", name, ["digits", *NPZ_SETS, "npz:FILE", "imagefolder:DIR", "hf:NAME"])


def _digits() -> Arrays:
    from sklearn.datasets import load_digits  # slow to import

    digits = load_digits()
    order = np.random.RandomState(SPLIT_SEED).permutation(len(digits.target))
    x, y = digits.images[order].astype(np.uint8), digits.target[order]
    return {"x_train": x[:1437], "y_train": y[:1437], "x_test": x[1437:], "y_test": y[1437:]}


def _named(name: str) -> Arrays:
    folder = os.environ.get(DATA_FOLDER)
    file = Path(folder or "").expanduser() / f"{name}.npz"
    if folder and file.exists():
        return read_npz(str(file))
    try:
        return _hub(HUB_NAMES[name])
    except UserError as error:
        now = f"there is no {file}" if folder else "it is not set"
        raise UserError(
            f"no data set {name}: set {DATA_FOLDER} to a folder with {name}.npz ({now}; from the hub: {error})"
        ) from None


def read_npz(file: str) -> Arrays:
    """The four arrays of a data set in an .npz file."""
    arrays = read_arrays(Path(file).expanduser(), ARRAYS)
    missing = [key for key in ARRAYS if key not in arrays]
    if missing:
        raise UserError(f"{file} lacks {', '.join(missing)}: it must hold {', '.join(ARRAYS)}")
    return arrays


def read_arrays(path: Path, names: Iterable[str] | None = None) -> Arrays:
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


def _image_folder(folder: str) -> Arrays:
    """DIR/train/CLASS/*.png and DIR/test/CLASS/*.png; classes are numbered in the order of their names."""
    root, arrays = Path(folder).expanduser(), {}
    files = {
        part: [f for f in sorted((root / part).glob("*/*")) if f.suffix.lower() in IMAGES] for part in ("train", "test")
    }
    classes = sorted({f.parent.name for f in files["train"]})
    for part, found in files.items():
        if not found:
            raise UserError(f"no images under {root / part}: expected {root / part}/CLASS/*{IMAGES[0]}")
        for f in found:
            if f.parent.name not in classes:
                raise UserError(
                    f"class {f.parent.name!r} of {f} has no images under {root / 'train'}: add some, or move it"
                )
        images = [read_image(f, gray=False) for f in found]
        for f, image in zip(found, images, strict=True):
            if image.shape != images[0].shape:
                sizes = (
                    f"{image.shape[1]}×{image.shape[0]} pixels, {found[0]} {images[0].shape[1]}×{images[0].shape[0]}"
                )
                raise UserError(f"{f} has {sizes}: make all images of one size")
        arrays[f"x_{part}"] = np.stack(images)
        arrays[f"y_{part}"] = np.array([classes.index(f.parent.name) for f in found])
    return arrays


def read_image(path: Path, gray: bool) -> np.ndarray[Any, Any]:
    """An image file as uint8 (H, W) if gray, else (H, W, 3); needs Pillow."""
    try:
        from PIL import Image
    except ImportError:
        raise UserError("reading image files needs Pillow: pip install 'bayesbinn[data]'") from None
    try:
        with Image.open(path) as image:
            return np.array(image.convert("L" if gray else "RGB"))
    except FileNotFoundError:
        raise UserError(f"no file at {path}: give an existing image") from None
    except Exception as error:  # a damaged image can raise nearly anything
        raise UserError(f"cannot read the image {path} ({error}): replace or remove it") from None


def _hub(name: str) -> Arrays:
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(f"hf:{name} needs Hugging Face datasets: pip install 'bayesbinn[data]'") from None
    try:
        sets = load_dataset(name)
    except Exception as error:  # whatever the hub, the network or the reader raises
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"cannot load hf:{name} ({reason}): check the name and the connection") from None
    arrays = {}
    for part in ("train", "test"):
        if part not in sets:
            raise UserError(f"hf:{name} has splits {', '.join(sets)}: train and test are needed")
        columns = sets[part].column_names
        x_key = next((c for c in ("image", "img", "x", "features") if c in columns), None)
        y_key = next((c for c in ("label", "fine_label", "y", "labels") if c in columns), None)
        if x_key is None or y_key is None:
            raise UserError(f"hf:{name} has columns {', '.join(columns)}: an image and a label column are needed")
        inputs = [np.asarray(x) for x in sets[part][x_key]]
        if len({x.shape for x in inputs}) > 1:
            raise UserError(f"hf:{name} has inputs of different shapes: make them equal, and save them as .npz")
        arrays[f"x_{part}"], arrays[f"y_{part}"] = np.stack(inputs), np.asarray(sets[part][y_key])
    return arrays


_LOADERS: dict[str, Callable[[str], Arrays]] = {
    "npz": read_npz,
    "imagefolder": _image_folder,
    "hf": _hub,
}

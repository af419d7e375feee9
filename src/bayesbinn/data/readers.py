"""Data sets by name: one table of readers, each a function from what follows `KIND:` to a `Source`."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UserError, unknown
from .hub import read_hub
from .image_folder import read_image_folder
from .images import Images
from .npz import read_npz
from .source import SPLIT_SEED, Source
from .table_source import FILES, Wanted, table_source
from .tables import read_csv

DATA_FOLDER = "BAYESBINN_DATA"  # environment variable: the folder of NAME.npz files
HUB_NAMES = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
}


ARRAYS = Wanted()  # no target: what is named is no table of mixed columns


def _needs_target(file: str, images: Images) -> Source:
    raise UserError(f"parquet:{file} is a table: say which column to predict by --target NAME")


@dataclass(frozen=True)
class Reader:
    """How to read `KIND:WHERE`; `where` names it in messages, and `local` says that it is a path."""

    read: Callable[[str, Images], Source]
    where: str
    local: bool = True


READERS = {
    "npz": Reader(lambda file, images: read_npz(file), "FILE"),
    "csv": Reader(lambda file, images: read_csv(file), "FILE"),
    "parquet": Reader(_needs_target, "FILE"),
    "imagefolder": Reader(read_image_folder, "DIR"),
    "hf": Reader(read_hub, "NAME", local=False),
}


def read_set(name: str, wanted: Wanted = ARRAYS) -> Source:
    """The data set of a name, as in `load_data`; not checked.

    Raises:
        UserError: for an unknown name, a target of what is no table, or what cannot be read.
    """
    kind, _, where = name.partition(":")
    if wanted.target and where and kind in FILES:
        return table_source(name, FILES[kind](Path(where).expanduser()), wanted)
    if wanted.target:
        tables = ", ".join(f"{kind}:FILE" for kind in FILES)
        raise UserError(f"target {wanted.target!r} is for tables ({tables}), {name} is none: leave it out")
    source = _read_set(name, kind, where, wanted.images)
    return wanted.applied(source)


def _read_set(name: str, kind: str, where: str, images: Images) -> Source:
    if where and kind in READERS:
        return READERS[kind].read(where, images)
    if name == "digits":
        return _digits()
    if name in HUB_NAMES:
        return _named(name, images)
    raise unknown("data set", name, ["digits", *HUB_NAMES, *(f"{kind}:{r.where}" for kind, r in READERS.items())])


def absolute(name: str) -> str:
    """The name of a data set with an absolute path, so that it means the same in every working directory.

    >>> absolute("npz:/data/set.npz"), absolute("hf:some/set")
    ('npz:/data/set.npz', 'hf:some/set')
    """
    kind, _, where = name.partition(":")
    if where and (kind == "text" or (kind in READERS and READERS[kind].local)):
        return f"{kind}:{Path(where).expanduser().absolute()}"
    return name


def _digits() -> Source:
    from sklearn.datasets import load_digits  # slow to import

    digits = load_digits()
    order = np.random.RandomState(SPLIT_SEED).permutation(len(digits.target))
    x, y = digits.images[order].astype(np.uint8), digits.target[order]
    return Source((x[:1437], y[:1437]), (x[1437:], y[1437:]))


def _named(name: str, images: Images) -> Source:
    folder = os.environ.get(DATA_FOLDER)
    file = Path(folder or "").expanduser() / f"{name}.npz"
    if folder and file.exists():
        return read_npz(str(file))
    try:
        return replace(read_hub(HUB_NAMES[name], images), names=())  # numbered, as in the file of that name
    except UserError as error:
        now = f"there is no {file}" if folder else "it is not set"
        raise UserError(
            f"no data set {name}: set {DATA_FOLDER} to a folder with {name}.npz ({now}; from the hub: {error})"
        ) from None

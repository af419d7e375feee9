"""Data sets of the Hugging Face hub."""

import numpy as np

from ..errors import UserError
from .images import AS_THEY_ARE, Images, stacked
from .labels import named_alike
from .source import Array, Source, some

INPUTS = ("image", "img", "x", "features")
LABELS = ("label", "fine_label", "y", "labels")


def read_hub(name: str, images: Images = AS_THEY_ARE) -> Source:
    """The splits train and test of a data set of the hub, its first column of `INPUTS` and of `LABELS`.

    Raises:
        UserError: if it cannot be loaded, or lacks a split or a column.
    """
    try:
        from datasets import load_dataset
    except ImportError:
        raise UserError(f"hf:{name} needs Hugging Face datasets: pip install 'bayesbinn[data]'") from None
    try:
        sets = load_dataset(name)
    except Exception as error:  # whatever the hub, the network or the reader raises
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(f"cannot load hf:{name} ({reason}): check the name and the connection") from None
    parts: list[tuple[Array, Array]] = []
    notes: list[str] = []
    names: tuple[str, ...] = ()
    for part in ("train", "test"):
        if part not in sets:
            raise UserError(f"hf:{name} has splits {', '.join(sets)}: train and test are needed")
        columns = sets[part].column_names
        x_key = next((c for c in INPUTS if c in columns), None)
        y_key = next((c for c in LABELS if c in columns), None)
        if x_key is None or y_key is None:
            raise UserError(f"hf:{name} has columns {', '.join(columns)}: an image and a label column are needed")
        inputs, changed = stacked(f"hf:{name}", sets[part][x_key], images)
        own = tuple(getattr(getattr(sets[part], "features", {}).get(y_key), "names", ()))
        names = names or own
        parts.append((inputs, named_alike(f"hf:{name}: y_{part}", np.asarray(sets[part][y_key]), names, own)))
        notes += changed
    for kind, found, used in (("columns", columns, (x_key, y_key)), ("splits", sets, ("train", "test"))):
        if unused := [n for n in found if n not in used]:
            notes.append(f"{kind} of hf:{name} that are not used: {some(unused)}")
    return Source(parts[0], parts[1], names=names, notes=tuple(notes))

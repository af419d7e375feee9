"""Images: read as a person sees them, into 0 to 255, from files and folders of classes."""

import re
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .source import Array, Source, as_array, some

GRAY = ("1", "L", "LA", "I;16")  # modes of images without colour
DEEP = re.compile(r";16[BLN]")  # Pillow's way to say 16 bits per channel of a file


def read_image_folder(folder: str) -> Source:
    """The data set in DIR/train/CLASS/*.png and DIR/test/CLASS/*.png, in every format that Pillow reads.

    Hidden files and folders and what is no image are left out, with a note.

    Raises:
        UserError: for a part without images, an image that cannot be read, or images of several sizes.
    """
    root = Path(folder).expanduser()
    notes = _Notes(root)
    train, test = (_part(root / part, notes) for part in ("train", "test"))
    return Source(train, test, notes=notes.lines())


def read_image(path: Path, gray: bool) -> tuple[Array, tuple[str, ...]]:
    """An image file as (H, W) if gray, else (H, W, 3), of 0 to 255, and what was changed; see `pixels`.

    Raises:
        UserError: if there is no Pillow, no file, or no image in it.
    """
    pillow = _pillow()
    try:
        with pillow.open(path) as image:
            return pixels(image, gray)
    except FileNotFoundError:
        raise UserError(f"no file at {path}: give an existing image") from None
    except Exception as error:  # a damaged image can raise nearly anything
        raise UserError(f"cannot read the image {path} ({error}): replace or remove it") from None


def pixels(image: Any, gray: bool) -> tuple[Array, tuple[str, ...]]:
    """A Pillow image as a person sees it, and what was changed in words that follow "has".

    uint8, or float32 (in 0 to 255 too) where a gray image has 16 bits; turned as its EXIF says; transparent parts are
    white; palettes and CMYK become RGB.

    Raises:
        ValueError: for pixels whose range is unknown (32-bit numbers).
    """
    from PIL import Image, ImageOps

    remarks = []
    if getattr(image, "n_frames", 1) > 1:
        remarks.append("several frames: the first is used")
    if not image.mode.startswith("I;16") and any(DEEP.search(str(tile)) for tile in getattr(image, "tile", ())):
        remarks.append("16 bits per colour channel: the upper 8 are used")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F"):
        raise ValueError("its pixels are 32-bit numbers of unknown range, 8 and 16 bits have one")
    if image.mode.startswith("I;16"):
        array = np.asarray(image).astype(np.float32) / 257
        return array if gray else np.repeat(array[..., None], 3, axis=-1), tuple(remarks)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            remarks.append("transparent parts: they become white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("L" if gray else "RGB")), tuple(remarks)


def stacked(what: str, inputs: Iterable[Any]) -> tuple[Array, tuple[str, ...]]:
    """One array of many arrays, tensors or Pillow images (gray if all are), and notes of what the images had.

    Raises:
        UserError: for inputs of different shapes.
    """
    inputs, remarks = list(inputs), Counter[str]()
    if all(hasattr(x, "getbands") for x in inputs):  # Pillow is loaded only if somebody has made one
        gray = all(image.mode in GRAY for image in inputs)
        read = [pixels(image, gray) for image in inputs]
        inputs = [array for array, _ in read]
        remarks.update(remark for _, own in read for remark in own)
    arrays = [as_array(x) for x in inputs]
    shapes = sorted({x.shape for x in arrays})
    if len(shapes) > 1:
        raise UserError(f"{what} has inputs of different shapes, {some(shapes)}: make them equal")
    return np.stack(arrays), _counted(remarks)


def _counted(remarks: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{count} images have {remark}" for remark, count in remarks.items())


@cache
def image_suffixes() -> frozenset[str]:
    """The file suffixes that Pillow opens, in lower case with their dot."""
    pillow = _pillow()
    return frozenset(suffix for suffix, kind in pillow.registered_extensions().items() if kind in pillow.OPEN)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise UserError("reading image files needs Pillow: pip install 'bayesbinn[data]'") from None
    return Image


class _Notes:
    """Counts what was left out of a folder, and what its images have."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.hidden: list[Path] = []
        self.others: list[Path] = []
        self.remarks: Counter[str] = Counter()

    def visible(self, folder: Path) -> list[Path]:
        """What is in a folder, in order, without the hidden files of editors and file managers."""
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        self.hidden += [path for path in inside if path.name.startswith(".")]
        return [path for path in inside if not path.name.startswith(".")]

    def lines(self) -> tuple[str, ...]:
        kinds = {"hidden": self.hidden, "no images of a class": self.others}
        left_out = [
            f"{len(paths)} files or folders are {kind} and left out: {some(p.relative_to(self.root) for p in paths)}"
            for kind, paths in kinds.items()
            if paths
        ]
        return (*left_out, *_counted(self.remarks))


def _part(folder: Path, notes: _Notes) -> tuple[Array, Array]:
    files: list[Path] = []
    for one in notes.visible(folder):
        inside = notes.visible(one)
        found = [file for file in inside if file.suffix.lower() in image_suffixes() and file.is_file()]
        notes.others += sorted({*inside} - {*found}) if found else [one]
        files += found
    if not files:
        raise UserError(f"no images under {folder}: expected {folder}/CLASS/*.png")
    images: list[Array] = []
    for file in files:
        image, remarks = read_image(file, gray=False)
        if images and image.shape != images[0].shape:
            sizes = [f"{i.shape[1]}×{i.shape[0]}" for i in (image, images[0])]
            raise UserError(f"{file} has {sizes[0]} pixels, {files[0]} {sizes[1]}: make all images of one size")
        images.append(image)
        notes.remarks.update(remarks)
    return np.stack(images), np.array([file.parent.name for file in files])

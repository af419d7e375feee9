"""Images: read as a person sees them, into 0 to 255, and brought to one size."""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .source import Array, as_array, some

GRAY = ("1", "L", "LA", "I;16")  # modes of images without colour
TINT = 24  # of 255: what JPEG may add to grey
LARGE = 64  # pixels
DEEP = re.compile(r";16[BLN]")  # Pillow's way to say 16 bits per channel of a file


@dataclass(frozen=True)
class Images:
    """How images are read.

    Attributes:
        size: the short side becomes N pixels and the centre N×N is kept; 0: they are as large as they are.
        channels: 1 grey, 3 colours; 0: as most of the training images have.
        skip_damaged: files that cannot be read are left out, not refused.
    """

    size: int = 0
    channels: int = 0
    skip_damaged: bool = False


AS_THEY_ARE = Images()


def read_image(path: Path, gray: bool, size: int = 0) -> tuple[Array, tuple[str, ...]]:
    """An image file as (H, W) if gray, else (H, W, 3), of 0 to 255, and what was changed; see `pixels` and `fitted`.

    Raises:
        UserError: if there is no Pillow, no file, or no image in it.
    """
    pillow = _pillow()
    try:
        with pillow.open(path) as image:
            return pixels(image, gray, size)
    except FileNotFoundError:
        raise UserError(f"no file at {path}: give an existing image") from None
    except Exception as error:  # a damaged image can raise nearly anything
        raise UserError(f"cannot read the image {path} ({error}): replace or remove it") from None


def image_head(path: Path) -> tuple[tuple[int, int], str] | None:
    """((width, height), Pillow's mode) of an image file, without reading its pixels; None if it cannot be opened."""
    pillow = _pillow()
    try:
        with pillow.open(path) as image:
            return image.size, image.mode
    except Exception:  # whoever reads it will say why
        return None


def pixels(image: Any, gray: bool, size: int = 0) -> tuple[Array, tuple[str, ...]]:
    """A Pillow image as a person sees it, `fitted` to a size, and what was changed in words that follow "has".

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
        array, more = fitted(np.asarray(image).astype(np.float32) / 257, size)
        return array if gray else np.repeat(array[..., None], 3, axis=-1), (*remarks, *more)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[0] < 255:
            remarks.append("transparent parts: they become white")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if gray and image.mode not in GRAY and _colourful(np.asarray(image.convert("RGB"))):
        remarks.append("colours: they become grey")
    array, more = fitted(np.asarray(image.convert("L" if gray else "RGB")), size)
    return array, (*remarks, *more)


def _colourful(image: Array) -> bool:
    """Whether an RGB image is more than grey that a lossy format has tinted."""
    return bool((np.ptp(image, axis=-1) > TINT).mean() > 0.001)


def fitted(image: Array, size: int) -> tuple[Array, tuple[str, ...]]:
    """The centre of an image whose short side is resized to N pixels, and what that did in words that follow "has".

    Bicubic, as wide as the reduction (Pillow's own), within the image's smallest and largest value; 0 is no change.

    Shapes: image (H, W) or (H, W, C); the result (N, N) or (N, N, C), uint8 if the image was.

    >>> fitted(np.full((6, 4, 3), 7, np.uint8), 2)[0].shape
    (2, 2, 3)
    """
    height, width = image.shape[:2]
    if not size or height == width == size:
        return image, ()
    short, remarks = min(height, width), []
    if short < size:
        remarks.append(f"fewer than {size} pixels on the short side: they are enlarged")
    if max(height, width) > 2 * short:
        remarks.append("one side more than twice as long as the other: more than half of them is cropped")
    pillow, left, top = _pillow(), (width - short) / 2, (height - short) / 2
    low, high = image.min(), image.max()
    planes = []
    for plane in np.moveaxis(image, -1, 0) if image.ndim == 3 else [image]:
        exact = plane if image.dtype == np.uint8 else (plane - low).astype(np.float32)
        made = pillow.fromarray(exact).resize(
            (size, size), pillow.Resampling.BICUBIC, box=(left, top, left + short, top + short)
        )
        planes.append(np.asarray(made))
    array = np.stack(planes, axis=-1) if image.ndim == 3 else planes[0]
    return array if image.dtype == np.uint8 else np.clip(array + low, low, high).astype(image.dtype), tuple(remarks)


def suggested(sides: Iterable[int]) -> int:
    """A size for images of these short sides: that of most, but no larger than a small network learns from.

    >>> suggested([500, 600, 700]), suggested([30, 50]), suggested([5])
    (64, 40, 5)
    """
    middle = int(np.median(list(sides)))
    return min(LARGE, middle - middle % 8 or middle)


def stacked(what: str, inputs: Iterable[Any], wanted: Images = AS_THEY_ARE) -> tuple[Array, tuple[str, ...]]:
    """One array of many arrays, tensors or Pillow images (gray if all are), and notes of what the images had.

    Raises:
        UserError: for inputs of different shapes.
    """
    inputs, remarks = list(inputs), Counter[str]()
    fix = "make them equal"
    if all(hasattr(x, "getbands") for x in inputs):  # Pillow is loaded only if somebody has made one
        fix = f"resize and crop them all, say by --image-size {suggested(min(image.size) for image in inputs)}"
        gray = wanted.channels == 1 if wanted.channels else all(image.mode in GRAY for image in inputs)
        read = [pixels(image, gray, wanted.size) for image in inputs]
        inputs = [array for array, _ in read]
        remarks.update(remark for _, own in read for remark in own)
    arrays = [as_array(x) for x in inputs]
    shapes = sorted({x.shape for x in arrays})
    if len(shapes) > 1:
        raise UserError(f"{what} has inputs of different shapes, {some(shapes)}: {fix}")
    return np.stack(arrays), counted(remarks)


def counted(remarks: Counter[str]) -> tuple[str, ...]:
    """A note for each remark of `pixels`, with how many images it is of."""
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

"""Folders of images: a folder for each part, or none, and in it one for each class."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from ..errors import UserError
from .images import AS_THEY_ARE, GRAY, Images, counted, image_head, image_suffixes, read_image, suggested
from .source import Array, Source, some

TRAIN, TEST = "train", "test"
VALIDATION = ("val", "valid", "validation")


def read_image_folder(folder: str, wanted: Images = AS_THEY_ARE) -> Source:
    """The data set in DIR/train/CLASS/*.png and DIR/test/CLASS/*.png, in every format that Pillow reads.

    A folder `val` (or `valid`, `validation`) is the validation part, or, without a folder `test`, the test part.
    DIR/CLASS/*.png has no parts.  Hidden files and folders and what is no image are left out, with a note.

    Raises:
        UserError: for a part without images, an image that cannot be read (unless damaged ones are skipped), or images
            of several sizes that are to stay as they are.
    """
    root = Path(folder).expanduser()
    found = _Found(root)
    parts = _parts(root, found)
    files = {name: found.files(path) for name, path in parts.items()}
    gray = wanted.channels == 1 if wanted.channels else found.mostly_gray(files["train"])
    everything = [file for own in files.values() for file in own]
    made = {name: _read(parts[name], own, gray, wanted, found, everything) for name, own in files.items()}
    return Source(made["train"], made.get("test"), validation=made.get("validation"), notes=found.lines())


def _parts(root: Path, found: "_Found") -> dict[str, Path]:
    """{train, and perhaps validation and test: its folder}."""
    if _holds_classes(root) and (_holds_images(root / TRAIN) or not (root / TRAIN).is_dir()):
        return {"train": root}
    there = [root / name for name in VALIDATION if (root / name).is_dir()]
    if len(there) > 1:
        raise UserError(f"{root} has the folders {some(p.name for p in there)}: keep one of them")
    parts = {"train": root / TRAIN, "test": root / TEST}
    if there and parts["test"].is_dir():
        parts["validation"] = there[0]
    elif there:
        parts["test"] = there[0]
        found.notes.append(f"{root} has no folder {TEST}: {there[0].name} is the test part")
    elif parts["train"].is_dir() and not parts["test"].is_dir():
        raise UserError(
            f"no images under {parts['test']}: expected {parts['test']}/CLASS/*.png, or {root / VALIDATION[0]}, or "
            f"imagefolder:{parts['train']}, a fifth of which becomes the test part"
        )
    found.others += [path for path in found.visible(root) if path not in parts.values()]
    return parts


def _holds_images(folder: Path) -> bool:
    inside = folder.iterdir() if folder.is_dir() else ()
    return any(p.suffix.lower() in image_suffixes() and not p.name.startswith(".") and p.is_file() for p in inside)


def _holds_classes(root: Path) -> bool:
    return root.is_dir() and any(_holds_images(path) for path in root.iterdir() if not path.name.startswith("."))


def _read(
    folder: Path, files: Sequence[Path], gray: bool, wanted: Images, found: "_Found", everything: Sequence[Path]
) -> tuple[Array, Array]:
    """(x, the class of each) of a part; `everything` are the files of all parts, to suggest a size for."""
    images: list[Array] = []
    labels: list[str] = []
    for file in files:
        try:
            image, remarks = read_image(file, gray, wanted.size)
        except UserError as error:
            if not wanted.skip_damaged:
                raise UserError(f"{error}, or leave such files out by --skip-damaged") from None
            found.damaged.append(file)
            continue
        first = found.first = found.first or (file, image.shape)
        if image.shape != first[1]:
            sizes = [f"{shape[1]}×{shape[0]}" for shape in (image.shape, first[1])]
            sides = [min(head[0]) for head in map(image_head, everything) if head]
            raise UserError(
                f"{file} has {sizes[0]} pixels, {first[0]} {sizes[1]}: resize and crop all images to one size, say by "
                f"--image-size {suggested(sides)}"
            )
        images.append(image)
        labels.append(file.parent.name)
        found.remarks.update(remarks)
    if not images:
        raise UserError(f"none of the {len(files)} images under {folder} can be read: replace them")
    return np.stack(images), np.array(labels)


class _Found:
    """What was left out of a folder, and what its images have."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[str] = []
        self.hidden: list[Path] = []
        self.others: list[Path] = []
        self.damaged: list[Path] = []
        self.remarks: Counter[str] = Counter()
        self.first: tuple[Path, tuple[int, ...]] | None = None

    def visible(self, folder: Path) -> list[Path]:
        """What is in a folder, in order, without the hidden files of editors and file managers."""
        inside = sorted(folder.iterdir()) if folder.is_dir() else []
        self.hidden += [path for path in inside if path.name.startswith(".")]
        return [path for path in inside if not path.name.startswith(".")]

    def files(self, folder: Path) -> list[Path]:
        """The images of the classes in the folder of a part.

        Raises:
            UserError: where there are none.
        """
        files: list[Path] = []
        for one in self.visible(folder):
            inside = self.visible(one)
            found = [file for file in inside if file.suffix.lower() in image_suffixes() and file.is_file()]
            self.others += sorted({*inside} - {*found}) if found else [one]
            files += found
        if not files:
            raise UserError(f"no images under {folder}: expected {folder}/CLASS/*.png")
        return files

    def mostly_gray(self, files: Iterable[Path]) -> bool:
        """Whether most of these images are grey; a note where some are and some are not."""
        modes = [head[1] in GRAY for head in map(image_head, files) if head]
        gray = sum(modes)
        mostly = 2 * gray > len(modes)
        if 0 < gray < len(modes):
            self.notes.append(
                f"{gray} of {len(modes)} training images are grey, the others have colours: all are read "
                f"{'as grey' if mostly else 'in colours'}"
            )
        return mostly

    def lines(self) -> tuple[str, ...]:
        """A note for each kind of thing."""
        kinds = {
            "files or folders are hidden": self.hidden,
            "files or folders are no images of a class": self.others,
            "images cannot be read": self.damaged,
        }
        left_out = [
            f"{len(paths)} {kind} and left out: {some(p.relative_to(self.root) for p in paths)}"
            for kind, paths in kinds.items()
            if paths
        ]
        return (*self.notes, *left_out, *counted(self.remarks))

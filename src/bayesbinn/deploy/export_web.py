"""A packed network as a web page that needs no server, and as a JavaScript module.

The runtime is the C library as WebAssembly (`csrc/cross.py` builds it); it is deflated and written into both.
"""

import base64
import html
import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..files import write_bytes
from ..runtime import container
from ..runtime.preparation import feature_names
from ..runtime.program import check

WEB = Path(__file__).with_name("web")


@dataclass(frozen=True)
class Page:
    """What a page says of its network; names that are left out are those of the file.

    Attributes:
        title: of the page.
        classes: C names; () for numbers.
        features: names of the numbers that the form asks for; () for none, typical: a value of each to begin with.
        low, high: values that stand for black and white in pictures.
        light_ink: whether what is drawn is light on dark; pen: its width, for pictures of 28 pixels.
        unsure: the network is "unsure" if the probability of its class is below this.
        unseen: it has "never seen this" if the mutual information (nats) is above this; None: it never says so.
        examples: (N, *input shape) float32, to try.
        facts: (name, text) about the network.
    """

    title: str = "Binary network"
    classes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    typical: tuple[float, ...] = ()
    low: float = 0.0
    high: float = 255.0
    light_ink: bool = True
    pen: float = 2.6
    unsure: float = 0.8
    unseen: float | None = None
    examples: NDArray[np.float32] | None = None
    facts: tuple[tuple[str, str], ...] = field(default=())


def to_web(raw: bytes, page: Page | None = None) -> dict[str, bytes]:
    """The files {name: bytes} of a web folder for the bytes of a `.bbnn` file.

    `index.html` is a page that works from disk and asks nobody for anything; `bayesbinn.js` a module (browsers, Node
    18) with `bayesbinn.d.ts` its types: `(await load("network.bbnn")).predict(x).probs`.

    Raises:
        FormatError: if `raw` is damaged.
        ValueError: if the output is not (C,) with at least two classes, or `page` does not fit the network.

    >>> from bayesbinn.nn import BinaryLinear
    >>> from bayesbinn.deploy import pack
    >>> sorted(to_web(pack(BinaryLinear(8, 3))))
    ['bayesbinn.d.ts', 'bayesbinn.js', 'index.html', 'network.bbnn']
    """
    page = page or Page()
    found = container.read(raw)
    program = check(found)
    shape = program.output_shape
    if len(shape) != 1 or shape[0] < 2:
        sizes = " × ".join(map(str, shape))
        raise ValueError(
            f"a page needs a network with a logit for each of two or more classes, this one's output is {sizes}"
        )
    classes = page.classes or program.about.classes
    features = page.features or feature_names(program.about.columns)
    inputs = int(np.prod(program.input_shape))
    for name, values, size in (("classes", classes, shape[0]), ("features", features, inputs)):
        if values and len(values) != size:
            raise ValueError(f"page.{name} has {len(values)} names, the network {size}")
    examples = np.zeros((0, *program.input_shape), np.float32) if page.examples is None else page.examples
    if examples.shape[1:] != program.input_shape:
        raise ValueError(f"page.examples have shape {examples.shape[1:]}, the network takes {program.input_shape}")
    said: dict[str, Any] = {
        "classes": list(classes), "features": list(features), "typical": list(page.typical),
        "prepared": bool(program.about.columns),
        "low": page.low, "high": page.high, "lightInk": page.light_ink, "pen": page.pen,
        "unsure": page.unsure, "unseen": page.unseen, "facts": [list(fact) for fact in page.facts],
        "examples": _text(_deflate(examples.astype("<f4").tobytes())),
    }  # fmt: skip
    parts = {
        "TITLE": html.escape(page.title),
        "CSS": _read("page.css"),
        "ABOUT": json.dumps(said, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"),
        "NETWORK": _text(_deflate(fold(raw))),
        "MODULE": module(),
        "PAGE": _read("page.js"),
    }
    text_of = _read("page.html")
    for name, text in parts.items():
        text_of = text_of.replace(f"@{name}@", text)
    return {
        "index.html": text_of.encode(),
        "bayesbinn.js": module().encode(),
        "bayesbinn.d.ts": _read("bayesbinn.d.ts").encode(),
        "network.bbnn": raw,
    }


def save_web(raw: bytes, folder: str | Path, page: Page | None = None) -> list[Path]:
    """Write the files of `to_web` into `folder` (made if need be); returns their paths."""
    folder = Path(folder)
    files = to_web(raw, page)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_bytes(folder / name, content)
    return [folder / name for name in files]


def module() -> str:
    """The JavaScript module, with its runtime in it."""
    return _read("bayesbinn.js").replace("@RUNTIME@", _text(_deflate((WEB / "runtime.wasm").read_bytes())))


def fold(raw: bytes) -> bytes:
    """A `.bbnn` file with its samples as their differences from the mode, which deflates better; page.js unfolds it."""
    start = 8 + int.from_bytes(raw[:8], "little")
    data = np.frombuffer(raw, np.uint8)[start:].copy()
    header = json.loads(raw[8:start])
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "U8":
            begin, end = entry["data_offsets"]
            rows = data[begin:end].reshape(entry["shape"])
            rows[1:] ^= rows[0]
    return raw[:start] + data.tobytes()


def _read(name: str) -> str:
    return (WEB / name).read_text(encoding="utf-8")


def _deflate(raw: bytes) -> bytes:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeezer.compress(raw) + squeezer.flush()


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()

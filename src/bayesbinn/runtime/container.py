"""The `.bbnn` container: a safetensors file whose metadata holds the plan.  Reading trusts nothing."""

import json
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FORMAT_VERSION = 3  # the newest; a file says the oldest that has all its operations
MAX_HEADER = 1 << 24
DTYPES: dict[str, type[np.generic]] = {"U8": np.uint8, "F32": np.float32}
PLAN, CHECKSUM = "bayesbinn", "checksum"


class FormatError(ValueError):
    """The file is not a `.bbnn` file this version can run; the message says what is wrong and where."""


@dataclass(frozen=True)
class Container:
    """A parsed file: the plan (decoded JSON), the tensors by name (read-only views), and its size in bytes."""

    plan: dict[str, Any]
    tensors: dict[str, NDArray[Any]]
    num_bytes: int


def read(source: str | Path | bytes) -> Container:
    """Parse a `.bbnn` file, or its bytes, and check everything the container promises.

    Raises:
        FormatError: if it is truncated, damaged, or not such a file; OSError if it cannot be read.
    """
    raw = source if isinstance(source, bytes) else Path(source).read_bytes()
    if len(raw) < 8:
        raise FormatError(f"file has {len(raw)} bytes, a .bbnn file has at least 8: it is truncated or another format")
    length = int.from_bytes(raw[:8], "little")
    if length > min(MAX_HEADER, len(raw) - 8):
        raise FormatError(f"header length {length} does not fit in a file of {len(raw)} bytes: truncated or damaged")
    header = decode_json(raw[8 : 8 + length], "header")
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get(PLAN), str):
        raise FormatError(f"no plan ('{PLAN}') in the metadata: a safetensors file, but not a .bbnn file")
    data = memoryview(raw)[8 + length :]
    plan_text = metadata[PLAN].encode("utf-8", "surrogatepass")
    found = checksum(plan_text, data)
    if metadata.get(CHECKSUM) != found:
        raise FormatError(
            f"checksum is {found}, the file says {metadata.get(CHECKSUM)!r}: it is damaged, copy it again"
        )
    plan = decode_json(plan_text, "plan")
    version = plan.get("version")
    if not is_int(version, 1, FORMAT_VERSION):
        raise FormatError(f"format version is {version!r}, this release reads 1 to {FORMAT_VERSION}: upgrade bayesbinn")
    return Container(plan, _tensors(header, data), len(raw))


def write(plan: dict[str, Any], tensors: dict[str, NDArray[Any]]) -> bytes:
    """The bytes of a file that holds `plan` and `tensors` (uint8 or float32); equal input gives equal bytes.

    float32 tensors come first, so that all are aligned to 4 bytes; the header is padded with spaces to 8.
    """
    codes = {np.dtype(dtype): code for code, dtype in DTYPES.items()}
    ordered = sorted(tensors.items(), key=lambda item: (item[1].dtype == np.uint8, item[0]))
    header: dict[str, Any] = {}
    parts, offset = [], 0
    for name, tensor in ordered:
        parts.append(np.ascontiguousarray(tensor).astype(tensor.dtype.newbyteorder("<")).tobytes())
        end = offset + len(parts[-1])
        header[name] = {"dtype": codes[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(plan, separators=(",", ":"), allow_nan=False)
    data = b"".join(parts)
    metadata = {CHECKSUM: checksum(text.encode(), data), PLAN: text}
    encoded = json.dumps({"__metadata__": metadata, **header}, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + data


def checksum(plan: bytes, data: bytes | memoryview) -> str:
    """`crc32:` and eight hex digits, over the plan's text followed by the data."""
    return f"crc32:{zlib.crc32(data, zlib.crc32(plan)):08x}"


def decode_json(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object from bytes; no NaN, no duplicate keys.  `what` names it in errors."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = dict(pairs)
        if len(keys) != len(pairs):
            raise ValueError("a key appears twice")
        return keys

    def constant(name: str) -> float:
        raise ValueError(f"{name} is not allowed")

    try:
        decoded = json.loads(raw.decode("utf-8"), object_pairs_hook=unique, parse_constant=constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the {what} is not valid JSON ({error}): damaged, or another format") from None
    if not isinstance(decoded, dict):
        raise FormatError(f"the {what} must be a JSON object, found {type(decoded).__name__}")
    return decoded


def _tensors(header: dict[str, Any], data: memoryview) -> dict[str, NDArray[Any]]:
    tensors, end = {}, 0
    for name, entry in header.items():
        try:
            dtype, shape, (start, stop) = entry["dtype"], entry["shape"], entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise FormatError(f"tensor {name!r} needs dtype, shape and two data_offsets") from None
        if not isinstance(dtype, str) or dtype not in DTYPES:
            raise FormatError(f"tensor {name!r} has dtype {dtype!r}, allowed are {', '.join(DTYPES)}")
        if not (isinstance(shape, list) and len(shape) <= 4 and all(is_int(n, 0, 1 << 40) for n in shape)):
            raise FormatError(f"tensor {name!r} has shape {shape!r}, need at most 4 sizes of at least 0")
        kind = np.dtype(DTYPES[dtype]).newbyteorder("<")
        need = math.prod(shape) * kind.itemsize
        if not (is_int(start, 0, len(data)) and is_int(stop, start, len(data))) or start != end or stop - start != need:
            raise FormatError(
                f"tensor {name!r} claims bytes {start}-{stop} of {len(data)}, expected {end}-{end + need}"
            )
        tensors[name] = np.frombuffer(data[start:stop], dtype=kind).reshape(shape)
        end = stop
    if end != len(data):
        raise FormatError(f"{len(data) - end} bytes follow the last tensor: damaged, or not written by bayesbinn")
    return tensors


def is_int(value: object, low: int, high: int) -> bool:
    """Whether a decoded JSON value is an integer (not a bool) in [low, high]."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

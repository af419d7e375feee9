"""Small images as PNG data URIs, with the standard library only."""

import base64
import struct
import zlib

from torch import Tensor


def data_uri(image: Tensor, low: float, high: float) -> str:
    """`data:image/png;base64,...` of an image (C, H, W) with C = 1 (gray) or 3; values from `low` to `high`.

    Any other number of channels shows the first.

    >>> import torch
    >>> data_uri(torch.zeros(1, 2, 2), 0, 1)[:27]
    'data:image/png;base64,iVBOR'
    """
    image = image[:3] if image.shape[0] == 3 else image[:1]
    scaled = (image.float() - low) / max(high - low, 1e-12)
    pixels = (scaled.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()
    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)  # filter 0: none
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 0, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    )
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")

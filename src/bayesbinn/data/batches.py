"""Batches cut from whole tensors without a per-example loop, and what augmentation does to them."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..examples import Examples


def batches(
    split: Examples,
    batch_size: int,
    seed: int,
    epoch: int,
    start: int = 0,
    part: Callable[[Tensor], Tensor] = lambda batch: batch,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches (x float32, y) of one epoch in an order that only `seed` and `epoch` decide; the rest of N is dropped.

    Args:
        start: number of the first batch to give, to resume within an epoch.
        part: picks what to give of each batch of indices (a rank's share).
    """
    generator = torch.Generator().manual_seed((seed << 20) + epoch)
    order = torch.randperm(len(split), generator=generator).to(split.x.device)
    for i in range(start, len(split) // batch_size):
        chosen = part(order[i * batch_size : (i + 1) * batch_size])
        yield channels_last(split.x[chosen].float()), split.y[chosen]


def channels_last(x: Tensor) -> Tensor:
    """x with each pixel's channels side by side if it is a batch of images (B, C, H, W): convolutions are faster so.

    >>> channels_last(torch.zeros(1, 3, 8, 8)).stride()
    (192, 1, 24, 3)
    """
    return x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x


def crop_flip(x: Tensor, padding: int = 4) -> Tensor:
    """Each image of x (B, C, H, W) shifted by up to `padding` pixels, zeros coming in, and mirrored half the time."""
    batch, _, height, width = x.shape
    padded = torch.nn.functional.pad(x, (padding,) * 4)
    top, left = (torch.randint(0, 2 * padding + 1, (batch, 1), device=x.device) for _ in range(2))
    rows = top + torch.arange(height, device=x.device)
    columns = left + torch.arange(width, device=x.device)
    columns = torch.where(torch.rand(batch, 1, device=x.device) < 0.5, columns, columns.flip(1))
    images = torch.arange(batch, device=x.device)[:, None, None]
    # indexing the channels-last view keeps each pixel's channels together
    cut = padded.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]]
    return cut.permute(0, 3, 1, 2)


# what `Config.augment` can name; each takes and gives a batch of inputs
AUGMENTATIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "crop-flip": crop_flip}

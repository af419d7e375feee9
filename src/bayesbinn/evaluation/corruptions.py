"""Corrupted images, to see whether uncertainty rises with the damage: noise, blur and rotation at five strengths."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError

# strength 1 to 5 → standard deviation as a share of the data's range, blur radius as a share of the side, degrees
LEVELS: dict[str, tuple[float, ...]] = {
    "noise": (0.1, 0.2, 0.3, 0.4, 0.5),
    "blur": (0.02, 0.04, 0.06, 0.08, 0.1),
    "rotation": (15, 30, 45, 60, 75),
}


def corrupt(x: Tensor, kind: str, strength: int, seed: int = 0) -> Tensor:
    """The images of x (N, C, H, W), damaged; float32, in the units and within the range of x.

    Args:
        x: images; black is the smallest value in x, and what comes in at the borders.
        kind: "noise" (additive normal, clipped to the range), "blur" (Gaussian) or "rotation" (counter-clockwise,
            about the centre, bilinear); `LEVELS` says how much.
        strength: 0 (nothing) to 5.
        seed: of the noise.

    Raises:
        UserError: for inputs that are not images, an unknown kind or another strength.

    Source: the idea of graded corruptions, Hendrycks & Dietterich (2019); the levels are ours.

    >>> corrupt(torch.eye(8)[None, None], "rotation", 5).shape
    torch.Size([1, 1, 8, 8])
    """
    if x.ndim != 4:
        raise UserError(f"corruptions need images (N, C, H, W), the inputs have shape {tuple(x.shape)}")
    if kind not in LEVELS or strength not in range(6):
        raise UserError(f"corruption must be one of {', '.join(LEVELS)} at strength 0 to 5, got {kind} at {strength}")
    x = x.float()
    if strength == 0:
        return x
    level, low, high = LEVELS[kind][strength - 1], float(x.min()), float(x.max())
    shifted = _KINDS[kind](x - low, level, high - low, seed)
    return (shifted + low).clamp(low, high)


def _noise(x: Tensor, level: float, span: float, seed: int) -> Tensor:
    generator = torch.Generator(x.device).manual_seed(seed)
    return x + level * span * torch.randn(x.shape, generator=generator, device=x.device)


def _blur(x: Tensor, level: float, span: float, seed: int) -> Tensor:
    sigma = level * max(x.shape[-2:])
    radius = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=x.device) / sigma).square())
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = F.conv2d(x, kernel[..., None, :], padding=(0, radius), groups=x.shape[1])  # rows, then columns
    return F.conv2d(x, kernel[..., :, None], padding=(radius, 0), groups=x.shape[1])


def _rotation(x: Tensor, level: float, span: float, seed: int) -> Tensor:
    height, width = x.shape[-2:]
    cos, sin = math.cos(math.radians(level)), math.sin(math.radians(level))
    # grid coordinates run from −1 to 1 on both axes: keep the angle right for images that are not square
    matrix = torch.tensor([[cos, -sin * height / width, 0.0], [sin * width / height, cos, 0.0]], device=x.device)
    rotated = []
    for part in torch.split(x, 1024):
        grid = F.affine_grid(matrix.expand(len(part), 2, 3), list(part.shape), align_corners=False)
        rotated.append(F.grid_sample(part, grid, align_corners=False))
    return torch.cat(rotated)


_KINDS: dict[str, Callable[[Tensor, float, float, int], Tensor]] = {
    "noise": _noise,
    "blur": _blur,
    "rotation": _rotation,
}

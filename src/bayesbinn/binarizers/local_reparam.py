"""Local reparameterisation: sample what the layer puts out instead of its weights."""

import torch
from torch import Tensor

from .. import bernoulli
from .base import Binarizer, Op, with_gradient


class LocalReparam(Binarizer):
    """y = op(x, μ) + ε √op(x², 1 − μ²), ε ~ N(0, 1); gradient ĝ_μ = ∂loss/∂μ through both terms.

    Changes steps 1 and 2 of the frame: no weight is drawn.  By the central limit theorem the output of a layer with
    many inputs is nearly normal with these moments.  Every example and, in a convolution,
    every position gets its own ε: the gradient has less variance than with one shared weight, and each output has the
    right mean and variance, but outputs that share weights are drawn as if they were independent.

    The gradient with respect to μ goes to λ as it is (dμ/dλ is left out): it is the natural gradient.

    Source: Shayer, Levi & Fetaya (2018); Peters & Welling (2018); Kingma, Salimans & Welling (2015).

    >>> def op(x, weight):
    ...     return x @ weight.T
    >>> binarizer = LocalReparam(torch.Generator().manual_seed(0))
    >>> y = binarizer(op, torch.ones(10_000, 16), torch.zeros(1, 16))  # like sums of 16 fair ±1
    >>> f"{y.mean():.1f} {y.std():.1f}"
    '-0.0 4.0'
    """

    def __call__(self, op: Op, x: Tensor, natural: Tensor) -> Tensor:
        with torch.no_grad():
            mean, variance = bernoulli.mean(natural), bernoulli.variance(natural)
        y = op(x, with_gradient(natural, mean))
        y_variance = op(x * x, with_gradient(natural, variance, -2 * mean))
        # where nothing is uncertain (x = 0) the square root has no derivative: clamp makes it 0
        y_std = y_variance.clamp(min=torch.finfo(y_variance.dtype).tiny).sqrt()
        # in at least float32, so that a seed draws the same noise under autocast
        dtype = torch.promote_types(y.dtype, torch.float32)
        noise = torch.randn(y.shape, dtype=dtype, device=y.device, generator=self.generator)
        return y + noise.to(y.dtype) * y_std

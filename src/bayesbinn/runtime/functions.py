"""Functions of float32 numbers in steps that every engine takes alike, so that all give the same bits.

Each line is one float32 operation for each number, in the order of `csrc/functions.h`.  Nothing of a system's
mathematical library is used, which rounds differently from one system to the next.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
LANES = 16


_f = np.float32


def clip(x: Floats, low: float, high: float) -> Floats:
    """x limited to [low, high]; NaN becomes low."""
    x = np.where(x > _f(low), x, _f(low))
    return np.where(x < _f(high), x, _f(high))


def exp(x: Floats) -> Floats:
    """eˣ within 2 units in the last place, for x between −87 and 88 (limited to that); Cephes' polynomial.

    n = round(x log₂ e),  r = x − n ln 2 (in two parts),  eˣ = 2ⁿ (1 + r + r² p(r))
    """
    x = clip(x, -87.0, 88.0)
    n = (x * _f(1.44269504088896341) + _f(12582912.0)) - _f(12582912.0)
    r = (x - n * _f(0.693359375)) + n * _f(2.12194440e-4)
    p = np.full_like(r, 1.9875691500e-4)
    for c in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        p = p * r + _f(c)
    y = (p * (r * r) + r) + _f(1.0)
    power = ((n.astype(np.int32) + np.int32(127)) << np.int32(23)).view(np.float32)
    return np.asarray(y * power, np.float32)


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + e⁻ˣ)."""
    return _f(1.0) / (_f(1.0) + exp(-x))


def tanh(x: Floats) -> Floats:
    """1 − 2 / (e²ˣ + 1): the error is absolute, 2e-7."""
    return _f(1.0) - _f(2.0) / (exp(x * _f(2.0)) + _f(1.0))


def erf(x: Floats) -> Floats:
    """Abramowitz and Stegun's 7.1.26: the error is absolute, 3e-7."""
    z = np.abs(x)
    t = _f(1.0) / (z * _f(0.3275911) + _f(1.0))
    p = np.full_like(t, 1.061405429)
    for c in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        p = p * t + _f(c)
    y = _f(1.0) - (p * t) * exp(-(z * z))
    found: Floats = np.where(x < _f(0.0), -y, y)
    return found


def _elu(x: Floats, alpha: float) -> Floats:
    below = np.asarray((exp(clip(x, -87.0, 0.0)) - _f(1.0)) * _f(alpha), np.float32)
    found: Floats = np.where(x > _f(0.0), x, below)
    return found


def _mish(x: Floats, _: float) -> Floats:
    e = exp(clip(x, -87.0, 20.0))
    n = np.asarray(e * (e + _f(2.0)), np.float32)
    return np.asarray(x * (n / (n + _f(2.0))), np.float32)


def _gelu_tanh(x: Floats, _: float) -> Floats:
    inner = (x * _f(0.7978845608)) * (((x * x) * _f(0.044715)) + _f(1.0))
    return (x * _f(0.5)) * (tanh(inner) + _f(1.0))


# in the order of `operation.FUNCTIONS`: f(x, parameter)
COMPUTE: dict[str, Callable[[Floats, float], Floats]] = {
    "sigmoid": lambda x, _: sigmoid(x),
    "tanh": lambda x, _: tanh(x),
    "silu": lambda x, _: x * sigmoid(x),
    "gelu": lambda x, _: (x * _f(0.5)) * (erf(x * _f(0.70710678)) + _f(1.0)),
    "gelu_tanh": _gelu_tanh,
    "mish": _mish,
    "elu": _elu,
    "leaky_relu": lambda x, slope: np.where(x > _f(0.0), x, x * _f(slope)),
    "hardsigmoid": lambda x, _: clip(x + _f(3.0), 0.0, 6.0) * _f(1 / 6),
    "hardswish": lambda x, _: x * (clip(x + _f(3.0), 0.0, 6.0) * _f(1 / 6)),
}


def step(cell: str, x: Floats, h: Floats, state: Floats, memory: Floats) -> tuple[Floats, Floats]:
    """One step of a recurrent layer, with torch's gates in torch's order.

    Args:
        cell: a key of `operation.CELLS`.
        x, h: (B, gates · C), the products with the input and with the state.
        state, memory: (B, C) of the step before; only "lstm" has a memory.
    """
    size = state.shape[1]
    if cell == "gru":
        r, z = np.split(sigmoid(x[:, : 2 * size] + h[:, : 2 * size]), 2, axis=1)
        n = tanh(x[:, 2 * size :] + r * h[:, 2 * size :])
        return np.asarray((_f(1.0) - z) * n + z * state, np.float32), memory
    gates = x + h
    if cell == "lstm":
        i, f = np.split(sigmoid(gates[:, : 2 * size]), 2, axis=1)
        memory = np.asarray(f * memory + i * tanh(gates[:, 2 * size : 3 * size]), np.float32)
        return np.asarray(sigmoid(gates[:, 3 * size :]) * tanh(memory), np.float32), memory
    return (tanh(gates) if cell == "rnn_tanh" else clip(gates, 0.0, np.inf)), memory


def lane_sum(x: Floats) -> Floats:
    """Σ over the last axis: number i goes to lane i mod 16, each lane adds its own in order, then halves are added."""
    short = -x.shape[-1] % LANES
    lanes = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, short)]).reshape(*x.shape[:-1], -1, LANES)
    total: Floats = np.add.accumulate(lanes, axis=-2)[..., -1, :]
    width = LANES
    while width > 1:
        width //= 2
        total = total[..., :width] + total[..., width : 2 * width]
    found: Floats = total[..., 0]
    return found


def softmax(x: Floats) -> Floats:
    """e^(x − max) over its sum, over the last axis."""
    e = exp(x - np.fmax.reduce(x, -1, keepdims=True))
    found: Floats = e / lane_sum(e)[..., None]
    return found


def normalize(x: Floats, center: bool, eps: float) -> Floats:
    """(x − mean) / √(mean of (x − mean)² + ε) over the last axis; the mean is not subtracted without `center`."""
    count = _f(x.shape[-1])
    if center:
        x = x - (lane_sum(x) / count)[..., None]
    spread = lane_sum(x * x) / count
    inverse: Floats = _f(1.0) / np.sqrt(spread + _f(eps))
    return np.multiply(x, inverse[..., None])

"""The Triton kernel: on a GPU where there is one, in Triton's interpreter where only Triton is installed."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch

from bayesbinn import _philox, bernoulli

COMPARE = """
import torch
from bayesbinn import _philox, _triton
natural = 4 * torch.randn(5003)
natural[:6] = torch.tensor([torch.inf, -torch.inf, -0.0, 16.0, 1e-40, torch.nan])
for value in (0, 5, 2**62 + 11):
    seed = torch.tensor(value)
    for dtype in (torch.float32, torch.bfloat16):
        found = _triton.draw(natural.to(dtype), seed, dtype)
        assert torch.equal(found, _philox.draw(natural.to(dtype), seed, dtype))
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs triton")
def test_the_interpreted_kernel_is_bit_exact() -> None:
    subprocess.run([sys.executable, "-c", COMPARE], env={**os.environ, "TRITON_INTERPRET": "1"}, check=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_draws_what_the_cpu_draws(dtype: torch.dtype) -> None:
    natural = (4 * torch.randn(300, 1001)).to(dtype)
    seed = torch.tensor(2**62 + 3)
    expected = _philox.draw(natural, seed, dtype)
    found = torch.ops.bayesbinn.draw.default(natural.cuda(), seed.cuda(), dtype)
    assert torch.equal(found.cpu(), expected)
    generator = torch.Generator("cuda").manual_seed(0)
    assert bernoulli.sample(natural.cuda(), generator=generator).is_cuda

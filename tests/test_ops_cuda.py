"""The Triton kernels: on a GPU where there is one, in Triton's interpreter where only Triton is installed."""

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bayesbinn import _ops, _philox, bernoulli, binarize_, optimizer_for
from bayesbinn.binarizers import MeanWeight
from bayesbinn.optim import FORMS

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

from bayesbinn import _ops
for second, rate in ((False, False), (True, False), (False, True)):
    for prior in (None, torch.randn(3000)):
        start, grads, ends = torch.randn(3000), torch.randn(3, 3000) / 30, []
        for learn in (_triton.learn_, lambda *a: _ops._learn_plain(*a, None)):
            x, m, v = start.clone(), torch.zeros(3000), torch.zeros(3000) if second else None
            square = torch.zeros((), dtype=torch.float64)
            for t, grad in enumerate(grads, start=1):
                given = (0.1 / (square.sqrt() + 1e-8)).clamp(max=1) if rate else None
                numbers = (40.0, 0.9, 1 - 0.9**t, 0.99, 1 - 0.99**t, 1e-8)
                learn(x, grad, m, v, prior, 0.3, 0.05, given, *numbers, square)
            ends.append((x, m, square))
        torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("form", ["plain", "tensor", "weight"])
@pytest.mark.parametrize("prior", [0.0, 0.3, "tensor"])
def test_a_cuda_step_is_that_of_the_cpu(momentum: bool, form: str, prior: float | str) -> None:
    results = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(1)
        natural, origin = torch.randn(70, 1001), torch.randn(70, 1001)
        states = {name: torch.zeros(70, 1001, device=device) for name in ("momentum", "second")}
        square = torch.zeros((), dtype=torch.float64, device=device)
        natural = natural.to(device)
        for t in range(1, 6):
            grad = (torch.randn(70, 1001) / 30).to(device)
            options = {"lr": 0.05, "ratio": 40.0}
            if momentum:
                options |= {"momentum": states["momentum"], "beta": 0.9, "correction": 1 - 0.9**t}
            if form == "weight":
                options |= {"second": states["second"], "beta2": 0.99, "correction2": 1 - 0.99**t, "eps": 1e-8}
            if form == "tensor":
                options |= {"rate": (0.1 / (square.sqrt() + 1e-8)).clamp(max=1), "square": square}
            _ops.learn_(natural, grad, origin.to(device) if prior == "tensor" else prior, **options)
        results.append((natural.cpu(), square.cpu()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("form", FORMS)
def test_a_network_learns_on_cuda_as_on_the_cpu(form: str) -> None:
    """At the mean weight nothing is random, so both devices train the same network."""
    losses = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(20, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 4), nn.BatchNorm1d(4))
        binarize_(net, binarizer=MeanWeight())
        x = torch.randn(256, 20)
        y = x[:, :4].argmax(1)
        net, x, y = net.to(device), x.to(device), y.to(device)
        optimizer = optimizer_for(net, num_data=256, form=form, lr=0.01 if form == "plain" else 0.1)
        for _ in range(40):
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        losses.append(float(loss))
    assert losses[1] < 0.9
    assert losses[0] == pytest.approx(losses[1], rel=0.02)

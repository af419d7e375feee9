"""Every engine gives the outputs of the integer reference exactly: layer by layer, at odd sizes, and at random."""

from collections.abc import Callable

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import nn

import bayesbinn as bb
from bayesbinn.runtime import load
from tests.deploy.nets import ENGINES, NETWORKS, SIZES, Sign, mlp, trained
from tests.deploy.reference import reference

Engine = Callable[[str], None]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("BAYESBINN_ISA", request.param)
    return str(request.param)


def check(raw: bytes, x: torch.Tensor, engine: str, threads: int = 1) -> None:
    """All networks in `raw` give the reference's outputs on x."""
    program, network = bb.deploy.load_program(raw), load(raw, threads=threads)
    assert network.engine == engine
    expected = [reference(program, x, s).numpy() for s in range(1 + program.num_samples)]
    for sample, outputs in enumerate(expected):
        assert np.array_equal(outputs, network.run(x.numpy(), sample))
    if program.num_samples:
        assert np.array_equal(np.stack(expected[1:]), network.run_samples(x.numpy()))


@pytest.mark.parametrize("activations", ["int6", "int8", "int16"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_whole_networks(engine: str, activations: str, calibrated: bool) -> None:
    for make, shape in NETWORKS:
        net, x = make(), torch.randn(3, *shape)
        calibration = x if calibrated else None
        raw = bb.deploy.pack(
            net,
            num_samples=2,
            activations=activations,
            calibration=calibration,
            input_shape=shape,  # type: ignore[arg-type]
        )
        check(raw, 2 * x, engine, threads=2)


@pytest.mark.parametrize("size", SIZES)
def test_linear_at_odd_sizes(engine: str, size: int) -> None:
    for features in SIZES:
        net = trained(nn.Sequential(nn.Linear(size, features)))
        signed = trained(nn.Sequential(Sign(), nn.Linear(size, features)))
        x = torch.randn(5, size)
        for activations in ("int6", "int8", "int16"):
            check(bb.deploy.pack(net, activations=activations), x, engine)  # type: ignore[arg-type]
        check(bb.deploy.pack(signed), x, engine)
        real = trained(nn.Sequential(nn.Linear(size, features), nn.Linear(features, 2)), exclude="0")
        check(bb.deploy.pack(real), x, engine)


@pytest.mark.parametrize("channels", SIZES)
@pytest.mark.parametrize("sign", [False, True])
def test_convolutions_at_odd_sizes(engine: str, channels: int, sign: bool) -> None:
    first: list[nn.Module] = [Sign()] if sign else []
    for settings_ in (
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": (2, 3), "stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
        {"kernel_size": 3, "padding": 1, "groups": channels},
    ):
        net = trained(nn.Sequential(*first, nn.Conv2d(channels, channels, **settings_)))  # type: ignore[arg-type]
        x = torch.randn(2, channels, 5, 7)
        for activations in ("int6", "int8", "int16"):
            check(bb.deploy.pack(net, input_shape=x.shape[1:], activations=activations), x, engine)  # type: ignore[arg-type]
    net = trained(nn.Sequential(*first, nn.Conv1d(channels, 7, 3, 2, padding=2)))
    x = torch.randn(2, channels, 9)
    check(bb.deploy.pack(net, input_shape=x.shape[1:]), x, engine)


def test_groups_that_are_not_depthwise(engine: str) -> None:
    x = torch.randn(2, 6, 5, 5)
    for exclude in ((), "0"):
        layers = (nn.Conv2d(6, 9, 3, groups=3, padding=1), nn.Conv2d(9, 4, 1))
        net = trained(nn.Sequential(*layers), exclude=exclude)
        check(bb.deploy.pack(net, input_shape=(6, 5, 5)), x, engine)


def test_sums_that_are_long(engine: str) -> None:
    """Beyond every intermediate width: 8 and 16 bits, the blocks of the cache, and float32's exact integers."""
    x = torch.cat([torch.ones(1, 9001), -torch.ones(1, 9001), torch.randn(1, 9001)])
    for init in (1.0, -1.0):
        net = trained(nn.Sequential(nn.Linear(9001, 3, bias=False)))
        net[0].natural.data.fill_(init)  # type: ignore[index, union-attr, operator]
        for activations in ("int6", "int8", "int16"):
            raw = bb.deploy.pack(net, activations=activations, calibration=x)  # type: ignore[arg-type]
            check(raw, x, engine)
        signed = nn.Sequential(Sign(), net)
        check(bb.deploy.pack(signed), x, engine)


def test_extreme_inputs(engine: str) -> None:
    """Zeros, one sign only, tiny and huge values; sums that overflow float32 stay defined."""
    net = mlp()
    rows = [torch.zeros(20), torch.ones(20), -torch.ones(20), torch.full((20,), 1e-38), torch.randn(20) * 3e38]
    x = torch.stack(rows).clamp(-3.4e38, 3.4e38)
    for activations in ("int6", "int8", "int16"):
        check(bb.deploy.pack(net, activations=activations), x, engine)  # type: ignore[arg-type]


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[nn.Module, torch.Tensor, str]:
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    channels, outputs = (groups * draw(st.integers(1, 40)) for _ in range(2))
    kernel = (draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = (draw(st.integers(0, 3)), draw(st.integers(0, 3)))
    stride = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    room = [max(1, d * (k - 1) + 1 - 2 * p) for d, k, p in zip(dilation, kernel, padding, strict=True)]
    size = [r + draw(st.integers(0, 5)) for r in room]
    kind = draw(st.sampled_from(["int8", "int16", "sign", "real"]))
    torch.manual_seed(draw(st.integers(0, 1000)))
    conv = nn.Conv2d(channels, outputs, kernel, stride, padding, dilation, groups)
    layers = [*([Sign()] if kind == "sign" else []), conv, nn.ReLU(), nn.Flatten(), nn.LazyLinear(2)]
    net = nn.Sequential(*layers)
    x = torch.randn(draw(st.integers(1, 3)), channels, *size)
    net(x)
    return trained(net, exclude="0" if kind == "real" else ()), x, kind


@settings(max_examples=40)
@given(convolutions())
def test_random_convolutions(case: tuple[nn.Module, torch.Tensor, str]) -> None:
    net, x, kind = case
    raw = bb.deploy.pack(
        net, input_shape=x.shape[1:], num_samples=1, activations="int16" if kind == "int16" else "int8"
    )
    for name in ENGINES:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BAYESBINN_ISA", name)
            check(raw, x, name, threads=2)

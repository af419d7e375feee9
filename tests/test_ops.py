"""The operators of training: one result on every path, the right chances, and what torch asks of an operator."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bayesbinn import BayesBiNN, BinaryLinear, _native, _ops, _philox, bernoulli

PATHS = [*_native.instruction_sets(), "numpy"]  # "numpy" stands for no compiled library: plain torch
EDGES = [math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-40, 15.9, 16.1, -1e30]
MASK = 2**32 - 1


def on(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BAYESBINN_ISA", path)


def bits(x: Tensor) -> Tensor:
    return x.detach().contiguous().view(torch.int16 if x.element_size() == 2 else torch.int32)


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Philox4x32-7 as its paper has it, in Python's integers."""
    (a, b, c, d), (k0, k1) = counter, key
    for _ in range(7):
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (q >> 32) ^ b ^ k0, q & MASK, (p >> 32) ^ d ^ k1, p & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return a, b, c, d


def test_words_are_philox() -> None:
    # the known answers that the authors of Philox publish with their code
    zeros, ones = (0, 0, 0, 0), (MASK, MASK, MASK, MASK)
    assert philox(zeros, (0, 0)) == (0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48)
    assert philox(ones, (MASK, MASK)) == (0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662)
    for seed in (0, 1, 2**40 + 12345, 2**63 - 1):
        for stream, first in ((0, 0), (1, 4000), (0, 2**36 - 4)):
            found = _philox.words(torch.tensor(seed), stream, 11, first).tolist()
            c = first // 4
            blocks = (philox(((c + i) & MASK, (c + i) >> 32, stream, 0), (seed & MASK, seed >> 32)) for i in range(3))
            assert found == [word for block in blocks for word in block][:11]


def test_chances_are_exact_to_the_last_bits() -> None:
    natural = torch.cat([torch.linspace(0, 17, 20_001), torch.tensor([1e-30, 1e-6])])
    expected = torch.sigmoid(-2 * natural.double()) * 2**31
    for signed in (natural, -natural):
        found = _philox.threshold(signed)
        assert (found <= expected * (1 + 1e-6)).all()
        assert (found >= expected * (1 - 1e-6) - 1).all()
    assert _philox.threshold(torch.zeros(1)).item() == 2**30  # exactly one half
    assert (_philox.threshold(natural).double().diff()[:20_000] <= 0).all()


def test_a_certain_weight_cannot_flip() -> None:
    edges = torch.tensor([16.0, 40.0, 1e30, math.inf, -16.0, -math.inf, math.nan])
    assert (_philox.threshold(edges) == 0).all()  # no random number is below 0
    assert bernoulli.sample(edges)[:6].tolist() == [1, 1, 1, 1, -1, -1]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_draws_agree_on_every_path(path: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    natural = torch.cat([torch.tensor(EDGES), 3 * torch.randn(100_000)]).to(dtype)
    seed = _ops.new_seed(None, natural.device)
    for part in (natural, natural[:1], natural[:0], natural[5:70], natural[:66_000].view(60, 1100).T, natural[::3]):
        expected = _philox.draw(part, seed, torch.float32)
        assert ((expected == 1) | (expected == -1)).all()
        on(path, monkeypatch)
        for out in (torch.float32, torch.bfloat16, torch.float64):
            found = _ops.draw(part, seed, out)
            assert (found.dtype, found.shape) == (out, part.shape)
            assert torch.equal(found.float(), expected)


@pytest.mark.parametrize("path", PATHS)
def test_threads_do_not_change_a_draw(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on(path, monkeypatch)
    natural = torch.randn(200_001)
    seed = torch.tensor(2**62 + 5)
    one = _ops.draw(natural, seed, torch.float32)
    try:
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert torch.equal(one, _ops.draw(natural, seed, torch.float32))
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("path", PATHS)
def test_frequencies(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on(path, monkeypatch)
    natural = torch.tensor([-3.0, -1.0, -0.1, 0.0, 0.4, 2.0]).repeat(200_000, 1)
    w = bernoulli.sample(natural).double()
    mean = torch.tanh(natural[0].double())
    deviation = (w.mean(0) - mean) / ((1 - mean**2) / len(w)).sqrt()
    assert deviation.abs().max() < 4.5
    products = (w[1:] * w[:-1]).mean(0) - mean**2  # neighbours are independent
    assert (products.abs() < 4.5 / math.sqrt(len(w))).all()


def learned(dtype: torch.dtype, momentum: bool, prior: str, form: str, steps: int) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    count = 20_003
    natural, state = torch.randn(count).to(dtype), torch.zeros(count) if momentum else None
    if form != "tensor":  # where a NaN would spread to all
        natural[: len(EDGES)] = torch.tensor(EDGES).to(dtype)
    origin = {"none": 0.0, "number": 0.3, "tensor": torch.randn(count).to(dtype)}[prior]
    second = torch.zeros(count) if form == "weight" else None
    square = torch.zeros((), dtype=torch.float64)
    for t in range(1, steps + 1):
        grad = torch.randn(count).to(dtype) / 30
        options: dict[str, Any] = {"lr": 0.013, "ratio": 33 / 0.7}
        if momentum:
            options |= {"momentum": state, "beta": 0.9, "correction": 1 - 0.9**t}
        if form == "weight":
            options |= {"second": second, "beta2": 0.99, "correction2": 1 - 0.99**t, "eps": 1e-8}
        if form == "tensor":
            options |= {"rate": (0.1 / (square.sqrt() + 1e-8)).clamp(max=1), "square": square}
        _ops.learn_(natural, grad, origin, **options)
    return tuple(x for x in (natural, state, second, square) if x is not None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("momentum", [False, True])
@pytest.mark.parametrize("prior", ["none", "number", "tensor"])
@pytest.mark.parametrize("form", ["plain", "tensor", "weight"])
def test_steps_agree_on_every_path(
    dtype: torch.dtype, momentum: bool, prior: str, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    on("numpy", monkeypatch)
    expected = learned(dtype, momentum, prior, form, steps=40)
    for path in PATHS[:-1]:
        on(path, monkeypatch)
        found = learned(dtype, momentum, prior, form, steps=40)
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a.isnan(), b.isnan())
            assert torch.equal(a.nan_to_num(9), b.nan_to_num(9))
            assert torch.equal(a.signbit() & (a == 0), b.signbit() & (b == 0))


@pytest.mark.parametrize("path", PATHS)
def test_threads_do_not_change_a_step(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on(path, monkeypatch)

    def step() -> tuple[Tensor, Tensor]:
        torch.manual_seed(2)
        natural, square = torch.randn(200_001), torch.zeros((), dtype=torch.float64)
        _ops.learn_(natural, torch.randn(200_001), 0.1, lr=0.1, ratio=3.0, square=square)
        return natural, square

    one = step()
    try:
        for threads in (2, 3):
            torch.set_num_threads(threads)
            assert all(torch.equal(a, b) for a, b in zip(one, step(), strict=True))
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (15,), (1024,), (1025,), (3, 700)])
def test_mean_square(shape: tuple[int, ...]) -> None:
    g = torch.randn(shape)
    expected = g.double().square().mean() if g.numel() else torch.zeros((), dtype=torch.float64)
    torch.testing.assert_close(_ops.mean_square(g), expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("path", PATHS)
def test_a_whole_training_is_the_same_on_every_path(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> Tensor:
        torch.manual_seed(3)
        net = nn.Sequential(BinaryLinear(20, 30), nn.Tanh(), BinaryLinear(30, 1))
        optimizer = BayesBiNN([net[0].natural, net[2].natural], 0.1, num_data=50)
        x = torch.randn(16, 20)
        for _ in range(100):
            net(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        return torch.cat([net[0].natural.flatten(), net[2].natural.flatten()]).detach()

    on("numpy", monkeypatch)
    expected = train()
    on(path, monkeypatch)
    assert torch.equal(train(), expected)


@pytest.mark.parametrize("layout", ["transposed", "expanded gradient", "float64", "float16"])
def test_what_the_kernel_cannot_take_goes_through_torch(layout: str) -> None:
    natural = torch.randn(40, 30)
    grad = torch.randn(40, 30)
    if layout == "transposed":
        natural = natural.T.contiguous().T
    elif layout == "expanded gradient":
        grad = torch.randn(40, 1).expand(40, 30)
    else:
        natural, grad = (t.to(getattr(torch, layout)) for t in (natural, grad))
    expected = natural - 0.1 * (5 * grad + (natural - 0.2))
    _ops.learn_(natural, grad, 0.2, lr=0.1, ratio=5.0)
    tolerance = 4e-3 if layout == "float16" else 1e-5
    torch.testing.assert_close(natural, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("path", PATHS)
def test_bfloat16_moves_by_less_than_its_resolution_on_average(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on(path, monkeypatch)
    natural = torch.ones(100_000, dtype=torch.bfloat16)
    grad = torch.full_like(natural, -(2.0**-10))  # the next value above 1 is 1 + 2^-7
    for _ in range(10):
        _ops.learn_(natural, grad, natural.clone(), lr=1.0, ratio=1.0)
    assert natural.double().mean().item() == pytest.approx(1 + 10 * 2.0**-10, abs=5 * 2.0**-7 / math.sqrt(1e5))
    natural = torch.full((1000,), -3.0, dtype=torch.bfloat16)
    _ops.learn_(natural, torch.zeros_like(natural), 0.0, lr=0.0, ratio=1.0)
    assert (natural == -3).all()  # what is representable is not moved


def test_a_bfloat16_channels_last_posterior_learns() -> None:
    """Its strides are not those of its numbers in order."""
    natural = nn.Parameter(torch.ones(4, 3, 2, 2, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last))
    natural.grad = torch.arange(48.0).reshape(4, 3, 2, 2).to(natural)
    BayesBiNN([natural], 0.5, num_data=1).step()
    assert torch.equal(natural.float(), 0.5 - 0.5 * torch.arange(48.0).reshape(4, 3, 2, 2))


def test_a_float16_posterior_is_refused() -> None:
    natural = nn.Parameter(torch.ones(2, dtype=torch.float16))
    natural.grad = torch.ones_like(natural)
    with pytest.raises(TypeError, match="λ in float16 would not move by small steps: keep it in float32 or bfloat16"):
        BayesBiNN([natural], 0.1, num_data=1).step()


@pytest.mark.parametrize("seed", [torch.tensor(1.0), torch.tensor([1, 2]), torch.tensor(1, dtype=torch.int32)])
def test_a_seed_of_another_kind_is_refused(seed: Tensor) -> None:
    if PATHS == ["numpy"]:
        pytest.skip("no library to protect")
    with pytest.raises(ValueError, match="seed must be one int64 on the CPU"):
        _ops.draw(torch.zeros(3), seed, torch.float32)


@pytest.mark.parametrize("path", PATHS)
def test_opcheck(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    on(path, monkeypatch)
    for dtype in (torch.float32, torch.bfloat16):
        natural, seed = torch.randn(7, 3).to(dtype), torch.tensor(5)
        torch.library.opcheck(torch.ops.bayesbinn.draw.default, (natural, seed, torch.float32))
        grad, prior = torch.randn(2, 7, 3).to(dtype)
        rate, square = torch.tensor(0.1, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        for momentum, second, origin, own in (
            (None, None, None, None),
            (torch.zeros(7, 3), None, prior, square),
            (torch.zeros(7, 3), torch.zeros(7, 3), None, None),
        ):
            state = (natural.clone(), grad, momentum, second, origin, 0.3, 0.1, None if own is None else rate)
            arguments = (*state, 50.0, 0.9, 0.1, 0.99, 0.01, 1e-8, own, seed)
            torch.library.opcheck(torch.ops.bayesbinn.learn_.default, arguments)


def test_vmap_draws_for_each_seed() -> None:
    natural, seeds = torch.randn(4, 50), torch.tensor([1, 2, 3, 4])
    expected = torch.stack([_ops.draw(n, s, torch.float32) for n, s in zip(natural, seeds, strict=True)])

    def draw(n: Tensor, s: Tensor) -> Tensor:
        return _ops.draw(n, s, torch.float32)

    assert torch.equal(torch.vmap(draw)(natural, seeds), expected)
    assert torch.equal(torch.vmap(draw, (None, 0))(natural[0], seeds)[0], expected[0])
    assert torch.equal(torch.vmap(draw, (1, None))(natural.T, seeds[0])[0], expected[0])


def test_seeds_follow_the_generator() -> None:
    natural = torch.zeros(1000)
    first, again, other = (bernoulli.sample(natural, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(1)
    ours, next_one = bernoulli.sample(natural), bernoulli.sample(natural)
    assert torch.equal(ours, first)
    assert not torch.equal(ours, next_one)


def test_a_bfloat16_layer_computes_in_the_type_of_its_input() -> None:
    layer = BinaryLinear(8, 3, bias=False, scale="none")
    layer.natural = nn.Parameter(layer.natural.detach().to(torch.bfloat16))
    x = torch.randn(5, 8)
    torch.manual_seed(4)
    y = layer(x)
    y.square().sum().backward()
    assert (y.dtype, layer.natural.grad.dtype) == (torch.float32, torch.bfloat16)  # type: ignore[union-attr]
    torch.manual_seed(4)
    assert torch.equal(y, x @ bernoulli.sample(layer.natural).float().T)
    assert layer.eval()(x).dtype == torch.float32


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16])
def test_the_default_type_of_torch_changes_no_step(
    path: str, default: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What C writes to must be float32, whatever the user's program has chosen."""
    on(path, monkeypatch)

    def step() -> tuple[Tensor, Tensor]:
        torch.manual_seed(2)
        natural, grad = torch.randn(5003, dtype=torch.float32), torch.randn(5003, dtype=torch.float32)
        square = torch.zeros((), dtype=torch.float64)
        _ops.learn_(natural, grad, 0.1, lr=0.1, ratio=3.0, square=square)
        return natural, square

    expected = step()
    torch.set_default_dtype(default)
    try:
        found = step()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("seed", [None, torch.tensor(1, dtype=torch.int8), torch.tensor([1, 2])])
def test_a_rounded_step_needs_a_seed(seed: Tensor | None) -> None:
    natural, grad = torch.ones(2, 5, dtype=torch.bfloat16)
    numbers = (50.0, 0.0, 1.0, 0.0, 1.0, 0.0)
    with pytest.raises(ValueError, match="seed"):
        torch.ops.bayesbinn.learn_.default(natural, grad, None, None, None, 0.0, 0.1, None, *numbers, None, seed)

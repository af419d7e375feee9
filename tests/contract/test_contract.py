"""What every (binarizer, optimizer) pair promises: it behaves as any torch layer and optimizer do."""

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.checkpoint import checkpoint

from bayesbinn import binarize_, split_parameters
from bayesbinn.nn import binary_layers
from bayesbinn.optim import FORMS
from tests.contract.pairs import PAIRS

pytestmark = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


class Net(nn.Module):
    """Convolutions and linear layers, some of them real, batch norm, and an output scale."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), nn.BatchNorm2d(4), nn.ReLU())
        self.hidden = nn.Linear(4 * 5 * 5, 8, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.out = nn.Linear(8, 3)
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        h = self.body(self.stem(x)).flatten(1)
        return self.scale * self.out(torch.tanh(self.norm(self.hidden(h))))


class Method:
    """A network of the pair with its two optimizers, and the loop that everybody already has."""

    def __init__(self, pair, dtype=torch.float32, seed=0):
        torch.manual_seed(seed)
        self.net = binarize_(Net(), binarizer=pair.make_binarizer(), exclude="stem", magnitude=1.0).to(dtype)
        self.binary, self.real = split_parameters(self.net)
        self.optimizers = [pair.make_optimizer(self.binary), torch.optim.SGD(self.real, 0.01, momentum=0.9)]

    def loss(self, t):
        x, y = batch(t, self.net.scale.dtype)
        return F.cross_entropy(self.net(x), y)

    def step(self):
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()

    def train(self, steps, first=0):
        for t in range(first, first + steps):
            self.loss(t).backward()
            self.step()
        return self

    def state_dict(self):
        return {"net": self.net.state_dict(), "optimizers": [o.state_dict() for o in self.optimizers]}


def batch(t, dtype=torch.float32):
    generator = torch.Generator().manual_seed(t)
    x = torch.randn(6, 1, 5, 5, generator=generator).to(dtype)
    return x, torch.randint(3, (6,), generator=generator)


def assert_equal(found, expected):
    """Nested lists and dicts of tensors, numbers and words, equal to the bit."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert_equal(found[name], value)
    elif isinstance(expected, list | tuple):
        for a, b in zip(found, expected, strict=True):
            assert_equal(a, b)
    elif isinstance(expected, torch.Tensor | float):
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    else:
        assert found == expected


def grads(net):
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def values(params):
    return [p.detach().clone() for p in params]


def test_training_moves_every_lambda_and_stays_finite(pair):
    method = Method(pair)
    before = values(method.binary)
    method.train(5)
    for old, new in zip(before, method.binary, strict=True):
        assert not torch.equal(old, new)
        assert new.isfinite().all()
        assert new.dtype == torch.float32


def test_resume_is_bit_equal(pair):
    method = Method(pair).train(4)
    buffer = io.BytesIO()
    torch.save(method.state_dict(), buffer)
    rng = torch.get_rng_state()
    method.train(4, first=4)

    resumed = Method(pair, seed=99)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    resumed.net.load_state_dict(state["net"])
    for optimizer, saved in zip(resumed.optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    torch.set_rng_state(rng)
    resumed.train(4, first=4)
    assert_equal(resumed.state_dict(), method.state_dict())


def test_the_seed_decides_everything(pair):
    assert_equal(Method(pair).train(3).state_dict(), Method(pair).train(3).state_dict())


def test_gradients_accumulate(pair):
    """Two half losses with the same draw make one whole; two different draws make their sum."""
    whole, halves, apart = Method(pair), Method(pair), [Method(pair), Method(pair)]
    torch.manual_seed(1)
    whole.loss(0).backward()
    for _ in range(2):
        torch.manual_seed(1)
        (halves.loss(0) / 2).backward()
    torch.testing.assert_close(grads(halves.net), grads(whole.net), rtol=1e-6, atol=1e-7)
    for t, method in enumerate([halves, *apart]):
        method.net.zero_grad()
        torch.manual_seed(t)
        if method is not halves:
            method.loss(t).backward()
    for t in (1, 2):
        torch.manual_seed(t)
        halves.loss(t).backward()
    first, second = (grads(method.net) for method in apart)
    torch.testing.assert_close(grads(halves.net), {n: first[n] + second[n] for n in first}, rtol=1e-5, atol=1e-6)


def test_frozen_lambda_stays_and_the_others_learn(pair):
    method = Method(pair)
    method.net.hidden.natural.requires_grad_(False)
    frozen, learning = method.net.hidden.natural.clone(), method.net.out.natural.detach().clone()
    method.train(3)
    assert method.net.hidden.natural.grad is None
    assert_equal(method.net.hidden.natural, frozen)
    assert not torch.equal(method.net.out.natural, learning)


def test_none_gradients_are_skipped(pair):
    method = Method(pair)
    before = values(method.binary)
    method.step()  # nothing has a gradient yet
    assert_equal(values(method.binary), before)
    method.net.hidden(torch.randn(2, 100)).sum().backward()  # the other layers take no part
    method.step()
    after = dict(method.net.named_parameters())
    assert not torch.equal(after["hidden.natural"], before[1])
    assert_equal([after["body.0.natural"], after["out.natural"]], [nn.Parameter(before[0]), nn.Parameter(before[2])])


def test_schedulers_set_the_step_size(pair):
    scheduled, by_hand = Method(pair), Method(pair)
    factors = [1.0, 0.5, 0.1, 0.0]
    scheduler = LambdaLR(scheduled.optimizers[0], lambda t: factors[min(t, 3)])
    lr = by_hand.optimizers[0].param_groups[0]["lr"]
    for t, factor in enumerate(factors):
        before = values(scheduled.binary)
        torch.manual_seed(t)
        scheduled.train(1, first=t)
        scheduler.step()
        by_hand.optimizers[0].param_groups[0]["lr"] = lr * factor
        torch.manual_seed(t)
        by_hand.train(1, first=t)
        assert_equal(values(scheduled.binary), values(by_hand.binary))
        unmoved = all(torch.equal(a, b) for a, b in zip(before, scheduled.binary, strict=True))
        assert unmoved == (factor == 0)


def test_float64(pair):
    single, double = Method(pair), Method(pair, torch.float64)
    double.net.load_state_dict(single.net.state_dict())
    for method in (single, double):
        generator = torch.Generator().manual_seed(3)
        for _ in range(3):  # the optimizer's part: the same steps from the same gradients
            for p in method.binary:
                p.grad = torch.randn(p.shape, generator=generator).to(p.dtype) / 100
            method.step()
    for a, b in zip(single.binary, double.binary, strict=True):
        torch.testing.assert_close(a.detach().double(), b.detach(), rtol=1e-4, atol=1e-5)
    double.loss(0).backward()  # the binarizer's part
    assert {g.dtype for g in grads(double.net).values()} == {torch.float64}
    double.step()
    tensors = [v for o in double.optimizers for s in o.state.values() for v in s.values() if torch.is_tensor(v)]
    assert {t.dtype for t in tensors if t.ndim} <= {torch.float64}


def test_bfloat16_autocast(pair):
    plain, auto = Method(pair), Method(pair)
    torch.manual_seed(1)
    plain.loss(0).backward()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        x, y = batch(0)
        out = auto.net(x)
        loss = F.cross_entropy(out, y)
    assert loss.dtype == torch.float32
    loss.backward()
    for p, q in zip(plain.binary, auto.binary, strict=True):
        assert q.grad.dtype == torch.float32
        assert F.cosine_similarity(p.grad.flatten(), q.grad.flatten(), 0) > 0.98
        torch.testing.assert_close(q.grad.norm(), p.grad.norm(), rtol=0.1, atol=0)
    auto.step()
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in auto.binary)


def test_grad_scaler_gives_the_same_step(pair):
    plain, scaled = Method(pair), Method(pair)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for t in range(3):
        torch.manual_seed(t)
        plain.loss(t).backward()
        plain.step()
        torch.manual_seed(t)
        scaler.scale(scaled.loss(t)).backward()
        for optimizer in scaled.optimizers:
            scaler.step(optimizer)
            optimizer.zero_grad()
        scaler.update()
        assert scaler.get_scale() == 1024.0
    torch.testing.assert_close(values(scaled.binary), values(plain.binary), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(values(scaled.real), values(plain.real), rtol=1e-6, atol=1e-7)


def test_grad_scaler_skips_a_step_with_infinite_gradients(pair):
    method = Method(pair).train(1)
    before = copy.deepcopy(method.state_dict())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    scaler.scale(method.loss(1)).backward()
    method.binary[0].grad.view(-1)[0] = float("inf")
    scaler.step(method.optimizers[0])
    scaler.update()
    assert scaler.get_scale() == 512.0
    assert_equal(values(method.binary), [v for k, v in before["net"].items() if k.endswith("natural")])
    assert_equal(method.optimizers[0].state_dict(), before["optimizers"][0])


# torch's compiler meets this warning of torch's own and swallows it; as an error it would not get that far
compiling = pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")


def compiled_step_equals_eager(pair, **options):
    torch.compiler.reset()
    eager, compiled = Method(pair), Method(pair)
    forward = torch.compile(compiled.net, fullgraph=True, dynamic=False, **options)
    x, y = batch(0)
    torch.manual_seed(1)
    eager.loss(0).backward()
    torch.manual_seed(1)
    F.cross_entropy(forward(x), y).backward()
    torch.testing.assert_close(grads(compiled.net), grads(eager.net), rtol=1e-3, atol=3e-5)
    before = values(compiled.binary)
    compiled.step()
    assert not any(torch.equal(a, b) for a, b in zip(before, compiled.binary, strict=True))
    return compiled, forward


@compiling
def test_compile_of_the_whole_graph(pair):
    if pair.name in {f"bayesbinn-{form}" for form in FORMS}:
        pytest.skip("only the optimizer differs from bayesbinn's")
    compiled_step_equals_eager(pair, backend="aot_eager")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's, of itself, on importing its code generator
def test_compile_with_the_code_generator(pair):
    import torch._inductor.config as inductor

    with inductor.patch(fallback_random=True):  # the generator's own random numbers differ from eager's
        compiled, forward = compiled_step_equals_eager(pair, backend="inductor")
        compiled.net.eval()
        x, _ = batch(1)
        torch.testing.assert_close(forward(x), compiled.net(x), rtol=1e-4, atol=1e-5)


def test_activation_checkpointing_gives_the_same_gradients(pair):
    plain, saving = Method(pair), Method(pair)
    x, y = batch(0)
    torch.manual_seed(1)
    h = plain.net.stem(x)
    F.cross_entropy(plain.net.out(torch.tanh(plain.net.hidden(plain.net.body(h).flatten(1)))), y).backward()
    torch.manual_seed(1)
    h = saving.net.stem(x)
    h = checkpoint(lambda h: torch.tanh(saving.net.hidden(saving.net.body(h).flatten(1))), h, use_reentrant=False)
    F.cross_entropy(saving.net.out(h), y).backward()
    assert_equal(grads(saving.net), grads(plain.net))


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_equal_and_independent(pair, copier):
    method = Method(pair).train(2)
    twin = copier(method)  # network and optimizers together: the copy's optimizers hold the copy's parameters
    assert_equal(twin.state_dict(), method.state_dict())
    before = copy.deepcopy(method.state_dict())
    rng = torch.get_rng_state()
    twin.train(2, first=2)
    assert_equal(method.state_dict(), before)
    assert not torch.equal(twin.binary[0], method.binary[0])
    torch.set_rng_state(rng)
    method.train(2, first=2)
    assert_equal(twin.state_dict(), method.state_dict())


def test_parameter_groups_are_independent(pair):
    """Two groups in one optimizer step as two optimizers do."""
    together, apart = Method(pair), Method(pair)
    first, rest = (lambda ps: ps[:1]), (lambda ps: ps[1:])
    lr = together.optimizers[0].param_groups[0]["lr"]
    together.optimizers[0] = pair.make_optimizer(
        [{"params": first(together.binary), "lr": lr / 4}, {"params": rest(together.binary)}]
    )
    slow = pair.make_optimizer([{"params": first(apart.binary), "lr": lr / 4}])
    apart.optimizers[0:1] = [slow, pair.make_optimizer(rest(apart.binary))]
    for method in (together, apart):
        torch.manual_seed(1)
        method.train(3)
    assert_equal(together.net.state_dict(), apart.net.state_dict())


def test_evaluation_is_deterministic_and_exactly_binary(pair):
    net = Method(pair).train(2).net.eval()
    x, _ = batch(0)
    state = torch.get_rng_state()
    assert_equal(net(x), net(x))
    assert_equal(torch.get_rng_state(), state)
    for _, layer in binary_layers(net):
        assert set(layer.weight.unique().tolist()) <= {-1.0, 1.0}
        assert torch.equal(layer.weight > 0, layer.natural >= 0)

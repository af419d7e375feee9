"""The two operators of training: the draw of ±1 weights and the Bayesian learning rule, `torch.ops.bayesbinn`.

On a CPU with the compiled library each is one pass over memory, as is the draw on CUDA with Triton; everywhere else
plain torch computes the same, bit for bit.  They are registered with torch's light `Library` interface: the wrapper
that `custom_op` puts around them costs several times as much a call.
"""

import functools
import importlib.util
import struct
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import _native, _philox, shards

_library: Any = torch.library.Library("bayesbinn", "DEF")  # type: ignore[no-untyped-call]
_library.define("draw(Tensor natural, Tensor seed, ScalarType dtype) -> Tensor")
_library.define(
    "learn_(Tensor(a!) natural, Tensor grad, Tensor(b!)? momentum, Tensor(c!)? second, Tensor? prior, "
    "float prior_value, float lr, Tensor? rate, float ratio, float beta, float correction, float beta2, "
    "float correction2, float eps, Tensor(d!)? square, Tensor? seed) -> ()"
)

# the structs of csrc/bayesbinn.h
_DRAW = struct.Struct("qPPPii")
_UPDATE = struct.Struct("q7P2i12f")
_BLOCK, _LANES = 1024, 16  # of its sum of squares
_TYPES = {torch.float32: 0, torch.bfloat16: 1}


def new_seed(generator: torch.Generator | None, device: torch.device) -> Tensor:
    """The seed of one draw: a 0-d int64 tensor on `device`, from the generator (None: torch's global one)."""
    return torch.randint(0x7FFFFFFFFFFFFFFF, (), generator=generator, device=device)


def draw(natural: Tensor, seed: Tensor, dtype: torch.dtype) -> Tensor:
    """w = ±1 of `dtype` and the shape of λ, contiguous, with P(w = +1) = σ(2λ); a function of λ and seed alone.

    Of a λ that is split over processes every process draws the whole.
    """
    weight: Tensor = torch.ops.bayesbinn.draw.default(shards.whole(natural), seed, dtype)
    return weight


def learn_(
    natural: Tensor,
    grad: Tensor,
    prior: Tensor | float,
    *,
    lr: float,
    ratio: float,
    momentum: Tensor | None = None,
    second: Tensor | None = None,
    rate: Tensor | None = None,
    beta: float = 0.0,
    correction: float = 1.0,
    beta2: float = 0.0,
    correction2: float = 1.0,
    eps: float = 0.0,
    square: Tensor | None = None,
) -> None:
    """One step of the Bayesian learning rule on λ, in place; see `optim.BayesBiNN`.

        g = (λ − λ₀) + ratio · grad        m ← beta m + (1 − beta) g        λ ← λ − rate · m / correction

    A bfloat16 λ is computed in float32 and rounded at random to either neighbour, so that small steps count on average.

    Args:
        prior: λ₀, of the shape of λ or one number.
        lr: the rate, where no other is given.
        ratio: num_data / kl_weight.
        momentum: m; None: g itself.
        second: v of the shape of λ, v ← beta2 v + (1 − beta2) g², for a rate min(1, lr / (√(v / correction2) + eps)).
        rate: 0-d or of the shape of λ, in place of lr.
        square: 0-d, receives the mean of g².

    m and v are float32 where λ is bfloat16.
    """
    tensor, value = (prior, 0.0) if isinstance(prior, Tensor) else (None, prior)
    seed = new_seed(None, natural.device) if natural.dtype == torch.bfloat16 else None
    numbers = (float(ratio), beta, correction, beta2, correction2, eps)
    arguments = (natural, grad, momentum, second, tensor, value, lr, rate, *numbers, square, seed)
    if type(natural) in (Tensor, torch.nn.Parameter) and type(grad) is Tensor:
        torch.ops.bayesbinn.learn_.default(*arguments)
    else:  # a DTensor, say, which knows how to do each of torch's own operations
        _learn_plain(*arguments)


def mean_square(g: Tensor) -> Tensor:
    """The mean of g² over all processes that g is split over: 0-d, float64.

    On a CPU it is added up in the order of csrc/training_body.h, so that both agree bit for bit.

    >>> mean_square(torch.tensor([3.0, 4.0]))
    tensor(12.5000, dtype=torch.float64)
    """
    own = shards.local(g)
    if own.device.type != "cpu" or own.dtype != torch.float32:
        total = own.square().sum(dtype=torch.float64)
    else:
        flat = own.reshape(-1)
        flat = torch.nn.functional.pad(flat, (0, -len(flat) % _BLOCK)).view(-1, _BLOCK // _LANES, _LANES)
        lanes = torch.zeros(len(flat), _LANES, dtype=torch.float32)
        for row in (flat * flat).unbind(1):
            lanes += row
        total = _in_turn(lanes[:, 0] if not len(flat) else functools.reduce(torch.add, lanes.unbind(1)))
    return shards.total(total, like=g) / max(g.numel(), 1)


def _in_turn(sums: Tensor) -> Tensor:
    """The sum, one after the other, in float64."""
    return torch.cat([sums.new_zeros(1), sums]).cumsum(0, dtype=torch.float64)[-1]


def _draw_cpu(natural: Tensor, seed: Tensor, dtype: torch.dtype) -> Tensor:
    kernel = _native.kernel("bbn_draw")
    if kernel is None:
        return _philox.draw(natural, seed, dtype)
    _check_seed(seed)
    function, isa = kernel
    source = (natural if natural.dtype in _TYPES else natural.float()).contiguous()
    weight = torch.empty(natural.shape, dtype=dtype if dtype in _TYPES else torch.float32)
    types = _TYPES[source.dtype], _TYPES[weight.dtype]
    job = _DRAW.pack(source.numel(), seed.data_ptr(), source.data_ptr(), weight.data_ptr(), *types)
    function(job, isa, torch.get_num_threads())
    return weight.to(dtype)


def _check_seed(seed: Tensor | None) -> None:
    """C reads the eight bytes behind its address.

    Raises:
        ValueError: if it is not one int64 on the CPU.
    """
    if seed is None or seed.dtype != torch.int64 or seed.numel() != 1 or seed.device.type != "cpu":
        found = "none" if seed is None else f"{seed.numel()} of {seed.dtype} on {seed.device}"
        raise ValueError(f"seed must be one int64 on the CPU, got {found}")


def _draw_cuda(natural: Tensor, seed: Tensor, dtype: torch.dtype) -> Tensor:
    if not _has_triton():
        return _philox.draw(natural, seed, dtype)
    from . import _triton

    return _triton.draw(natural, seed, dtype)


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


class _Step(NamedTuple):
    """The arguments of `learn_` as they are registered."""

    natural: Tensor
    grad: Tensor
    momentum: Tensor | None
    second: Tensor | None
    prior: Tensor | None
    prior_value: float
    lr: float
    rate: Tensor | None
    ratio: float
    beta: float
    correction: float
    beta2: float
    correction2: float
    eps: float
    square: Tensor | None
    seed: Tensor | None

    def fits(self, state: torch.dtype, *types: torch.dtype) -> bool:
        """Whether a kernel may have these tensors: of one shape, device and type (of `types`), contiguous, m and v of
        type `state`."""
        alike = [t for t in (self.natural, self.grad, self.prior) if t is not None]
        states = [t for t in (self.momentum, self.second) if t is not None]
        return (
            self.natural.dtype in types
            and all(t.dtype == self.natural.dtype for t in alike)
            and all(t.dtype == state for t in states)
            and all(
                t.shape == self.natural.shape and t.device == self.natural.device and t.is_contiguous()
                for t in (*alike, *states)
            )
            and (self.rate is None or self.rate.ndim == 0)
            and (self.second is None or self.square is None)
        )


def _learn_cpu(*arguments: Any) -> None:
    s = _Step(*arguments)
    kernel = _native.kernel("bbn_update")
    if kernel is None or not s.fits(torch.float32, *_TYPES):
        _learn_plain(*arguments)
        return
    if s.natural.dtype == torch.bfloat16:
        _check_seed(s.seed)
    if s.square is not None and (s.square.numel() != 1 or not s.square.is_floating_point()):
        raise ValueError(f"square must be one floating-point number, got {s.square.numel()} of {s.square.dtype}")
    function, isa = kernel
    count, step = s.natural.numel(), s.lr if s.rate is None else float(s.rate)
    collected = s.momentum is None and s.second is None and s.square is None
    squares = None if s.square is None else torch.empty(-(-count // _BLOCK), dtype=torch.float32)
    numbers = (
        1 - step,
        step * -s.ratio if collected else (1.0 if s.second is not None else step) * (-1 / s.correction),
        step,
        s.prior_value * step if collected else s.prior_value,
        *(s.ratio, s.beta, 1 - s.beta, s.beta2, 1 - s.beta2, 1 / s.correction2, s.lr, s.eps),
    )
    tensors = (s.seed, s.natural, s.grad, s.prior, s.momentum, s.second, squares)
    addresses = [0 if t is None else t.data_ptr() for t in tensors]
    job = _UPDATE.pack(count, *addresses, _TYPES[s.natural.dtype], collected, *numbers)
    function(job, isa, torch.get_num_threads())
    if s.square is not None and squares is not None:
        s.square.copy_(_in_turn(squares) / max(count, 1))


def _learn_cuda(*arguments: Any) -> None:
    if not _has_triton() or not _Step(*arguments).fits(torch.float32, torch.float32):
        _learn_plain(*arguments)
        return
    from . import _triton

    _triton.learn_(*arguments[:-1])


def _learn_plain(*arguments: Any) -> None:
    s = _Step(*arguments)
    wide = s.natural.float() if s.natural.dtype == torch.bfloat16 else s.natural
    grad = s.grad.to(wide.dtype)
    origin = s.prior_value if s.prior is None else s.prior.to(wide.dtype)
    rate: Any = s.lr if s.rate is None else s.rate
    # no `alpha`: torch multiplies and adds with one rounding or two, as the machine has it
    if s.momentum is None and s.second is None and s.square is None:  # the terms in λ collected
        wide.mul_(1 - rate).add_(grad * (rate * -s.ratio))
        if s.prior is not None or s.prior_value:
            wide.add_(origin * rate)
    else:
        g = (wide - origin).add_(grad * s.ratio)
        if s.square is not None:
            s.square.copy_(mean_square(g))
        along = g if s.momentum is None else s.momentum.mul_(s.beta).add_(g * (1 - s.beta))
        if s.second is not None:
            s.second.mul_(s.beta2).add_((g * g).mul_(1 - s.beta2))
            most = torch.tensor(s.lr, dtype=wide.dtype, device=wide.device)  # a number over a tensor rounds twice
            root = (
                (s.second * (1 / s.correction2)).double().sqrt_().to(wide.dtype)
            )  # in float32 torch may round it wrong
            sizes = most / root.add_(s.eps)
            along, rate = along * torch.where(sizes < 1, sizes, 1.0), 1.0
        wide.add_(along * (rate * (-1 / s.correction)))
    if wide is not s.natural:
        if s.seed is None:
            raise ValueError("a bfloat16 λ needs a seed, by which it is rounded: got none")
        _philox.round_(s.natural, wide, s.seed)


_library.impl("draw", _draw_cpu, "CPU")
_library.impl("draw", _draw_cuda, "CUDA")
_library.impl("draw", _philox.draw, "CompositeExplicitAutograd")
_library.impl("learn_", _learn_cpu, "CPU")
_library.impl("learn_", _learn_cuda, "CUDA")
_library.impl("learn_", _learn_plain, "CompositeExplicitAutograd")


def _draw_fake(natural: Tensor, seed: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty(natural.shape, dtype=dtype, device=natural.device)


def _draw_batched(info: Any, dims: Any, natural: Tensor, seed: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
    naturals = [natural] * info.batch_size if dims[0] is None else natural.unbind(dims[0])
    seeds = [seed] * info.batch_size if dims[1] is None else seed.unbind(dims[1])
    return torch.stack([draw(n, s, dtype) for n, s in zip(naturals, seeds, strict=True)]), 0


torch.library.register_fake("bayesbinn::draw", _draw_fake, lib=_library)
torch.library.register_fake("bayesbinn::learn_", lambda *arguments: None, lib=_library)
torch.library.register_vmap("bayesbinn::draw", _draw_batched, lib=_library)

"""The two operators of training: the draw of ±1 weights and the Bayesian learning rule, `torch.ops.bayesbinn`.

On a CPU with the compiled library each is one pass over memory, as is the draw on CUDA with Triton; everywhere else
plain torch computes the same, bit for bit.  They are registered with torch's light `Library` interface: the wrapper
that `custom_op` puts around them costs several times as much a call.
"""

import functools
import importlib.util
import struct
from typing import Any

import torch
from torch import Tensor

from . import _native, _philox

_library: Any = torch.library.Library("bayesbinn", "DEF")  # type: ignore[no-untyped-call]
_library.define("draw(Tensor natural, Tensor seed, ScalarType dtype) -> Tensor")
_library.define(
    "learn_(Tensor(a!) natural, Tensor grad, Tensor(b!)? momentum, Tensor? prior, float prior_value, float lr, "
    "float num_data, float kl_weight, float beta, float correction, Tensor? seed) -> ()"
)

# the structs of csrc/bayesbinn.h
_DRAW = struct.Struct("qPPPii")
_UPDATE = struct.Struct("qPPPPPi8f")
_TYPES = {torch.float32: 0, torch.bfloat16: 1}


def new_seed(generator: torch.Generator | None, device: torch.device) -> Tensor:
    """The seed of one draw: a 0-d int64 tensor on `device`, from the generator (None: torch's global one)."""
    return torch.randint(0x7FFFFFFFFFFFFFFF, (), generator=generator, device=device)


def draw(natural: Tensor, seed: Tensor, dtype: torch.dtype) -> Tensor:
    """w = ±1 of `dtype` and the shape of λ, contiguous, with P(w = +1) = σ(2λ); a function of λ and seed alone."""
    weight: Tensor = torch.ops.bayesbinn.draw.default(natural, seed, dtype)
    return weight


def learn_(
    natural: Tensor,
    grad: Tensor,
    momentum: Tensor | None,
    prior: Tensor | float,
    *,
    lr: float,
    num_data: float,
    kl_weight: float,
    beta: float = 0.0,
    correction: float = 1.0,
) -> None:
    """One step of the Bayesian learning rule on λ, in place; see `optim.BayesBiNN`.

    A bfloat16 λ is computed in float32 and rounded at random to either neighbour, so that small steps count on average.

    Args:
        momentum: its state, float32 for a bfloat16 λ, or None for the rule without.
        prior: λ₀, of the shape of λ or one number.
        correction: 1 − βᵗ.
    """
    tensor, value = (prior, 0.0) if isinstance(prior, Tensor) else (None, prior)
    seed = new_seed(None, natural.device) if natural.dtype == torch.bfloat16 else None
    arguments = (natural, grad, momentum, tensor, value, lr, float(num_data), kl_weight, beta, correction, seed)
    if type(natural) in (Tensor, torch.nn.Parameter) and type(grad) is Tensor:
        torch.ops.bayesbinn.learn_.default(*arguments)
    else:  # a DTensor, say, which knows how to do each of torch's own operations
        _learn_plain(*arguments)


def _draw_cpu(natural: Tensor, seed: Tensor, dtype: torch.dtype) -> Tensor:
    kernel = _native.kernel("bbn_draw")
    if kernel is None:
        return _philox.draw(natural, seed, dtype)
    function, isa = kernel
    source = (natural if natural.dtype in _TYPES else natural.float()).contiguous()
    weight = torch.empty(natural.shape, dtype=dtype if dtype in _TYPES else torch.float32)
    types = _TYPES[source.dtype], _TYPES[weight.dtype]
    job = _DRAW.pack(source.numel(), seed.data_ptr(), source.data_ptr(), weight.data_ptr(), *types)
    function(job, isa, torch.get_num_threads())
    return weight.to(dtype)


def _draw_cuda(natural: Tensor, seed: Tensor, dtype: torch.dtype) -> Tensor:
    if not _has_triton():
        return _philox.draw(natural, seed, dtype)
    from . import _triton

    return _triton.draw(natural, seed, dtype)


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _learn_cpu(natural: Tensor, grad: Tensor, momentum: Tensor | None, prior: Tensor | None, *more: Any) -> None:
    value, lr, n, k, beta, correction, seed = more
    kernel = _native.kernel("bbn_update")
    tensors = [t for t in (natural, grad, prior) if t is not None]
    if (
        kernel is None
        or natural.dtype not in _TYPES
        or any(t.dtype != natural.dtype or t.shape != natural.shape or not t.is_contiguous() for t in tensors)
        or (momentum is not None and not (momentum.dtype == torch.float32 and momentum.is_contiguous()))
    ):
        _learn_plain(natural, grad, momentum, prior, *more)
        return
    function, isa = kernel
    addresses = [0 if t is None else t.data_ptr() for t in (seed, natural, grad, prior, momentum)]
    if momentum is None:
        rates = (1 - lr * k, -lr * n, lr * k, 0.0, 0.0, 0.0, 0.0, value * (lr * k))
    else:
        rates = (0.0, -lr / correction, 0.0, k, n, beta, 1 - beta, value)
    job = _UPDATE.pack(natural.numel(), *addresses, _TYPES[natural.dtype], *rates)
    function(job, isa, torch.get_num_threads())


def _learn_plain(natural: Tensor, grad: Tensor, momentum: Tensor | None, prior: Tensor | None, *more: Any) -> None:
    value, lr, n, k, beta, correction, seed = more
    wide = natural.float() if natural.dtype == torch.bfloat16 else natural
    grad = grad.to(wide.dtype)
    origin = value if prior is None else prior.to(wide.dtype)
    # no `alpha`: torch multiplies and adds with one rounding or two, as the machine has it
    if momentum is None:
        # the rule with its terms in λ collected
        wide.mul_(1 - lr * k).add_(grad * (-lr * n))
        if prior is not None or value:
            wide.add_(origin * (lr * k))
    else:
        descent = (wide - origin).mul_(k).add_(grad * n)
        momentum.mul_(beta).add_(descent.mul_(1 - beta))
        wide.add_(momentum * (-lr / correction))
    if wide is not natural:
        _philox.round_(natural, wide, seed)


_library.impl("draw", _draw_cpu, "CPU")
_library.impl("draw", _draw_cuda, "CUDA")
_library.impl("draw", _philox.draw, "CompositeExplicitAutograd")
_library.impl("learn_", _learn_cpu, "CPU")
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

"""The Bayesian learning rule for a Bernoulli posterior, as a torch optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from .. import _ops, bernoulli, shards


class BayesBiNN(Optimizer):
    """λ ← λ − lr · (num_data · ∂ℓ/∂μ + kl_weight · (λ − λ₀)), the Bayesian learning rule.

    `.grad` of λ must hold an estimate of the gradient in μ of the *mean* loss over a batch, in nats: that is what
    the Bayesian binarizers leave there.  The gradient in μ is the natural gradient in λ, so this one line is natural
    gradient descent on the negative ELBO  num_data · E_q[ℓ] + kl_weight · KL(q‖q₀).

    With momentum β, as in the paper, on data gradient and KL term together and corrected for its start:

        m ← β m + (1 − β) (num_data · ∂ℓ/∂μ + kl_weight · (λ − λ₀)),    λ ← λ − lr · m / (1 − βᵗ)

    Without momentum, and with a scalar prior, the optimizer has no state at all.

    With metaplasticity c, for streams without task boundaries, a gradient that contradicts λ (λ · ∂ℓ/∂μ > 0) counts
    1 − tanh²(c λ): what much evidence supports is hard to overturn, and the KL term alone lets it fade.

    Args:
        params: the λ tensors (`split_parameters(net)[0]`), or parameter groups; every option below can differ
            between groups and be scheduled.
        lr: step size ρ ≥ 0.  With `kl_weight` k, lr · k is the share of λ that each step replaces: keep it below 1.
        num_data: N ≥ 1, the number of training examples behind the mean loss.
        kl_weight: weight of the KL term, ≥ 0; 1 is Bayes' rule, smaller values give a colder, more decided posterior.
        momentum: β in [0, 1).
        prior: λ₀, one number for all weights; 0 is the uniform prior.  See `set_prior_to_posterior`.
        metaplasticity: c ≥ 0; 0 is Bayes' rule.
        foreach: use torch's multi-tensor operations; None chooses them on accelerators only.

    λ may be bfloat16, two bytes a weight: each step is computed in float32 and rounded at random to either neighbour,
    so that steps too small for the format count on average.

    Raises:
        ValueError: for a value outside the ranges above.

    Source: Meng, Bachmann & Khan (2020), Eqs. 5-8 and Algorithm 1; Khan & Rue (2023); metaplasticity as Laborieux et
    al. (2021) have it for latent weights.

    >>> natural = torch.zeros(3, requires_grad=True)
    >>> optimizer = BayesBiNN([natural], lr=0.5, num_data=10)
    >>> natural.grad = torch.tensor([0.1, 0.0, -0.2])
    >>> optimizer.step()
    >>> natural.tolist()
    [-0.5, 0.0, 1.0]
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        num_data: int,
        kl_weight: float = 1.0,
        momentum: float = 0.0,
        prior: float = 0.0,
        metaplasticity: float = 0.0,
        foreach: bool | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "num_data": num_data,
            "kl_weight": kl_weight,
            "momentum": momentum,
            "prior": prior,
            "metaplasticity": metaplasticity,
            "foreach": foreach,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in torch.optim; every option is checked, whichever way the group came in."""
        _check({**self.defaults, **param_group})
        super().add_param_group(param_group)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # a checkpoint may be older than an option
            for name in ("momentum", "prior", "metaplasticity"):
                group.setdefault(name, 0.0)
            group.setdefault("kl_weight", 1.0)
            group.setdefault("foreach", None)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; parameters without a gradient are left alone.

        Args:
            closure: re-evaluates the model and returns the loss (optional).

        Returns:
            What the closure returned, or None.

        Raises:
            RuntimeError: for a sparse gradient.
            ValueError: for momentum on a bfloat16 λ.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if any(p.grad.is_sparse for p in params):
                raise RuntimeError("BayesBiNN does not support sparse gradients")
            if not params:
                continue
            rounded = any(p.dtype == torch.bfloat16 for p in params)
            if rounded and group["momentum"]:
                raise ValueError(f"momentum {group['momentum']} needs a float32 λ, this one is bfloat16: make it 0")
            foreach = group["foreach"]
            if foreach is None:
                foreach = all(p.device.type == "cuda" for p in params)
            foreach = foreach and not rounded
            (self._step_foreach if foreach else self._step_each)(group, params)
        return loss

    def _step_each(self, group: dict[str, Any], params: list[Tensor]) -> None:
        beta = group["momentum"]
        options = {name: group[name] for name in ("lr", "num_data", "kl_weight")}
        for natural, grad in zip(params, _gradients(group, params), strict=True):
            state = self._momentum_state(natural) if beta else {}
            momentum: dict[str, float] = {"beta": beta, "correction": 1 - beta ** state["step"]} if beta else {}
            _ops.learn_(natural, grad, state.get("momentum"), self.prior_of(natural), **options, **momentum)

    def _step_foreach(self, group: dict[str, Any], params: list[Tensor]) -> None:
        lr, n, k, beta = group["lr"], group["num_data"], group["kl_weight"], group["momentum"]
        grads = _gradients(group, params)
        priors = [self.prior_of(p) for p in params]
        # the operations of `_ops.learn_` in the same order; no `alpha`, for the reason given there
        if beta == 0:
            torch._foreach_mul_(params, 1 - lr * k)
            torch._foreach_add_(params, torch._foreach_mul(grads, -lr * n))
            for natural, prior in zip(params, priors, strict=True):
                if isinstance(prior, Tensor) or prior:
                    natural.add_(prior * (lr * k))
        else:
            states = [self._momentum_state(p) for p in params]
            momenta = [state["momentum"] for state in states]
            descents = [p - prior for p, prior in zip(params, priors, strict=True)]
            torch._foreach_mul_(descents, k)
            torch._foreach_add_(descents, torch._foreach_mul(grads, float(n)))
            torch._foreach_mul_(descents, 1 - beta)
            torch._foreach_mul_(momenta, beta)
            torch._foreach_add_(momenta, descents)
            for natural, state in zip(params, states, strict=True):  # steps differ where a gradient was None before
                natural.add_(state["momentum"] * (-lr / (1 - beta ** state["step"])))

    def _momentum_state(self, natural: Tensor) -> dict[str, Any]:
        state: dict[str, Any] = self.state[natural]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(natural, memory_format=torch.preserve_format)
            state["step"] = 0
        state["step"] += 1
        return state

    def prior_of(self, natural: Tensor) -> Tensor | float:
        """λ₀ of one parameter: its own tensor after `set_prior_to_posterior`, else the group's number.

        Raises:
            KeyError: if the optimizer does not hold this parameter.
        """
        if "prior" in self.state.get(natural, {}):
            prior: Tensor = self.state[natural]["prior"]
            return prior
        for group in self.param_groups:
            if any(p is natural for p in group["params"]):
                return float(group["prior"])
        raise KeyError(f"this optimizer does not hold the parameter of shape {tuple(natural.shape)}")

    @torch.no_grad()
    def set_prior_to_posterior(self, strength: float = 1.0, *, limit: float | None = None) -> None:
        """λ₀ ← strength · λ for every parameter: what was learned becomes the prior of the next task.

        Momentum, if any, starts anew: it belongs to the old task.

        Args:
            strength: 1 is Bayes' rule; above 1 the new prior is more certain than the posterior was.
            limit: bound on |λ₀|, above 0, so that λ₀ cannot grow with the number of tasks; None is no bound.

        Raises:
            ValueError: for a negative or infinite strength, or a limit that is not above 0.

        Source: Meng, Bachmann & Khan (2020), Sec. 3.4.
        """
        if not 0.0 <= strength < float("inf"):
            raise ValueError(f"strength must be a finite number of at least 0, got {strength}")
        if limit is not None and not limit > 0.0:
            raise ValueError(f"limit must be above 0, got {limit}")
        for group in self.param_groups:
            for natural in group["params"]:
                prior = natural.detach() * strength
                self.state[natural] = {"prior": prior if limit is None else prior.clamp_(-limit, limit)}

    @torch.no_grad()
    def temper_(self, factor: float) -> None:
        """Make the posterior warmer by `factor` (colder, if it is below 1), and λ at once what that comes to:

            kl_weight ← factor · kl_weight,    lr ← lr / factor,    λ ← λ₀ + (λ − λ₀) / factor

        The rule is at rest where kl_weight · (λ − λ₀) = −num_data · ∂ℓ/∂μ, so λ − λ₀ is inversely proportional to
        kl_weight there.  The share lr · kl_weight of λ that a step replaces stays, and so does the mode if λ₀ = 0.
        Called every step with a factor just below 1, it cools the posterior from undecided to ±1 over a run.

        Args:
            factor: above 0; of every group.

        Raises:
            ValueError: for a factor that is not a finite number above 0.

        >>> natural = torch.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = BayesBiNN([natural], lr=0.1, num_data=10, kl_weight=1.0)
        >>> optimizer.temper_(0.5)
        >>> natural.tolist(), optimizer.param_groups[0]["kl_weight"], optimizer.param_groups[0]["lr"]
        ([2.0, -4.0], 0.5, 0.2)
        """
        if not 0.0 < factor < float("inf"):
            raise ValueError(f"factor must be a finite number above 0, got {factor}")
        for group in self.param_groups:
            group["kl_weight"] *= factor
            group["lr"] /= factor
            for natural in group["params"]:
                prior = self.prior_of(natural)
                natural.sub_(prior).div_(factor).add_(prior)

    @torch.no_grad()
    def kl_divergence(self) -> Tensor:
        """KL(q‖q₀) to the current prior, summed over all parameters, in nats (a 0-d float64 tensor).

        Where FSDP2 splits λ over processes, every process must call this, and gets the whole sum.

        >>> natural = torch.full((4,), 50.0, requires_grad=True)
        >>> BayesBiNN([natural], lr=0.1, num_data=1).kl_divergence()
        tensor(2.7726, dtype=torch.float64)
        """
        naturals = [p for group in self.param_groups for p in group["params"]]
        terms = []
        for p in naturals:
            own = bernoulli.kl_divergence(bernoulli.wide(shards.local(p)), shards.local(self.prior_of(p)))
            terms.append(shards.total(own.sum(dtype=torch.float64), like=p).cpu())
        return torch.stack(terms).sum()


def _gradients(group: dict[str, Any], params: list[Tensor]) -> list[Tensor]:
    """The gradients, those that contradict λ damped by the group's metaplasticity."""
    grads = [p.grad for p in params if p.grad is not None]
    c = group["metaplasticity"]
    if c == 0:
        return grads
    return [
        torch.where(natural * grad > 0, grad * bernoulli.variance(c * natural), grad)
        for natural, grad in zip(params, grads, strict=True)
    ]


def _check(group: dict[str, Any]) -> None:
    inf = float("inf")
    ranges = {
        "lr": (0.0 <= group["lr"] < inf, "a finite number of at least 0"),
        "num_data": (1 <= group["num_data"] < inf, "at least 1"),
        "kl_weight": (0.0 <= group["kl_weight"] < inf, "a finite number of at least 0"),
        "momentum": (0.0 <= group["momentum"] < 1.0, "in [0, 1)"),
        "prior": (-inf < group["prior"] < inf, "a finite number"),
        "metaplasticity": (0.0 <= group["metaplasticity"] < inf, "a finite number of at least 0"),
    }
    for name, (valid, need) in ranges.items():
        if not valid:
            raise ValueError(f"{name} must be {need}, got {group[name]}")

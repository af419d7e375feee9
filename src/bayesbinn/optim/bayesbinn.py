"""The Bayesian learning rule for a Bernoulli posterior, as a torch optimizer."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from .. import _ops, bernoulli, shards
from .base import Ranges, Rule, moment, replace_
from .moments import factored_rate, forget, update_factors

FORMS = ("plain", "tensor", "factored", "weight")


class BayesBiNN(Rule):
    """λ ← λ − lr · G  with  G = (λ − λ₀) + (num_data / kl_weight) · ∂ℓ/∂μ, the Bayesian learning rule.

    `.grad` of λ must hold an estimate of the gradient in μ of the *mean* loss over a batch, in nats: that is what
    the Bayesian binarizers leave there.  The gradient in μ is the natural gradient in λ, so G is that of the negative
    ELBO  num_data · E_q[ℓ] + kl_weight · KL(q‖q₀), divided by kl_weight, and lr is ρ of the paper: the share of λ that
    a step replaces.  lr says how fast, num_data, kl_weight and prior say what for; none depends on another.

    The adaptive forms divide each step by the size of G, so that one lr, in units of λ, serves any N and layer:

        λ ← λ − ρ m̂,    ρ = min(1, lr / (√v̂ + eps)),    m ← β m + (1 − β) G,    v ← β₂ v + (1 − β₂) G²

    m̂ and v̂ are corrected for their start.  ρ is at most 1, so that a weight that never sees a gradient goes to its
    prior and stays.  All forms rest where λ = λ₀ − (num_data / kl_weight) · ∂ℓ/∂μ: the form changes the path only.

    | form | v is kept | state beside m |
    |---|---|---|
    | `"plain"` | not at all: ρ = lr | none |
    | `"tensor"` | the mean over a tensor, of the steps before this one | one number |
    | `"factored"` | the means over rows and columns, of the steps before: v = row · column / mean | a row, a column |
    | `"weight"` | for every weight | one number a weight |

    Args:
        params: the λ tensors (`split_parameters(net)[0]`), or parameter groups; every option below can differ
            between groups and be scheduled.
        lr: ρ in [0, 1] (plain), or the size of a step in units of λ (adaptive), ≥ 0.
        num_data: N ≥ 1, the number of training examples behind the mean loss.
        kl_weight: weight of the KL term, > 0; 1 is Bayes' rule, smaller values give a colder, more decided posterior.
        prior: λ₀, one number for all weights; 0 is the uniform prior.  See `set_prior_to_posterior`.
        form: of the table above.
        momentum: β in [0, 1); 0 keeps no m, as the paper's equation has it.
        beta2: β₂ in [0, 1), of the adaptive forms.
        eps: ≥ 0, in units of λ.

    λ may be bfloat16, two bytes a weight: each step is computed in float32 and rounded at random to either neighbour,
    so that steps too small for the format count on average.

    Raises:
        ValueError: for a value outside the ranges above.

    Source: Meng, Bachmann & Khan (2020), Eqs. 5-8 and Algorithm 1; Khan & Rue (2023).  Division by √v̂: Kingma & Ba
    (2015); by that of earlier steps: Taniguchi et al. (2024); rows and columns: Shazeer & Stern (2018).

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
        num_data: float,
        kl_weight: float = 1.0,
        prior: float = 0.0,
        form: str = "plain",
        momentum: float = 0.0,
        beta2: float = 0.999,
        eps: float = 1e-8,
    ) -> None:
        options = {"num_data": num_data, "kl_weight": kl_weight, "prior": prior, "form": form}
        super().__init__(params, {"lr": lr, **options, "momentum": momentum, "beta2": beta2, "eps": eps})

    def _ranges(self, group: dict[str, Any]) -> Ranges:
        inf, plain = float("inf"), group["form"] == "plain"
        return {
            "form": (group["form"] in FORMS, f"one of {', '.join(FORMS)}"),
            "lr": (
                0.0 <= group["lr"] <= (1.0 if plain else inf) and group["lr"] < inf,
                "in [0, 1], the share of λ that a step replaces" if plain else "a finite number of at least 0",
            ),
            "num_data": (1 <= group["num_data"] < inf, "at least 1"),
            "kl_weight": (
                0.0 < group["kl_weight"] < inf,
                "a finite number above 0 (without the KL term λ has no place to rest: take a small one)",
            ),
            "prior": (-inf < group["prior"] < inf, "a finite number"),
            "momentum": (0.0 <= group["momentum"] < 1.0, "in [0, 1)"),
            "beta2": (0.0 <= group["beta2"] < 1.0, "in [0, 1)"),
            "eps": (0.0 <= group["eps"] < inf, "a finite number of at least 0"),
        }

    def _update(self, group: dict[str, Any], natural: Tensor, grad: Tensor) -> None:
        form, beta, beta2, eps = (group[name] for name in ("form", "momentum", "beta2", "eps"))
        prior, ratio = self.prior_of(natural), group["num_data"] / group["kl_weight"]
        state: dict[str, Any] = self.state[natural] if beta or form != "plain" else {}
        step: dict[str, Any] = {"lr": group["lr"], "ratio": ratio}
        if beta:
            step |= {"momentum": moment(state, "momentum", natural), "beta": beta}
            step["correction"] = forget(state, "momentum", beta)
        if form == "weight":
            step |= {"second": moment(state, "second", natural), "beta2": beta2, "eps": eps}
            step["correction2"] = forget(state, "second", beta2)
        elif form == "factored":
            g = (bernoulli.wide(natural) - prior).add_(grad * ratio)
            step["rate"] = factored_rate(state, g, group["lr"], eps)
            update_factors(state, g, beta2)
        elif form == "tensor":
            if "square" in state:
                average = state["square"] / (1 - state["square_forgotten"])
            else:  # nothing is known before the first step, so it looks ahead
                average = _ops.mean_square((bernoulli.wide(natural) - prior).add_(grad * ratio))
                state["square"] = torch.zeros_like(average)
            step["rate"] = (group["lr"] / (average.sqrt() + eps)).clamp_(max=1)
            step["square"] = square = torch.empty_like(average)
        _ops.learn_(natural, grad, prior, **step)
        if form == "tensor":
            forget(state, "square", beta2)
            state["square"].mul_(beta2).add_(square * (1 - beta2))

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
    def set_prior_to_posterior(self, strength: float = 1.0) -> None:
        """λ₀ ← strength · λ for every parameter: what was learned becomes the prior of the next task.

        m and v, if any, start anew: they belong to the old task.

        Args:
            strength: 1 is Bayes' rule; above 1 the new prior is more certain than the posterior was.

        Raises:
            ValueError: for a negative or infinite strength.

        Source: Meng, Bachmann & Khan (2020), Sec. 3.4.
        """
        if not 0.0 <= strength < float("inf"):
            raise ValueError(f"strength must be a finite number of at least 0, got {strength}")
        for group in self.param_groups:
            for natural in group["params"]:
                self.state[natural] = {"prior": natural.detach() * strength}

    @torch.no_grad()
    def temper_(self, factor: float) -> None:
        """Make the posterior warmer by `factor` (colder, if it is below 1), and λ at once what that comes to:

            kl_weight ← factor · kl_weight,    λ ← λ₀ + (λ − λ₀) / factor

        The rule rests where λ − λ₀ = −(num_data / kl_weight) · ∂ℓ/∂μ, which is inversely proportional to kl_weight.
        The mode stays if λ₀ = 0.  m and v, which are of the size of λ, follow it; lr does not change.
        Called every step with a factor just below 1, it cools the posterior from undecided to ±1 over a run.

        Args:
            factor: above 0; of every group.

        Raises:
            ValueError: for a factor that is not a finite number above 0.

        >>> natural = torch.tensor([1.0, -2.0], requires_grad=True)
        >>> optimizer = BayesBiNN([natural], lr=0.1, num_data=10, kl_weight=1.0)
        >>> optimizer.temper_(0.5)
        >>> natural.tolist(), optimizer.param_groups[0]["kl_weight"]
        ([2.0, -4.0], 0.5)
        """
        if not 0.0 < factor < float("inf"):
            raise ValueError(f"factor must be a finite number above 0, got {factor}")
        powers = {"momentum": 1, "second": 2, "square": 2, "rows": 2, "columns": 2}
        for group in self.param_groups:
            group["kl_weight"] *= factor
            for natural in group["params"]:
                prior = self.prior_of(natural)
                replace_(natural, (bernoulli.wide(natural) - prior) / factor + prior)
                for name, power in powers.items():
                    if name in self.state.get(natural, {}):
                        self.state[natural][name].div_(factor**power)

    @torch.no_grad()
    def kl_divergence(self) -> Tensor:
        """KL(q‖q₀) to the current prior, summed over all parameters, in nats (a 0-d float64 tensor).

        Where FSDP2 splits λ over processes, every process must call this, and gets the whole sum.

        >>> natural = torch.full((4,), 50.0, requires_grad=True)
        >>> BayesBiNN([natural], lr=0.1, num_data=1).kl_divergence()
        tensor(2.7726, dtype=torch.float64)
        """
        total = torch.zeros((), dtype=torch.float64)
        for p in (p for group in self.param_groups for p in group["params"]):
            own = bernoulli.kl_divergence(bernoulli.wide(shards.local(p)), shards.local(self.prior_of(p)))
            total += shards.total(own.sum(dtype=torch.float64), like=p).cpu()
        return total

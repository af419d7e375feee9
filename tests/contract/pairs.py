"""The table of (binarizer, optimizer) pairs that `test_contract.py` runs through.  A new method is one more row."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from bayesbinn import BayesBiNN
from bayesbinn.binarizers import (
    AdaSTE,
    Binarizer,
    Concrete,
    LocalReparam,
    MeanWeight,
    Reference2020,
    ReinMax,
    SignSTE,
    StraightThroughSample,
    TanhAnneal,
)
from bayesbinn.optim import FORMS, BiMU, Bop, Palimpsest


@dataclass(frozen=True)
class Pair:
    """One method.

    Attributes:
        name: of the row, for the test ids.
        make_binarizer: a new binarizer.
        make_optimizer: an optimizer for λ tensors or parameter groups, whose step on the contract's network
            (λ = ±1, mean loss of about 1) is neither 0 nor so large that nothing is left of λ.
    """

    name: str
    make_binarizer: Callable[[], Binarizer]
    make_optimizer: Callable[[Iterable[Any]], Optimizer]


PAIRS = [
    Pair("bayesbinn", StraightThroughSample, lambda ps: BayesBiNN(ps, lr=0.05, num_data=100, kl_weight=0.5)),
    *(
        Pair(
            f"bayesbinn-{form}",
            StraightThroughSample,
            lambda ps, form=form: BayesBiNN(ps, lr=0.1, num_data=100, momentum=0.9, prior=0.2, form=form),
        )
        for form in FORMS[1:]
    ),
    Pair("concrete", lambda: Concrete(1.0), lambda ps: BayesBiNN(ps, lr=0.05, num_data=50, momentum=0.9)),
    Pair("bayesbinn-2020", lambda: Reference2020(0.5), lambda ps: BayesBiNN(ps, lr=0.05, num_data=50)),
    Pair("local-reparam", LocalReparam, lambda ps: BayesBiNN(ps, lr=0.05, num_data=50)),
    Pair("mean-weight", MeanWeight, lambda ps: BayesBiNN(ps, lr=0.05, num_data=50)),
    Pair("reinmax", ReinMax, lambda ps: BayesBiNN(ps, lr=0.05, num_data=50)),
    Pair(
        "palimpsest",
        StraightThroughSample,
        lambda ps: Palimpsest(ps, num_examples=3, window=100, metaplasticity=0.5),
    ),
    Pair("bimu", StraightThroughSample, lambda ps: BiMU(ps, lr=1.0, window=float("inf"), gradient_gain=50.0)),
    Pair("ste", SignSTE, lambda ps: torch.optim.Adam(ps, lr=0.05)),
    Pair("ste-sgd", SignSTE, lambda ps: torch.optim.SGD(ps, lr=0.5, momentum=0.9)),
    Pair("bop", lambda: SignSTE(clip=float("inf")), lambda ps: Bop(ps, gamma=0.5, threshold=1e-3)),
    Pair("pmf", lambda: TanhAnneal(beta=1.5), lambda ps: torch.optim.Adam(ps, lr=0.05)),
    Pair("md-tanh", lambda: TanhAnneal(beta=1.5, mirror=True), lambda ps: torch.optim.Adam(ps, lr=0.05)),
    Pair("adaste", lambda: AdaSTE(small=0.0), lambda ps: torch.optim.SGD(ps, lr=0.5, momentum=0.9)),
]

"""Who is asked when a run is evaluated: draws of its posterior, several runs together, or its dropout masks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from torch import Tensor, nn

from ..data import channels_last
from ..errors import UserError
from ..nn import Mixture, likelihood_of
from ..nn.mixture import members_of
from ..posterior import has_posterior
from ..prediction import dropout_outputs, ensemble_outputs, posterior_outputs, predictions

Kind = Literal["posterior", "ensemble", "dropout"]


@dataclass(frozen=True)
class Voters:
    """The networks whose predictions are averaged, all of them asked through the same two methods.

    They give a `Prediction` or a `RegressionPrediction`, as the networks' task asks.

    Attributes:
        kind: "posterior" (draws of the first net's weights), "ensemble" (each net once, at its mode) or "dropout"
            (masks of the first net, weights at the mode).
        nets: at least one, of the same inputs and classes.
        num_samples: S, how many networks vote; 0: there is nothing but the mode.
        seed: of the draws or masks.
        calibration: training inputs for batch norm, see `prediction.predict`; not with "dropout".
    """

    kind: Kind
    nets: Sequence[nn.Module]
    num_samples: int
    seed: int = 0
    calibration: Tensor | None = None

    def mode(self, x: Tensor) -> Any:
        """The one network without a draw or a mask (of an ensemble: the first member)."""
        net = self.nets[0]
        outputs = posterior_outputs(net, channels_last(x), 0, calibration=self.calibration)
        return replace(next(predictions(net, outputs)), num_samples=0)

    def running(self, x: Tensor) -> Iterator[Any]:
        """The predictions of the first 1, 2, ..., S networks together; nothing for S = 0."""
        if self.num_samples == 0:
            return
        net, x = self.nets[0], channels_last(x)
        match self.kind:
            case "posterior":
                outputs = posterior_outputs(net, x, self.num_samples, seed=self.seed, calibration=self.calibration)
            case "ensemble":
                outputs = ensemble_outputs(self.nets, x, calibration=self.calibration)
            case "dropout":
                outputs = dropout_outputs(net, x, self.num_samples, seed=self.seed)
        yield from predictions(net, outputs)

    def best(self, x: Tensor) -> Any:
        """The prediction of all S networks, or of the mode if S = 0."""
        if self.num_samples == 0:
            return self.mode(x)
        return next(islice(self.running(x), self.num_samples - 1, None))

    @property
    def task(self) -> str:
        """What the networks predict: `classification` or `regression`."""
        return likelihood_of(self.nets[0]).task

    @property
    def label(self) -> str:
        """What votes, in words."""
        one = "one network" if self.kind == "ensemble" else "the mode"
        names = {"posterior": "posterior samples", "ensemble": "trained networks", "dropout": "dropout masks"}
        return f"{self.num_samples} {names[self.kind]}" if self.num_samples else one


def make_voters(
    nets: Sequence[nn.Module],
    num_samples: int,
    kind: Kind | None = None,
    seed: int = 0,
    calibration: Tensor | None = None,
) -> Voters:
    """`Voters` for one or several trained networks, checked.

    Args:
        kind: None is "ensemble" for several networks, else "posterior"; a network without a posterior then has its
            mode only (S = 0).  "posterior" of several networks is their mixture.

    Raises:
        UserError: for a negative S, an ensemble of one, several networks that are no ensemble, dropout asked of a
            network without any, or calibration of dropout.

    >>> make_voters([nn.Linear(4, 3), nn.Linear(4, 3)], num_samples=32).label
    '2 trained networks'
    """
    if num_samples < 0:
        raise UserError(f"samples must be at least 0 (0 is the mode only), got {num_samples}")
    kind = kind or ("ensemble" if len(nets) > 1 else "posterior")
    if kind == "posterior" and len(nets) > 1:
        if not all(map(has_posterior, nets)):
            raise UserError("voters 'posterior' draws from every RUN, and one has no posterior: leave voters out")
        nets = [Mixture(nets)]
    if (kind == "ensemble") != (len(nets) > 1):
        need = "needs at least two RUNs" if kind == "ensemble" else "takes one RUN"
        raise UserError(f"voters {kind!r} {need}, got {len(nets)}")
    voters = Voters(kind, nets, num_samples, seed, calibration)
    if kind == "ensemble":
        return replace(voters, num_samples=len(nets))
    if kind == "dropout":
        if calibration is not None:
            raise UserError("batch norm of its own is for drawn or trained networks, not for dropout masks")
        if not any(isinstance(m, nn.modules.dropout._DropoutNd) and m.p > 0 for m in nets[0].modules()):
            raise UserError("voters 'dropout' needs a network trained with dropout: this one has none")
        return voters
    if has_posterior(nets[0]):
        return voters
    members = members_of(nets[0])[::-1]  # the last is the network that is asked alone
    return (
        replace(voters, kind="ensemble", nets=members, num_samples=len(members))
        if len(members) > 1
        else replace(voters, num_samples=0)
    )

"""Networks of ±1 weights as scikit-learn's estimators.

>>> from sklearn.datasets import load_wine
>>> x, y = load_wine(return_X_y=True)
>>> classifier = BinaryClassifier(random_state=0).fit(x[::2], y[::2])
>>> bool(classifier.score(x[1::2], y[1::2]) > 0.9)
True
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state, compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from .binarizers import MeanWeight
from .data import batches
from .data.checks import moments
from .examples import Examples
from .nn import Categorical, Gaussian, Likelihood, binarize_, calibrate_, likelihood_of
from .optim import NetworkOptimizer, optimizer_for
from .prediction import predict, predict_regression
from .training.models import ModelConfig, build_model
from .training.options import checked, option, options_of

Auto = Literal["auto"]
Array = NDArray[Any]
STEPS, EPOCHS, BATCH = 500, (10, 100), (16, 256)  # of `schedule_of`
SHIFT = 1.0  # of the hidden units, in standard deviations of what they see
SEEN = 1024  # inputs kept for the statistics of batch norm, so that those of later chunks are not all that count


def schedule_of(num_data: int, epochs: Any = "auto", batch_size: Any = "auto") -> tuple[int, int]:
    """(epochs, batch size) for N examples, where they are not given.

    A batch is a sixteenth of the data, between 16 and 256 examples (and no more than there are).  The epochs make about
    500 steps, but at least 10 and at most 100 passes over the data.

    >>> schedule_of(20), schedule_of(400), schedule_of(100_000)
    ((100, 16), (32, 25), (10, 256))
    """
    size = min(max(num_data // 16, BATCH[0]), BATCH[1]) if batch_size == "auto" else batch_size
    size = min(size, num_data)
    if epochs == "auto":
        epochs = min(max(math.ceil(STEPS * size / num_data), EPOCHS[0]), EPOCHS[1])
    return epochs, size


@dataclass(frozen=True)
class Settings:
    """What the settings of an estimator may be; `epochs` and `batch_size` may also be "auto"."""

    width: int = option(256, "units of each hidden layer", 1, 10**6)
    depth: int = option(2, "number of hidden layers", maximum=10**4)
    dropout: float = option(0.0, "dropout rate before linear layers", maximum=0.99)
    epochs: int = option(1, "passes over the data", 1)
    batch_size: int = option(1, "examples in one step", 1)
    lr: float = option(0.3, "size of a step, in units of λ")
    kl_weight: float = option(0.001, "weight of the KL term", above=0)
    cooling: float = option(30.0, "how many times warmer the posterior starts", 1)
    real_lr: float = option(0.01, "learning rate of the other parameters")
    num_samples: int = option(32, "networks that are averaged")


def check_settings(estimator: BaseEstimator) -> None:
    """Refuse a setting that is not as `Settings` says.

    Raises:
        UserError: naming it, and what it may be.
    """
    for name, field in options_of(Settings).items():
        value = getattr(estimator, name)
        if not (isinstance(value, str) and value == "auto" and name in ("epochs", "batch_size")):
            checked(field, value.item() if isinstance(value, np.generic) else value)


def dense(x: Any) -> Any:
    """A sparse matrix, such as `OneHotEncoder` makes, as an array; anything else as it is."""
    return x.toarray() if hasattr(x, "toarray") else x


class _Binary(BaseEstimator):  # type: ignore[misc]
    """What the estimators share: an MLP with batch norm, on standardised inputs."""

    def __init__(
        self,
        *,
        width: int = 256,
        depth: int = 2,
        dropout: float = 0.0,
        epochs: int | Auto = "auto",
        batch_size: int | Auto = "auto",
        lr: float = 0.3,
        kl_weight: float = 0.001,
        cooling: float = 30.0,
        real_lr: float = 0.01,
        num_samples: int = 32,
        random_state: Any = None,
    ) -> None:
        self.width = width
        self.depth = depth
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.lr = lr
        self.kl_weight = kl_weight
        self.cooling = cooling
        self.real_lr = real_lr
        self.num_samples = num_samples
        self.random_state = random_state

    def _checked(self, x: ArrayLike, y: ArrayLike, first: bool, **more: Any) -> tuple[Array, Array]:
        check_settings(self)
        options = {"reset": first, "dtype": np.float64, "accept_sparse": "csr", "ensure_min_samples": 2}
        inputs, target = validate_data(self, x, y, **options, **more)
        return dense(inputs), target

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def _begin(self, x: Array, outputs: int, end: Likelihood | None) -> None:
        """A new network, and what standardises its inputs, from the first examples."""
        mean, std, _ = moments(torch.tensor(x))
        self.mean_, self.scale_ = mean.numpy(), torch.where(std > 0, std, 1.0).numpy()
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        config = ModelConfig(width=self.width, depth=self.depth, dropout=self.dropout)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = build_model(config, (x.shape[1],), outputs, end=end)
            # as `train` starts its models, which have batch norm
            self.network_ = binarize_(net, binarizer=MeanWeight(), magnitude=1.0, scale="fan_in", quiet=True)
            for norm in self._norms()[:-1]:
                # of few inputs there are few ±1 sums: units differ by where they begin, and not by the sum alone
                torch.nn.init.uniform_(norm.bias, -SHIFT, SHIFT)
        self.seed_, self.chunks_ = seed, 0
        self.seen_ = np.empty((0, x.shape[1]), np.float32)

    def _norms(self) -> list[torch.nn.BatchNorm1d]:
        return [m for m in self.network_.modules() if isinstance(m, torch.nn.BatchNorm1d)]

    def _learn(self, x: Array, y: Tensor, likelihood: Likelihood) -> None:
        """Train on one chunk; after the first, what was learned before is the prior of λ, and all else stays."""
        inputs, net = torch.from_numpy(self._scaled(x)).float(), self.network_.float().train()
        epochs, size = schedule_of(len(inputs), self.epochs, self.batch_size)
        warm = self.kl_weight * self.cooling
        optimizer = optimizer_for(net, num_data=len(inputs), lr=self.lr, kl_weight=warm, real_lr=self.real_lr)
        if self.chunks_:
            optimizer.set_prior_to_posterior()
            optimizer = NetworkOptimizer(*optimizer.rules)
        steps = epochs * (len(inputs) // size)
        schedule = CosineAnnealingLR(optimizer, steps)
        examples = Examples(inputs, y)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed_ + self.chunks_)
            for epoch in range(epochs):
                for batch, target in batches(examples, size, (self.seed_ + self.chunks_) % 2**31, epoch):
                    likelihood.loss(net(batch), target).backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    optimizer.temper_(self.cooling ** (-1 / steps))
                    schedule.step()
                    net.zero_grad()
        if not all(bool(value.isfinite().all()) for value in net.state_dict().values()):
            raise ValueError(f"training diverged: the network holds NaN or infinity; lower lr ({self.lr})")
        self.chunks_ += 1
        self._remember(inputs.numpy())
        calibrate_(net, self.seen_)
        net.double().eval()  # so that a prediction does not depend on the others in its batch
        self.n_iter_ = epochs

    def _remember(self, x: NDArray[np.float32]) -> None:
        """Keep an even share of the inputs of every chunk for the statistics of batch norm."""
        chosen = np.random.RandomState((self.seed_ + self.chunks_) % 2**31)
        keep = SEEN // self.chunks_
        old = self.seen_[chosen.permutation(len(self.seen_))[: SEEN - keep]] if self.chunks_ > 1 else self.seen_
        self.seen_ = np.concatenate([old, x[chosen.permutation(len(x))[:keep]]])

    def _scaled(self, x: Array) -> Array:
        scaled: Array = (x - self.mean_) / self.scale_
        return scaled

    def _inputs(self, x: ArrayLike) -> Tensor:
        check_is_fitted(self)
        inputs = validate_data(self, x, reset=False, dtype=np.float64, accept_sparse="csr")
        return torch.from_numpy(self._scaled(dense(inputs)))


class BinaryClassifier(ClassifierMixin, _Binary):  # type: ignore[misc]
    """A classifier with ±1 weights under a Bernoulli posterior.

    Inputs are numbers, standardised inside; columns of other kinds go through scikit-learn's own transformers before.
    A sparse matrix is made dense.

    Args:
        width, depth: units of each hidden layer, and how many there are.
        dropout: rate before linear layers.
        epochs, batch_size: "auto" chooses them from the number of examples, see `schedule_of`.
        lr, kl_weight, real_lr: as in `optimizer_for`.
        cooling: how many times warmer than `kl_weight` the posterior starts; it falls to 1.
        num_samples: networks whose probabilities are averaged; 0: the mode alone.
        class_weight: None, "balanced", or {class: weight}.
        random_state: a seed, a RandomState, or None for another network each time.

    Attributes:
        classes_: (C,).
        network_: the trained module; it takes standardised inputs.
        n_features_in_, feature_names_in_, n_iter_: as in scikit-learn.

    `fit` takes no `sample_weight`: the Bayesian rule counts examples.  Repeat an example, or use `class_weight`.
    """

    def __init__(
        self,
        *,
        width: int = 256,
        depth: int = 2,
        dropout: float = 0.0,
        epochs: int | Auto = "auto",
        batch_size: int | Auto = "auto",
        lr: float = 0.3,
        kl_weight: float = 0.001,
        cooling: float = 30.0,
        real_lr: float = 0.01,
        num_samples: int = 32,
        class_weight: Mapping[Any, float] | Literal["balanced"] | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(
            width=width,
            depth=depth,
            dropout=dropout,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            kl_weight=kl_weight,
            cooling=cooling,
            real_lr=real_lr,
            num_samples=num_samples,
            random_state=random_state,
        )
        self.class_weight = class_weight

    def fit(self, X: ArrayLike, y: ArrayLike) -> "BinaryClassifier":  # noqa: N803  (scikit-learn's name)
        """Learn from X (N, F) and the classes y (N,), from the start.

        Raises:
            ValueError: for one class only, fewer than two examples, NaN, or infinity.
        """
        self.__dict__.pop("network_", None)
        return self.partial_fit(X, y)

    def partial_fit(self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None) -> "BinaryClassifier":  # noqa: N803
        """Learn from a further chunk; what was learned before is the prior.

        Args:
            X, y: as in `fit`.
            classes: all that will ever come, in the first call; default: those in y.

        Raises:
            ValueError: as `fit`; for a class that the first call did not have.
        """
        first = not hasattr(self, "network_")
        x, labels = self._checked(X, y, first)
        check_classification_targets(labels)
        if first:
            self.classes_ = np.unique(labels if classes is None else classes)
            if len(self.classes_) < 2:
                raise ValueError(
                    f"BinaryClassifier needs two classes or more, y holds 1 class only: {self.classes_[0]!r}"
                )
            self._begin(x, len(self.classes_), None)
        place = np.minimum(np.searchsorted(self.classes_, labels), len(self.classes_) - 1)
        wrong = labels[self.classes_[place] != labels]
        if len(wrong):
            known = self.classes_.tolist()
            raise ValueError(f"y holds class {wrong[0]!r}, the first call had {known}: give all classes= there")
        weights = self._weights(labels)
        if first:
            self._begin_at_shares(torch.from_numpy(place), weights)
        self._learn(x, torch.from_numpy(place), Categorical(weights))
        return self

    @torch.no_grad()
    def _begin_at_shares(self, y: Tensor, weights: Tensor | None) -> None:
        """Let the logits start at the log of the classes' shares, where all are there: rare ones take long else."""
        counts = torch.bincount(y, minlength=len(self.classes_)).double() * (1.0 if weights is None else weights)
        if bool((counts > 0).all()):
            self._norms()[-1].bias.copy_((counts / counts.sum()).log())

    def _weights(self, y: Array) -> Tensor | None:
        """(C,) how much an example of each class counts, 1 on average over y."""
        if self.class_weight is None:
            return None
        present = np.unique(y)
        own = dict(zip(present, compute_class_weight(self.class_weight, classes=present, y=y), strict=True))
        weights = np.array([own.get(c, 1.0) for c in self.classes_])
        mean = np.mean([own[c] for c in y])
        if not mean > 0:
            raise ValueError(f"class_weight {self.class_weight!r} leaves no example any weight: give some above 0")
        return torch.from_numpy(weights / mean)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """(N, C) probabilities, averaged over the drawn networks."""
        x = self._inputs(X)
        probs: NDArray[np.float64] = predict(self.network_, x, self.num_samples, seed=self.seed_).probs.numpy()
        return probs

    def predict(self, X: ArrayLike) -> Array:  # noqa: N803
        """(N,) the most probable classes."""
        probs = self.predict_proba(X)
        chosen: Array = self.classes_[probs.argmax(1)]
        return chosen


class BinaryRegressor(RegressorMixin, _Binary):  # type: ignore[misc]
    """A regressor with ±1 weights under a Bernoulli posterior, and a learned noise of the data.

    Arguments and attributes as `BinaryClassifier` (without classes); the target is standardised inside.

    >>> x = np.linspace(-2, 2, 200)[:, None]
    >>> mean, std = BinaryRegressor(random_state=0).fit(x, x[:, 0]).predict(x, return_std=True)
    >>> mean.shape, bool((std > 0).all())
    ((200,), True)
    """

    def fit(self, X: ArrayLike, y: ArrayLike) -> "BinaryRegressor":  # noqa: N803
        """Learn from X (N, F) and the targets y (N,), from the start.

        Raises:
            ValueError: for fewer than two examples, NaN, or infinity.
        """
        self.__dict__.pop("network_", None)
        return self.partial_fit(X, y)

    def partial_fit(self, X: ArrayLike, y: ArrayLike) -> "BinaryRegressor":  # noqa: N803
        """Learn from a further chunk; what was learned before is the prior.  Arguments and errors as `fit`."""
        first = not hasattr(self, "network_")
        x, target = self._checked(X, y, first, y_numeric=True)
        target = target.astype(np.float64)
        if first:
            self.target_mean_, self.target_scale_ = float(target.mean()), float(target.std()) or 1.0
            self._begin(x, 1, Gaussian())
        scaled = (target - self.target_mean_) / self.target_scale_
        self._learn(x, torch.from_numpy(scaled).float(), likelihood_of(self.network_))
        return self

    def predict(self, X: ArrayLike, return_std: bool = False) -> Any:  # noqa: N803
        """(N,) means; with `return_std` also the standard deviations of the target (networks and noise together)."""
        x = self._inputs(X)
        p = predict_regression(self.network_, x, self.num_samples, seed=self.seed_)
        mean = p.mean[:, 0].numpy() * self.target_scale_ + self.target_mean_
        return (mean, p.total[:, 0].numpy() * self.target_scale_) if return_std else mean

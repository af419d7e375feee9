"""A run from end to end: start or resume it, train, evaluate; and the same for data in memory."""

import json
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..continual import Naive, from_tasks
from ..data import Data, absolute, load_data, load_text, to_device
from ..data.text import PREFIX as TEXT_PREFIX
from ..environment import environment
from ..errors import UserError
from ..evaluation.report import run_page, write_report
from ..evaluation.scores import evaluate_voters
from ..evaluation.voters import make_voters
from ..files import write_text
from ..locks import one_writer
from ..nn import Categorical, Gaussian, Likelihood, NextToken, binary_layers, calibrate_
from ..nn.inputs import mark_standardised
from ..posterior import has_posterior
from ..runtime.about import About
from ..runtime.preparation import prepare
from .checkpoint import load_checkpoint, save_checkpoint
from .config import Config, settings_of
from .course import Callbacks, Course
from .distributed import World, connect
from .load import about, begin_with_, load_run
from .logs import OnMetrics, told
from .loop import Trainer
from .models import OWN, TEXT, Normalize, ending
from .modes import Modes
from .own import data_for, ignored, left_real, restored_on_error, standardises
from .start import (
    absolute_path,
    begin,
    binary_,
    check_augment,
    check_world,
    find_device,
    make_network,
    optimizer_of,
    started,
)


def train(
    settings: dict[str, Any],
    run: Path,
    *,
    resume: bool = False,
    callbacks: Callbacks | None = None,
    sharding: str = "none",
    timeout: float = 600.0,
) -> dict[str, Any]:
    """Train a network into the folder `run` and evaluate it on the test set.

    Under torchrun every process calls this, and they train together; rank 0 writes (see `distributed`).

    Args:
        settings: of `Config` and of the method; what is left out has its default.
        run: the run's folder; new or empty, unless resuming.
        resume: continue the run in `run` bit for bit; starts it where there is none yet.
        callbacks: for progress and for stopping; each rank has its own.
        sharding: how several processes hold λ, one of `distributed.SHARDINGS`; changes no result.
        timeout: seconds after which a process that does not answer counts as gone.

    Returns:
        The final evaluation, as in RUN/evaluation.json (see `evaluation.evaluate`); {} on other ranks than 0.

    Raises:
        UserError: for anything wrong with the settings, the data or the folder; nothing is written then.
        StoppedError: at a signal, with everything saved.
        PeerError: on the other ranks, when one has raised any of these but StoppedError, which all raise.
        LostError: when another process has gone.
    """
    with connect(sharding, timeout) as world, world.one_writer(run):
        return _train(settings, run, resume, callbacks, world).evaluation


@dataclass(frozen=True)
class Fitted:
    """A trained network.

    Attributes:
        net: in evaluation mode, for inputs in the units of the data.
        evaluation: on the test set, as in RUN/evaluation.json.
        config: every setting.
        about: what the network is for; with it `deploy.save` keeps names and columns.
    """

    net: nn.Module
    evaluation: dict[str, Any]
    config: Config
    about: About

    def prepare(self, table: Any) -> Tensor:
        """Rows of the table that it learned from as inputs (B, F) of `net`; the target may be missing.

        Args:
            table: a dict of columns, a list of rows (dicts), a data frame or an Arrow table.

        Raises:
            UserError: for a network that learned from no table, a column that is missing, or a value that its column
                cannot have.  What is new or filled in is a warning.
        """
        if not self.about.columns:
            raise UserError("this network did not learn from a table with a target: give it the numbers themselves")
        try:
            x, notes = prepare(self.about.columns, table)
        except ValueError as error:
            raise UserError(str(error)) from None
        for note in notes:
            warnings.warn(note, stacklevel=2)
        return torch.from_numpy(x)


def fit(
    net: nn.Module | str,
    data: Any,
    *,
    output: Path | str | None = None,
    resume: bool = False,
    on_metrics: OnMetrics | None = None,
    **settings: Any,
) -> Fitted:
    """Train a network on data in memory: `bayesbinn train` as a function.

    Args:
        net: a network of your own, trained in place: real, and made binary here, or with the binary layers that you
            want; or the name of a model ("mlp", ...).  One that is refused stays as it was; with `modes` it ends as
            the last of them.
        data: a `Data`, or what `load_data` takes: the name of a data set, or arrays.
        output: the run's folder; none is kept by default.
        resume: go on with the run in `output`.
        on_metrics: called after each epoch with its figures and its number, see `training.logs`.
        settings: the options of `bayesbinn train`, with _ for -.  A network that is binary already goes on from its λ,
            with drawn weights if nothing else is said.

    Raises:
        UserError: for anything wrong with the settings, the data or the folder.

    >>> fitted = fit("mlp", "digits", width=16, depth=1, epochs=3, batch_size=64, samples=4)
    >>> fitted.evaluation["mode"]["accuracy"] > 0.5
    True
    """
    if "model" in settings:
        raise UserError(f"the first argument of fit is the network, got model={settings['model']!r} too: leave it out")
    if not isinstance(net, str | nn.Module):
        raise UserError(f"fit takes a network or the name of a model, got {net!r}: give it first")
    own = None if isinstance(net, str) else net
    name = data if isinstance(data, str) else data.name if isinstance(data, Data) else "data"
    settings = {**settings, "data": name, "model": net if isinstance(net, str) else OWN}
    if (
        own is not None
        and settings.get("method", Config.method) == "bayesbinn"
        and any(True for _ in binary_layers(own))
    ):
        settings = {"estimator": "draw", **settings}  # its λ are not where a posterior that cools starts
    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run" if output is None else Path(output)
        with one_writer(run):
            callbacks = Callbacks(epoch=told(on_metrics), note=lambda note: warnings.warn(note, stacklevel=5))
            return _train(settings, run, resume, callbacks, World(), data, own)


def _train(
    settings: dict[str, Any],
    run: Path,
    resume: bool,
    callbacks: Callbacks | None,
    world: World,
    data: Any = None,
    net: nn.Module | None = None,
) -> Fitted:
    with restored_on_error(net):
        trainer, loaded = _prepared(settings, run, resume, callbacks or Callbacks(), world, data, net)
    if net is not None:
        mark_standardised(net, standardises(loaded))
    trainer.fit(callbacks)
    trained, evaluation = _finished(trainer, loaded) if world.main else (trainer.net, {})
    return Fitted(trained, evaluation, trainer.config, about(trained, trainer.description))


def _prepared(
    settings: dict[str, Any], run: Path, resume: bool, callbacks: Callbacks, world: World, data: Any, net: Any
) -> tuple[Trainer, Data]:
    """The trainer, with everything checked, and its data; `data` and `net` are what a person has in memory, or None."""
    with world.together():
        config, resuming = started(Config, settings, run, resume, world, absolute)
        check_world(config, world)
        device = find_device(config.device)
        found = to_device(data_of(config, data), device)
        check_augment(config, found.input_shape)
        likelihood = likelihood_for(found, config)
        notes = [*config.notes, *found.notes]
        config = replace(config, data=absolute(config.data), start=absolute_path(config.start))
        torch.manual_seed(config.seed)
        if net is None:
            net = make_network(config, found.input_shape, found.num_outputs, found.mean, found.std, likelihood)
        else:
            found = data_for(net, found, config.seed)
            notes = [*config.notes, *found.notes, *ignored(net, config)]
            net = nn.Sequential(Normalize(found.mean, found.std, len(found.input_shape)), net, *ending(likelihood))
            binary_(net, config)
        if not resuming:
            begin_with_(net, config)
        notes += left_real(net, config)
        net.to(device)
        for note in notes if world.main else ():
            callbacks.note(note)
    world.shard_(net)
    trainer = _trainer(net, found, config, run, world, likelihood)
    with world.together():
        begin(trainer, resuming)
    return trainer, found


def data_of(config: Config, given: Any = None) -> Data:
    """The data of a configuration, or what a person has in memory.

    Raises:
        UserError: as `load_data` and `load_text`, and for text and a network that do not go together.
    """
    given = config.data if given is None else given
    text = isinstance(given, str) and given.startswith(TEXT_PREFIX)
    if text != (config.model == TEXT) and config.model != OWN:
        wanted = f"{TEXT_PREFIX}FILE" if config.model == TEXT else f"--model {TEXT}"
        raise UserError(f"model {config.model!r} does not learn from data {config.data!r}: take {wanted}")
    if text:
        return load_text(given, config.context, config.vocabulary, config.validation)
    return load_data(
        given,
        config.validation,
        target=config.target,
        task=config.task,
        image_size=config.image_size,
        skip_damaged=config.skip_damaged,
    )


def likelihood_for(data: Data, config: Config) -> Likelihood:
    """The likelihood of the data's task, with the class weights that the configuration asks for.

    Raises:
        UserError: for class weights where there are no classes.
    """
    if data.task != "classification":
        if config.class_weight != "none":
            raise UserError(
                f"class_weight {config.class_weight!r} is for classes, {data.name} is for {data.task}: leave it out"
            )
        if data.task == "text":
            return NextToken(data.bytes_per_token)
        return Gaussian(data.target_mean, data.target_std)
    if config.class_weight == "none":
        return Categorical()
    counts = data.train.y.bincount(minlength=data.num_classes).clamp(min=1)
    return Categorical(len(data.train) / (data.num_classes * counts.float()))


def _calibration(net: nn.Module, data: Data, config: Config) -> Tensor | None:
    """Inputs for the batch norm of a network with a posterior; None where it has neither."""
    norms = any(isinstance(m, _BatchNorm) for m in net.modules())
    return data.calibration(config.augment) if norms and has_posterior(net) else None


def _trainer(net: nn.Module, data: Data, config: Config, run: Path, world: World, likelihood: Likelihood) -> Trainer:
    inputs = _calibration(net, data, config)
    optimizer = optimizer_of(net, config, len(data.train))
    cooling = getattr(config.method_options, "cooling", 1.0)
    course = Course(
        from_tasks([(data.train, data.validation or data.test)] * config.modes, data.name, data.num_outputs),
        part="test" if data.validation is None else "validation",
        calibration=inputs,
        strategy=Modes(optimizer, config.modes, cooling, inputs) if config.modes > 1 else Naive(),
    )
    description = {
        "model": config.model,
        "method": config.method,
        "num_train": len(data.train),
        "input_shape": list(data.input_shape),
        "num_outputs": data.num_outputs,
        "task": data.task,
        "target": data.target,
        "columns": [dict(column) for column in data.columns],
        "classes": list(data.classes),
        "offset": list(data.offset),
        "features": list(data.features),
        "data": data.fingerprint,
        "limits": [list(pair) for pair in data.limits],
        "image_size": data.images.size,
        "tokenizer": data.tokenizer,
        "config": settings_of(config),
    }
    if getattr(config.method_options, "prior", "uniform") == "start":
        optimizer.set_prior_to_posterior()
    return Trainer(net, optimizer, course, config, run, description, world, likelihood)


def _finished(trainer: Trainer, data: Data) -> tuple[nn.Module, dict[str, Any]]:
    """Calibrate the trained network, evaluate it, and write what is left of a run."""
    net, config, run, world = trainer.net, trainer.config, trainer.run, trainer.world
    if world.sharding == "full":  # rank 0 has a part of the network, and a whole one in the last checkpoint
        net = load_run(run, config.device)[0]
    inputs = _calibration(net, data, config)
    if isinstance(trainer.course.strategy, Modes):
        net = Modes.mixture(net, load_checkpoint(run)[1]).to(trainer.device)
    elif inputs is not None:
        calibrate_(net, inputs)
        _, training, state = load_checkpoint(run)
        save_checkpoint(run, net.state_dict(), training, state)
    result = evaluate_voters(make_voters([net], config.samples), data.test)
    write_report(run / "report.html", run_page([run], net, settings_of(config), data.test.x, result, data.classes))
    del result["figures"]  # they are drawn
    result["train_seconds"] = trainer.progress.seconds
    if "num_tokens" in result:
        done = trainer.progress.epoch * trainer.batches_per_epoch * config.batch_size * config.context
        result["train_tokens_per_second"] = done / trainer.progress.seconds
    made_with = environment() | ({"ranks": world.size} if world.size > 1 else {})
    write_text(run / "evaluation.json", json.dumps({**result, "environment": made_with}, indent=2) + "\n")
    return net.eval(), result

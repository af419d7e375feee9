"""Load a run for use."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..continual import set_task
from ..errors import UserError
from ..nn import LIKELIHOODS, likelihood_of
from ..runtime.about import About
from .checkpoint import damaged, load_checkpoint
from .config import Config, make, read_toml
from .modes import Modes
from .restore import check_description, load_state
from .start import find_device, kind_of, make_network
from .strategies import ContinualConfig


def load_run(run: Path | str, device: str = "cpu") -> tuple[nn.Module, Config, dict[str, Any]]:
    """The trained network of a run, in evaluation mode, with its configuration and description.

    The network takes inputs in the units of the data files; of a run with several posteriors it is an `nn.Mixture`.
    That of a stream is as the latest task left it, with the statistics of that task (see `continual.set_task`).

    Returns:
        (net, config, description); description holds `input_shape` and `num_outputs` of the network, and its `task`.

    Raises:
        UserError: if `run` is no run, or its checkpoint is missing, damaged or of another network.
    """
    run, found = Path(run), find_device(device)
    model, training, state = load_run_state(run)
    settings = read_toml(run / "config.toml")
    config = make(kind_of(settings), settings)
    try:
        description = state["description"]
        check_description(description, {"model": config.model, "method": config.method}, run)
        # older runs and streams lack some of these
        description = {
            "limits": [],
            "task": "classification",
            "target": "",
            "columns": [],
            "image_size": 0,
            "tokenizer": "",
        } | description
        shape, num_outputs = tuple(description["input_shape"]), description["num_outputs"]
        end = LIKELIHOODS[description["task"]]()
        begun = state["progress"]["epoch"] + (state["progress"]["batch"] > 0)
    except KeyError as error:
        raise damaged(run, error) from None
    net: nn.Module = make_network(config, shape, num_outputs, end=end).to(found)
    load_state(net, model, run)
    set_task(net, config.place(max(0, begun - 1))[0])
    if config.modes > 1:
        net = Modes.mixture(net, training)
    return net.eval(), config, {**description, "input_shape": shape}


def begin_with_(net: nn.Module, config: Config) -> None:
    """Give `net` the parameters of the run that the configuration starts from.

    Raises:
        UserError: if there is none, it is the prior's alone, it holds several posteriors, or it has another network.
    """
    if not config.start:
        if getattr(config.method_options, "prior", "uniform") == "start":
            raise UserError("prior 'start' is the posterior of a run: name it by --start RUN")
        return
    run = Path(config.start)
    model, _, state = load_run_state(run)
    several = state["description"].get("config", {}).get("modes", 1)
    if several > 1:
        raise UserError(f"{run} holds {several} posteriors, and a start is one: name a run of --modes 1")
    load_state(net, model, run)


def load_run_state(run: Path) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
    """The checkpoint of a run, see `load_checkpoint`.

    Raises:
        UserError: if `run` is no run, or its checkpoint is missing or damaged.
    """
    if run.is_file():
        raise UserError(f"{run} is a file, and a run is a folder: predict, bench and inspect take files of bits")
    if not (run / "config.toml").exists():
        raise UserError(f"{run} holds no run: train one with bayesbinn train --output {run}")
    return load_checkpoint(run)


def check_one_task(run: Path, config: Config) -> None:
    """Refuse a run whose network has to be told the task.

    Raises:
        UserError: saying what to do.
    """
    if isinstance(config, ContinualConfig):
        own = ["outputs"] * (config.head == "multi") + ["statistics"] * (config.statistics == "task")
        if own:
            raise UserError(
                f"{run} has {' and '.join(own)} of its own for each task, and no task is named here: use it from "
                "Python with training.load_run, continual.set_task and continual.task_logits"
            )


def about(net: nn.Module, description: dict[str, Any]) -> About:
    """What the network of a run is for, as its files say it."""
    classes, columns, limits = (tuple(description[name]) for name in ("classes", "columns", "limits"))
    known = limits and not columns
    return About(
        description["task"],
        description["target"],
        classes,
        likelihood_of(net).noise_std(),
        columns,
        (min(low for low, _ in limits), max(high for _, high in limits)) if known else (),
        description["image_size"],
    )

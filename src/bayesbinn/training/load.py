"""Load a run for use."""

from pathlib import Path
from typing import Any

from torch import nn

from ..errors import UserError
from .checkpoint import damaged, load_checkpoint
from .config import Config, make_config, read_toml
from .models import build_model
from .restore import check_description, load_state
from .start import binary_, find_device


def load_run(run: Path | str, device: str = "cpu") -> tuple[nn.Sequential, Config, dict[str, Any]]:
    """The trained network of a run, in evaluation mode, with its configuration and description.

    The network takes inputs in the units of the data files.

    Returns:
        (net, config, description); description holds `input_shape` and `num_classes`, of the network.

    Raises:
        UserError: if `run` is no run, or its checkpoint is missing, damaged or of another network.
    """
    run, found = Path(run), find_device(device)
    if not (run / "config.toml").exists():
        raise UserError(f"{run} holds no run: train one with bayesbinn train --output {run}")
    config = make_config(read_toml(run / "config.toml"))
    model, _, state = load_checkpoint(run)
    try:
        description = state["description"]
        check_description(description, {"model": config.model, "method": config.method}, run)
        shape, num_classes = tuple(description["input_shape"]), description["num_classes"]
    except KeyError as error:
        raise damaged(run, error) from None
    net = build_model(config, shape, num_classes)
    binary_(net, config).to(found)
    load_state(net, model, run)
    return net.eval(), config, {"limits": [], **description, "input_shape": shape}  # older runs lack limits

"""`bayesbinn evaluate`."""

import json
from pathlib import Path

import click

from ..train import evaluate as evaluate_network
from ..train import load_run
from ..train.data import load_data
from ..train.errors import UserError
from .tables import evaluation_lines


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--samples",
    default=32,
    show_default=True,
    type=click.IntRange(0),
    help="Networks drawn for the mean; 0: mode only.",
)
@click.option("--data", help="Another data set of the same shape and classes; default: the run's own.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Seed of the draws.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def evaluate(run: Path, samples: int, data: str | None, seed: int, device: str, as_json: bool) -> None:
    """Accuracy, NLL and ECE of a RUN on its test set: the mode, and the mean of posterior samples."""
    net, config, description = load_run(run, device)
    name = data or config.data
    test = load_data(name).test
    found, need = tuple(test.x.shape[1:]), description["input_shape"]
    if found != need:
        raise UserError(f"{name} has inputs of shape {found}, the network takes {need}: give data of that shape")
    classes, known = int(test.y.max()) + 1, description["num_classes"]
    if classes > known:
        raise UserError(
            f"{name} holds class {classes - 1}, the network knows 0 to {known - 1}: give data of its classes"
        )
    result = evaluate_network(net, test, samples, seed)
    click.echo(json.dumps(result, indent=2) if as_json else "\n".join(evaluation_lines(result)))

"""`bayesbinn predict`."""

import csv
import json
import sys
from pathlib import Path

import click

from ..posterior import has_posterior
from ..predict import predict as predict_network
from ..train import load_run
from ..train.data import read_inputs
from ..train.errors import UserError

COLUMNS = ("file", "index", "label", "probability", "entropy", "mutual_information")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--samples", default=32, show_default=True, help="Networks drawn for the mean; 0: the mode.")
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--json", "as_json", is_flag=True, help="A JSON object per input, with all probabilities, instead of CSV."
)
def predict(run: Path, files: tuple[Path, ...], samples: int, seed: int, device: str, as_json: bool) -> None:
    """Class, probability and uncertainty (nats) of every input in FILES (.npy, .npz with x, .png, .jpg)."""
    if samples < 0:
        raise UserError(f"--samples must be at least 0 (0 is the mode), got {samples}")
    net, _, description = load_run(run, device)
    if not has_posterior(net):
        samples = 0  # one network is all there is: its own probabilities
    inputs = {file: read_inputs(file, description["input_shape"]) for file in files}  # all readable before any output
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if not as_json:
        writer.writerow(COLUMNS)
    for file, x in inputs.items():
        p = predict_network(net, x, samples, seed=seed)
        for i, label in enumerate(p.labels.tolist()):
            numbers = (float(p.probs[i, label]), float(p.entropy[i]), float(p.mutual_information[i]))
            if as_json:
                row = dict(zip(COLUMNS, (str(file), i, label, *numbers), strict=True))
                click.echo(json.dumps(row | {"probs": p.probs[i].tolist()}))
            else:
                writer.writerow([file, i, label, *(f"{n:.4f}" for n in numbers)])

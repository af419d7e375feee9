"""`bayesbinn predict`."""

import csv
import json
import sys
from pathlib import Path

import click

from ..data import read_inputs
from ..posterior import has_posterior
from ..prediction import predict as predict_network
from ..training import load_run
from ..training.load import check_one_task
from .notes import refuse_options, show_notes

COLUMNS = ("file", "index", "label", "class", "probability", "entropy", "mutual_information")


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--samples", default=32, show_default=True, type=click.IntRange(0), help="Networks drawn for the mean; 0: the mode."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Seed of the draws.")
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--json", "as_json", is_flag=True, help="A JSON object per input, with all probabilities, instead of CSV."
)
@click.option("-q", "--quiet", is_flag=True, help="No notes.")
def predict(
    run: Path, files: tuple[Path, ...], samples: int, seed: int, device: str, as_json: bool, quiet: bool
) -> None:
    """Class, probability and uncertainty (nats) of every input in FILES (.npy, .npz with x, .csv, or an image)."""
    net, config, description = load_run(run, device)
    check_one_task(run, config)
    if not has_posterior(net):
        refuse_options(
            f"--{{}} has no effect: {run} is one network, without a posterior",
            "seed",
            *(["samples"] if samples else []),
        )
        samples = 0  # its own probabilities are all there is
    elif not samples:
        refuse_options("--{} has no effect with --samples 0: the mode is not drawn", "seed")
    classes, *known = (description[key] for key in ("classes", "input_shape", "offset", "features", "limits"))
    inputs = [(file, *read_inputs(file, *known)) for file in files]  # all, before any output
    own = [f"inputs are taken as they are, {config.data} permutes them"] * config.data.startswith("permuted-")
    show_notes([*own, *(note for _, _, notes in inputs for note in notes)], quiet)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if not as_json:
        writer.writerow(COLUMNS)
    for file, x, _ in inputs:
        p = predict_network(net, x, samples, seed=seed)
        for i, label in enumerate(p.labels.tolist()):
            numbers = (float(p.probs[i, label]), float(p.entropy[i]), float(p.mutual_information[i]))
            if as_json:
                row = dict(zip(COLUMNS, (str(file), i, label, classes[label], *numbers), strict=True))
                click.echo(json.dumps(row | {"probs": p.probs[i].tolist()}))
            else:
                writer.writerow([file, i, label, classes[label], *(f"{n:.4f}" for n in numbers)])

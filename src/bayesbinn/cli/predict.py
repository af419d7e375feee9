"""`bayesbinn predict`."""

import csv
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from .. import runtime
from ..data import read_inputs
from ..errors import UserError
from ..posterior import has_posterior
from ..prediction import predict as predict_classes
from ..prediction import predict_regression
from ..runtime.about import About
from ..training import load_run
from ..training.load import about, check_one_task
from .notes import refuse_options, show_notes

SAMPLES = 32
Row = tuple[dict[str, Any], dict[str, Any]]  # what CSV and JSON show, what JSON shows beside it


@dataclass(frozen=True)
class Predictor:
    """A RUN or a FILE.bbnn: what it is for, how it reads a file of inputs, what it says of inputs, and notes."""

    about: About
    read: Callable[[Path], tuple[Any, tuple[str, ...]]]
    predict: Callable[[Any], Any]
    notes: tuple[str, ...] = ()


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--samples",
    type=click.IntRange(0),
    help="Networks drawn for the mean; 0: the mode.  [default: 32; of a .bbnn file, all that it holds]",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Seed of the draws.")
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--json", "as_json", is_flag=True, help="A JSON object per input, with all probabilities, instead of CSV."
)
@click.option("-q", "--quiet", is_flag=True, help="No notes.")
def predict(
    run: Path, files: tuple[Path, ...], samples: int | None, seed: int, device: str, as_json: bool, quiet: bool
) -> None:
    """What a RUN or a .bbnn file says of every input in FILES (.npy, .npz with x, .csv, .parquet, or an image).

    Of a classification: class, probability and uncertainty (nats).  Of a regression: mean and standard deviation, with
    its aleatoric part (the noise of the data) and its epistemic part (what the networks disagree on).
    """
    p = _of_file(run, samples) if run.is_file() or run.suffix == ".bbnn" else _of_run(run, samples, seed, device)
    inputs, errors = _read(p, files)  # all, before any output
    show_notes([*p.notes, *(note for _, _, notes in inputs for note in notes)], quiet)
    columns, rows = ROWS[p.about.task]
    writer = csv.writer(sys.stdout, lineterminator="\n")
    if not as_json:
        writer.writerow(["file", "index", *columns])
    for file, x, _ in inputs:
        for i, (shown, more) in enumerate(rows(p.predict(x), p.about)):
            if as_json:
                click.echo(json.dumps({"file": str(file), "index": i, **shown, **more}))
            else:
                cells = (columns[name].format(value) for name, value in shown.items())
                writer.writerow([file, i, *cells])
    if errors:
        click.echo("\n".join(f"error: {error}" for error in errors), err=True)
        sys.exit(1)


def _read(p: Predictor, files: Sequence[Path]) -> tuple[list[tuple[Path, Any, tuple[str, ...]]], list[UserError]]:
    """(file, inputs, notes) of the files that can be read, and why the others cannot.

    Raises:
        UserError: if none can be read: the first reason.
    """
    inputs, errors = [], []
    for file in files:
        try:
            inputs.append((file, *p.read(file)))
        except UserError as error:
            errors.append(error)
    if not inputs:
        raise errors[0]
    return inputs, errors


def _of_run(run: Path, samples: int | None, seed: int, device: str) -> Predictor:
    net, config, description = load_run(run, device)
    check_one_task(run, config)
    if description["task"] == "text":
        raise UserError(f"{run} learned text: use bayesbinn generate {run}, or evaluate")
    known = [description[key] for key in ("input_shape", "offset", "features", "limits", "columns", "image_size")]
    count = SAMPLES if samples is None else samples
    if not has_posterior(net):
        refuse_options(
            f"--{{}} has no effect: {run} is one network, without a posterior",
            "seed",
            *(["samples"] if samples else []),
        )
        count = 0  # its own prediction is all there is
    elif not count:
        refuse_options("--{} has no effect with --samples 0: the mode is not drawn", "seed")
    permuted = [f"inputs are taken as they are, {config.data} permutes them"] * config.data.startswith("permuted-")
    ask = {"classification": predict_classes, "regression": predict_regression}[description["task"]]
    return Predictor(
        about(net, description),
        lambda file: read_inputs(file, *known),
        lambda x: ask(net, x, count, seed=seed),
        tuple(permuted),
    )


def _of_file(file: Path, samples: int | None) -> Predictor:
    refuse_options(f"--{{}} is for a run: what {file} holds was drawn when it was packed", "seed", "device")
    if not file.exists():
        raise UserError(f"no file at {file}: write one with bayesbinn export RUN --output {file}")
    try:
        net = runtime.load(file)
        count = net.num_samples if samples is None else samples
        if count > net.num_samples:
            raise UserError(f"{file} holds {net.num_samples} samples, not {count}: lower --samples, or pack more")
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None
    shape, about = net.program.input_shape, net.about
    limits = ((about.range[0], about.range[1]),) if about.range and len(shape) == 3 else ()
    ask = {"classification": net.predict_uncertainty, "regression": net.predict_regression}[net.about.task]

    def read(path: Path) -> tuple[Any, tuple[str, ...]]:
        return read_inputs(path, shape, limits=limits, columns=about.columns, image_size=about.image_size)

    def predicted(x: Any) -> Any:
        try:
            return ask(x.numpy(), count)
        except ValueError as error:
            raise UserError(f"{file}: {error}") from None

    return Predictor(about, read, predicted)


def _class_rows(p: Any, about: About) -> Iterator[Row]:
    for i, label in enumerate(p.labels.tolist()):
        name = about.classes[label] if about.classes else str(label)
        numbers = {"probability": p.probs[i, label], "entropy": p.entropy[i]}
        numbers["mutual_information"] = p.mutual_information[i]
        shown = {"label": label, "class": name, **{key: float(value) for key, value in numbers.items()}}
        yield shown, {"probs": p.probs[i].tolist()}


def _number_rows(p: Any, about: About) -> Iterator[Row]:
    for mean, sd, epistemic in zip(*(v.reshape(-1).tolist() for v in (p.mean, p.total, p.std)), strict=True):
        yield {"mean": mean, "sd": sd, "aleatoric": p.noise, "epistemic": epistemic}, {}


# of each task: the columns with their form, and the rows of a prediction
ROWS: dict[str, tuple[dict[str, str], Callable[[Any, About], Iterator[Row]]]] = {
    "classification": (
        {"label": "{}", "class": "{}", "probability": "{:.4f}", "entropy": "{:.4f}", "mutual_information": "{:.4f}"},
        _class_rows,
    ),
    "regression": (dict.fromkeys(("mean", "sd", "aleatoric", "epistemic"), "{:.6g}"), _number_rows),
}

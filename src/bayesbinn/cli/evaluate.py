"""`bayesbinn evaluate`."""

import json
from pathlib import Path
from typing import Any, get_args

import click

from ..data import Data, Examples, absolute, load_data
from ..environment import environment
from ..errors import UserError
from ..evaluation.ood import ood_inputs
from ..evaluation.report import run_page, write_report
from ..evaluation.scores import evaluate_voters
from ..evaluation.voters import Kind, make_voters
from ..training import load_run
from ..training.config import settings_of
from .notes import show_notes
from .tables import evaluation_lines


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--samples",
    default=32,
    show_default=True,
    type=click.IntRange(0),
    help="Networks drawn for the mean; 0: mode only.",
)
@click.option(
    "--voters",
    type=click.Choice(get_args(Kind)),
    help="Who is averaged; default: posterior; ensemble for several RUNs.",
)
@click.option("--data", help="Another data set of the same shape and classes; default: the run's own.")
@click.option("--ood", multiple=True, help="Inputs of another kind: a data set, or noise; may be repeated.")
@click.option("--corruptions", is_flag=True, help="Also under noise, blur and rotation at five strengths.")
@click.option(
    "--batch-norm",
    type=click.Choice(["shared", "own"]),
    default="shared",
    show_default=True,
    help="Statistics of training, or re-estimated for each network on training inputs.",
)
@click.option("--scale", is_flag=True, help="Also fit the output's temperature on the run's validation examples.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Seed of the draws.")
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--report", type=click.Path(path_type=Path), help="HTML report; default: RUN/report.html of a single RUN."
)
@click.option("--no-report", is_flag=True, help="Write no report.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No notes.")
def evaluate(
    runs: tuple[Path, ...],
    samples: int,
    voters: Kind | None,
    data: str | None,
    ood: tuple[str, ...],
    corruptions: bool,
    batch_norm: str,
    scale: bool,
    seed: int,
    device: str,
    report: Path | None,
    no_report: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Accuracy, likelihood, calibration and uncertainty on test data, printed and drawn in RUN/report.html.

    One RUN: its mode, and the mean of its posterior samples (or dropout masks, --voters dropout). Several RUNs of one
    data set: their ensemble, each network at its mode.
    """
    loaded = [load_run(run, device) for run in runs]
    net, config, description = loaded[0]
    for run, (_, _, other) in zip(runs, loaded, strict=True):
        if any(other[key] != description[key] for key in ("input_shape", "num_classes")):
            raise UserError(
                f"{run} is of other inputs or classes than {runs[0]}: an ensemble needs runs of one data set"
            )
    known = {key: description[key] for key in ("classes", "offset", "features")}
    own = load_data(config.data, config.validation, **known)
    test = own if data is None or absolute(data) == config.data else load_data(data, **known)
    show_notes([*test.notes, *_changed(own, description)], quiet)
    _check_fits(test, description)
    outside = {name: ood_inputs(name, test) for name in ood}
    calibration = own.calibration(config.augment) if batch_norm == "own" else None
    chosen = make_voters([net for net, _, _ in loaded], samples, voters, seed, calibration)
    held_out = _held_out(own, runs[0]) if scale else None
    result = evaluate_voters(chosen, test.test, ood=outside, corruptions=corruptions, held_out=held_out)
    result["environment"] = environment()
    click.echo(json.dumps(result, indent=2) if as_json else "\n".join(evaluation_lines(result)))
    if report is None and len(runs) == 1:
        report = runs[0] / "report.html"
    if report is not None and not no_report:
        page = run_page(runs, net, settings_of(config), test.test.x, result)
        write_report(report, page)
        for note in page.notes:
            click.echo(f"note: {note}", err=True)
        click.echo(f"report in {report}", err=True)


def _check_fits(data: Data, description: dict[str, Any]) -> None:
    found, need = data.input_shape, description["input_shape"]
    if found != need:
        raise UserError(f"{data.name} has inputs of shape {found}, the network takes {need}: give data of that shape")


def _changed(data: Data, description: dict[str, Any]) -> list[str]:
    then, now = description["data"], data.fingerprint
    return [] if now == then else [f"{data.name} has changed since training: {then} then, {now} now"]


def _held_out(data: Data, run: Path) -> Examples:
    if data.validation is None:
        raise UserError(
            f"--scale needs examples that {run} has not trained on, and it held none out: train with --validation 0.1"
        )
    return data.validation

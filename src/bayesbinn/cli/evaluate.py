"""`bayesbinn evaluate`."""

import json
from pathlib import Path
from typing import Any, get_args

import click

from ..data import Data, absolute
from ..data.source import some
from ..environment import environment
from ..errors import UserError
from ..evaluation.ood import ood_inputs
from ..evaluation.report import run_page, write_report
from ..evaluation.scores import evaluate_voters
from ..evaluation.voters import Kind, Voters, make_voters
from ..training import load_run
from ..training.config import settings_of
from ..training.strategies import ContinualConfig
from .notes import refuse_options, show_notes
from .run_data import Loaded, changed, data_of, held_out_of
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
    if no_report:
        refuse_options("--{} names a report and --no-report wants none: leave one of them out", "report")
    if len({run.resolve() for run in runs}) < len(runs):
        raise UserError("a RUN is given twice: its network would count twice")
    loaded = {run: load_run(run, device) for run in runs}
    for run, (_, settings, _) in loaded.items():
        if isinstance(settings, ContinualConfig):
            raise UserError(
                f"{run} learned task after task, and was measured then: see results.json and report.html there, or "
                f"give it inputs with bayesbinn predict {run} FILE"
            )
    net, config, description = loaded[runs[0]]
    _check_alike(loaded, data is None, scale, batch_norm == "own")
    own = data_of(config.data, config, description, config.validation)
    notes = changed(own, loaded)
    here = data is None or absolute(data) == config.data
    test = own if here else data_of(str(data), config, description)
    _check_fits(test, description)
    outside = {name: ood_inputs(name, test) for name in ood}
    show_notes([*test.notes, *notes, *(note for _, more in outside.values() for note in more)], quiet)
    if batch_norm == "own" and own.task == "text":
        raise UserError("--batch-norm own is for networks with batch norm, this one has none: leave it out")
    calibration = own.calibration(config.augment) if batch_norm == "own" else None
    chosen = make_voters([net for net, _, _ in loaded.values()], samples, voters, seed, calibration)
    _refuse_draws(chosen, samples)
    held_out = held_out_of(own, runs[0], notes) if scale else None
    inputs = {name: x for name, (x, _) in outside.items()}
    result = evaluate_voters(chosen, test.test, ood=inputs, corruptions=corruptions, held_out=held_out)
    result["environment"] = environment()
    click.echo(json.dumps(result, indent=2) if as_json else "\n".join(evaluation_lines(result)))
    if report is None and len(runs) == 1:
        report = runs[0] / "report.html"
    if report is not None and not no_report:
        page = run_page(runs, net, settings_of(config), test.test.x, result, test.classes)
        write_report(report, page)
        for note in page.notes:
            click.echo(f"note: {note}", err=True)
        click.echo(f"report in {report}", err=True)


def _check_alike(loaded: dict[Path, Loaded], same_data: bool, same_held_out: bool, same_augment: bool) -> None:
    """Refuse several runs that cannot be averaged, or not as it was asked for."""
    (first, (_, config, description)), *others = loaded.items()
    for run, (_, other, found) in others:
        for key in ("input_shape", "num_outputs", "task", "classes", "offset", "features"):
            if found[key] != description[key]:
                theirs, ours = (
                    some(d[key] if isinstance(d[key], list | tuple) else [d[key]]) for d in (found, description)
                )
                raise UserError(
                    f"{run} has {key.replace('_', ' ')} {theirs or 'none'}, {first} has {ours or 'none'}: "
                    "an ensemble needs runs of the same inputs and classes"
                )
        same = found["data"] == description["data"]
        if same_data and not same and other.data != config.data:
            raise UserError(
                f"{run} was trained on {other.data}, {first} on {config.data}: choose the test set by --data"
            )
        if same_held_out and not (same and other.validation == config.validation):
            raise UserError(
                f"--scale needs examples that no run has trained on, and {run} held out others than {first}: train all "
                "on the same data with the same --validation"
            )
        if same_augment and other.augment != config.augment:
            raise UserError(
                f"--batch-norm own needs one kind of training inputs: {run} has augment {other.augment!r}, {first} "
                f"{config.augment!r}"
            )


def _check_fits(data: Data, description: dict[str, Any]) -> None:
    found, need = data.input_shape, description["input_shape"]
    if found != need:
        raise UserError(f"{data.name} has inputs of shape {found}, the network takes {need}: give data of that shape")


def _refuse_draws(voters: Voters, samples: int) -> None:
    """Refuse options of draws where nothing is drawn."""
    if voters.kind == "ensemble":
        refuse_options("--{} has no effect on several runs: each is asked once, at its mode", "samples", "seed")
    elif not voters.num_samples:
        why = "the mode is not drawn" if not samples else "the run is one network, without a posterior"
        refuse_options(f"--{{}} has no effect: {why}", "seed", *(["samples"] if samples else []))

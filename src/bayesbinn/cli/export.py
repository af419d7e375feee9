"""`bayesbinn export`."""

from pathlib import Path
from typing import Any

import click
from torch import nn

from .. import deploy
from ..errors import UserError
from ..files import write_bytes
from ..nn import likelihood_of
from ..training import load_run
from ..training.load import check_one_task
from .notes import refuse_options

ENDINGS = {"bbnn": ".bbnn", "c": "-c", "onnx": ".onnx", "qonnx": ".qonnx.onnx"}


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(list(ENDINGS)), default="bbnn", show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path), help="File (folder for c); default: RUN with the format's ending."
)
@click.option("--samples", default=0, show_default=True, help="Posterior samples beside the mode (bbnn only).")
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@click.option("--activations", type=click.Choice(["int8", "int16"]), default="int8", show_default=True)
def export(run: Path, kind: str, output: Path | None, samples: int, seed: int, activations: str) -> None:
    """Write a RUN (or a .bbnn file) as bits: a .bbnn file, a folder of C, or an ONNX or QONNX model."""
    if kind == "bbnn" and run.is_file():
        raise UserError(f"{run} is a file of bits already: copy it, or choose another --format")
    if kind != "bbnn":
        refuse_options(f"--{{}} is for bbnn, the format {kind} holds the mode alone", "samples", "seed")
    if kind == "qonnx":
        refuse_options("--{} has no effect here, the activations of qonnx stay float", "activations")
    if not samples:
        refuse_options("--{} has no effect without --samples: the mode is not drawn", "seed")
    folder = (output or run).absolute().parent
    if not folder.is_dir():
        raise UserError(f"no folder at {folder}: make it, or choose another --output")
    named = run if run.name not in ("", "..") else run.resolve()
    target = output or named.with_name(named.name.removesuffix(".bbnn") + ENDINGS[kind])
    if target.resolve() == run.resolve():
        raise UserError(f"{target} is what is exported: choose another --output")
    if target.exists() and target.is_dir() != (kind == "c"):
        need, found = ("folder", "file") if kind == "c" else ("file", "folder")
        raise UserError(f"{target} is a {found}, the format {kind} is written as a {need}: choose another --output")
    raw = packed_bytes(run, samples, seed, activations)
    if kind == "bbnn":
        write_bytes(target, raw)
    elif kind == "c":
        deploy.save_c(read_program(run, raw), target)
    else:
        try:
            model = (deploy.to_onnx if kind == "onnx" else deploy.to_qonnx)(read_program(run, raw))
        except ImportError:
            raise UserError(f"the format {kind} needs the package onnx: pip install onnx") from None
        write_bytes(target, model)
    click.echo(f"wrote {target}")


def packed_bytes(run: Path, samples: int = 0, seed: int = 0, activations: str = "int8") -> bytes:
    """The bytes of a .bbnn file, or of the network of a run folder packed into one."""
    if run.is_file():
        chosen = f"--{{}} is chosen when a run is packed, and {run} is packed already: give the run folder"
        refuse_options(chosen, "samples", "seed", "activations")
        return run.read_bytes()
    if run.suffix == ".bbnn" and not run.exists():
        raise UserError(f"no file at {run}: write one with bayesbinn export RUN --output {run}")
    net, config, description = load_run(run)
    check_one_task(run, config)
    shape = tuple(description["input_shape"])
    if any(description["offset"]):
        raise UserError(
            f"{run} was trained on columns so far from 0 that their offset is subtracted before the network, which a "
            "packed file would not do: subtract it from the data yourself, and train again"
        )
    try:
        return deploy.pack(
            net,
            num_samples=samples,
            seed=seed,
            activations=activations,  # type: ignore[arg-type]
            input_shape=shape,
            about=about(net, description),
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def about(net: nn.Module, description: dict[str, Any]) -> deploy.About:
    """What the network of a run is for."""
    classes, columns = (tuple(description[name]) for name in ("classes", "columns"))
    noise = likelihood_of(net).noise_std()
    return deploy.About(description["task"], description["target"], classes, noise, columns)


def read_program(run: Path, raw: bytes) -> deploy.Program:
    """The program in the bytes of a .bbnn file; `run` names it in errors."""
    try:
        return deploy.load_program(raw)
    except deploy.FormatError as error:
        raise UserError(f"{run}: {error}") from None

"""`bayesbinn export`."""

from pathlib import Path

import click

from .. import deploy
from ..errors import UserError
from ..training import load_run


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["bbnn", "c", "onnx", "qonnx"]), default="bbnn", show_default=True)
@click.option(
    "--output", type=click.Path(path_type=Path), help="File (folder for c); default: RUN with the format's ending."
)
@click.option("--samples", default=0, show_default=True, help="Posterior samples beside the mode (bbnn only).")
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@click.option("--activations", type=click.Choice(["int8", "int16"]), default="int8", show_default=True)
def export(run: Path, kind: str, output: Path | None, samples: int, seed: int, activations: str) -> None:
    """Write a RUN (or a .bbnn file) as bits: a .bbnn file, a folder of C, or an ONNX or QONNX model."""
    if samples and kind != "bbnn":
        raise UserError(f"--samples is for bbnn, the format {kind} holds the mode alone")
    raw = packed_bytes(run, samples, seed, activations)
    program = read_program(run, raw)
    target = output or (run.with_suffix(".bbnn") if kind == "bbnn" else run.with_name(f"{run.stem}-{kind}"))
    if kind == "bbnn":
        deploy.write_atomically(target, raw)
    elif kind == "c":
        deploy.save_c(program, target)
    else:
        target = output or run.with_suffix(f".{kind}.onnx" if kind == "qonnx" else ".onnx")
        try:
            raw = deploy.to_onnx(program) if kind == "onnx" else deploy.to_qonnx(program)
        except ImportError:
            raise UserError(f"the format {kind} needs the package onnx: pip install onnx") from None
        deploy.write_atomically(target, raw)
    click.echo(f"wrote {target}")


def packed_bytes(run: Path, samples: int = 0, seed: int = 0, activations: str = "int8") -> bytes:
    """The bytes of a .bbnn file, or of the network of a run folder packed into one."""
    if run.is_file():
        return run.read_bytes()
    net, _, description = load_run(run)
    shape = tuple(description["input_shape"])
    try:
        return deploy.pack(net, num_samples=samples, seed=seed, activations=activations, input_shape=shape)  # type: ignore[arg-type]
    except ValueError as error:
        raise UserError(str(error)) from None


def read_program(run: Path, raw: bytes) -> deploy.Program:
    """The program in the bytes of a .bbnn file; `run` names it in errors."""
    try:
        return deploy.load_program(raw)
    except deploy.FormatError as error:
        raise UserError(f"{run}: {error}") from None

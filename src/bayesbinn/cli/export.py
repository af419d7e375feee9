"""`bayesbinn export`."""

import re
from pathlib import Path
from typing import Any

import click
import torch
from torch import nn

from .. import deploy
from ..deploy.c_targets import TARGETS
from ..errors import UserError
from ..files import write_bytes
from ..metrics import fit_temperature, nll, scale_probs
from ..nn import at_temperature
from ..nn.mixture import members_of
from ..posterior import has_posterior
from ..prediction import ensemble_outputs, posterior_outputs
from ..training import load_run
from ..training.config import Config
from ..training.load import about, check_one_task
from .gguf import export_gguf
from .notes import refuse_options, show_notes
from .page import page_of
from .run_data import changed, data_of, held_out_of

ENDINGS = {"bbnn": ".bbnn", "c": "-c", "web": "-web", "onnx": ".onnx", "qonnx": ".qonnx.onnx", "gguf": ".gguf"}
FOLDERS = ("c", "web")
WEB_SAMPLES = 8


def num_bytes(text: str) -> int:
    """A number of bytes: 20000, 20K or 1M (of 1,024 and 1,024² bytes)."""
    found = re.fullmatch(r"(\d+)\s*([KM]?)", text.upper().removesuffix("B"))
    if not found or not int(found[1]):
        raise click.BadParameter(f"{text!r} is no number of bytes, such as 20000 or 20K")
    return int(found[1]) << {"": 0, "K": 10, "M": 20}[found[2]]


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(list(ENDINGS)), default="bbnn", show_default=True)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="File (folder for c and web); default: RUN with the format's ending.",
)
@click.option(
    "--samples", type=int, help=f"Posterior samples beside the mode (bbnn: default 0; web: default {WEB_SAMPLES})."
)
@click.option("--seed", default=0, show_default=True, help="Seed of the draws.")
@click.option(
    "--sample", type=click.IntRange(1), help="This one of the posterior's draws, in place of the mode (gguf only)."
)
@click.option("--activations", type=click.Choice(["int6", "int8", "int16"]), default="int8", show_default=True)
@click.option(
    "--target", type=click.Choice(list(TARGETS)), default="any", show_default=True, help="Processor (c only)."
)
@click.option("--ram", type=num_bytes, help="Bytes of RAM that the network may take, as 20000 or 20K (c only).")
@click.option("--flash", type=num_bytes, help="Bytes of code and constants that it may take (c only, with --target).")
@click.option("--arduino", is_flag=True, help="The folder is a library for the Arduino IDE and PlatformIO (c only).")
@click.option(
    "--scale", is_flag=True, help="Divide the logits by the temperature that fits the run's validation examples."
)
@click.option("-q", "--quiet", is_flag=True, help="No notes.")
def export(
    run: Path,
    kind: str,
    output: Path | None,
    samples: int | None,
    seed: int,
    sample: int | None,
    activations: str,
    scale: bool,
    quiet: bool,
    **c: Any,
) -> None:
    """Write a RUN (or a .bbnn file) as bits: a .bbnn file, a folder of C, a web page, an ONNX or QONNX model, or GGUF.

    GGUF is for decoders of text (--model gpt), which llama.cpp runs.
    """
    if kind == "bbnn" and run.is_file():
        raise UserError(f"{run} is a file of bits already: copy it, or choose another --format")
    if kind == "gguf":
        refuse_options("--{} is for bbnn and web: a gguf file holds one network, see --sample", "samples")
        refuse_options("--{} has no effect here, llama.cpp chooses its activations", "activations")
        refuse_options("--{} is for classifiers, a decoder has --temperature where it generates", "scale")
    else:
        refuse_options(f"--{{}} is for gguf, not for {kind}", "sample")
    if kind not in ("bbnn", "web", "gguf"):
        refuse_options(f"--{{}} is for bbnn and web, the format {kind} holds the mode alone", "samples", "seed")
    if kind != "c":
        refuse_options(f"--{{}} is for c, not for {kind}", "target", "ram", "flash", "arduino")
    if c["flash"] is not None and c["target"] == "any":
        raise UserError("--flash needs --target: how large the code is depends on the processor")
    if kind == "qonnx":
        refuse_options("--{} has no effect here, the activations of qonnx stay float", "activations")
    if kind != "web":
        samples = samples or 0
    if kind == "gguf" and not sample:
        refuse_options("--{} has no effect without --sample: the mode is not drawn", "seed")
    if samples == 0 and kind != "gguf":
        refuse_options("--{} has no effect without --samples: the mode is not drawn", "seed")
    folder = (output or run).absolute().parent
    if not folder.is_dir():
        raise UserError(f"no folder at {folder}: make it, or choose another --output")
    named = run if run.name not in ("", "..") else run.resolve()
    target = output or named.with_name(named.name.removesuffix(".bbnn") + ENDINGS[kind])
    if target.resolve() == run.resolve():
        raise UserError(f"{target} is what is exported: choose another --output")
    if target.exists() and target.is_dir() != (kind in FOLDERS):
        need, found = ("folder", "file") if kind in FOLDERS else ("file", "folder")
        raise UserError(f"{target} is a {found}, the format {kind} is written as a {need}: choose another --output")
    if kind == "gguf":
        report = export_gguf(run, target, sample or 0, seed)
        show_notes((*report.notes, str(report)), quiet)
        click.echo(f"wrote {target}")
        return
    raw = packed_bytes(run, samples, seed, activations, quiet, scale)
    if kind == "bbnn":
        write_bytes(target, raw)
    elif kind == "web":
        page, notes = page_of(run, raw)
        show_notes(notes, quiet)
        try:
            deploy.save_web(raw, target, page)
        except ValueError as error:
            raise UserError(f"{run}: {error}") from None
        click.echo(f"wrote {target / 'index.html'}")
        return
    elif kind == "c":
        program = read_program(run, raw)
        try:
            deploy.save_c(program, target, **c)
        except ValueError as error:
            raise UserError(f"{run}: {error}") from None
        budget = deploy.c_budget(program, ram=c["ram"], target=c["target"])
        show_notes((f"it takes {budget}",), quiet)
    else:
        try:
            model = (deploy.to_onnx if kind == "onnx" else deploy.to_qonnx)(read_program(run, raw))
        except ImportError:
            raise UserError(f"the format {kind} needs the package onnx: pip install onnx") from None
        write_bytes(target, model)
    click.echo(f"wrote {target}")


def packed_bytes(
    run: Path,
    samples: int | None = 0,
    seed: int = 0,
    activations: str = "int8",
    quiet: bool = False,
    scale: bool = False,
) -> bytes:
    """The bytes of a .bbnn file, or of the network of a run folder packed into one; with `scale`, at its temperature.

    `samples` None: `WEB_SAMPLES` of them; without a posterior each member of a mixture, or none.  A mixture whose
    members are not all in the file is said.
    """
    if run.is_file():
        chosen = f"--{{}} is chosen when a run is packed, and {run} is packed already: give the run folder"
        refuse_options(chosen, "samples", "seed", "activations", "scale")
        return run.read_bytes()
    if run.suffix == ".bbnn" and not run.exists():
        raise UserError(f"no file at {run}: write one with bayesbinn export RUN --output {run}")
    net, config, description = load_run(run)
    check_one_task(run, config)
    if description["task"] == "text":
        raise UserError(
            f"{run} holds a decoder of text, which a .bbnn file and what is made of one cannot: bayesbinn export {run} "
            "--format gguf writes it for llama.cpp"
        )
    shape = tuple(description["input_shape"])
    if any(description["offset"]):
        raise UserError(
            f"{run} was trained on columns so far from 0 that their offset is subtracted before the network, which a "
            "packed file would not do: subtract it from the data yourself, and train again"
        )
    members = len(members_of(net))
    if samples is None:
        samples = WEB_SAMPLES if has_posterior(net) else members if members > 1 else 0
    if samples < members > 1:
        held = f"{samples} of them and the last one's mode" if samples else "the mode of the last"
        show_notes(
            (f"the run has {members} networks, this one holds {held}: bbnn or web with --samples {members} has all",),
            quiet,
        )
    task = about(net, description)
    if scale:
        temperature, note = _temperature(run, net, config, description, samples, seed)
        show_notes((note,), quiet)
        net = at_temperature(net, temperature)
    try:
        return deploy.pack(
            net,
            num_samples=samples,
            seed=seed,
            activations=activations,  # type: ignore[arg-type]
            input_shape=shape,
            about=task,
        )
    except ValueError as error:
        raise UserError(str(error)) from None


def _temperature(
    run: Path, net: nn.Module, config: Config, description: dict[str, Any], samples: int, seed: int
) -> tuple[float, str]:
    """The temperature that fits the validation examples of a run, and a note of it."""
    if description["task"] != "classification":
        raise UserError(f"--scale is for classifiers, {run} predicts a number: leave it out")
    data = data_of(config.data, config, description, config.validation)
    held_out = held_out_of(data, run, changed(data, {run: (net, config, description)}))
    if samples and not has_posterior(net):  # the file's networks are the members, in turn
        members = members_of(net)
        outputs = ensemble_outputs([members[i % len(members)] for i in range(samples)], held_out.x)
    else:
        outputs = posterior_outputs(net, held_out.x, samples, seed=seed)
    probs = torch.stack([z.softmax(-1) for z in outputs])
    temperature = fit_temperature(probs, held_out.y)
    mean = torch.stack([scale_probs(p, temperature) for p in probs]).mean(0)
    whose = f"the mean of {samples} networks" if samples else "the mode"
    before, after = (nll(p, held_out.y) for p in (probs.mean(0), mean))
    note = f"logits are divided by {temperature:.3f}: on {len(held_out):,} held-out examples"
    return temperature, f"{note} the NLL of {whose} is {after:.4f} nats, {before:.4f} without"


def read_program(run: Path, raw: bytes) -> deploy.Program:
    """The program in the bytes of a .bbnn file; `run` names it in errors."""
    try:
        return deploy.load_program(raw)
    except deploy.FormatError as error:
        raise UserError(f"{run}: {error}") from None

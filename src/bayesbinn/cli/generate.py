"""`bayesbinn generate`."""

import codecs
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from ..data import read_written, tokenizer_of
from ..data.tokens import Tokenizer
from ..errors import UserError
from ..runtime.decoder import Decoder
from ..runtime.generation import Sampling, Step, Stepper
from ..runtime.generation import generate as tokens_of
from ..runtime.gguf import open_gguf
from ..text import decoders_of, steps_of
from ..training import load_run
from .notes import refuse_options

SHADES = ("", "on grey19", "on dark_goldenrod", "on orange4", "on dark_red")  # from sure to unsure
# of each measure: what is shown of a token, and the nats from which the next shade begins
MEASURES: dict[str, tuple[Callable[[Step], float], tuple[float, ...]]] = {
    "entropy": (lambda step: step.entropy, (0.5, 1.0, 2.0, 3.0)),
    "mutual-information": (lambda step: step.mutual_information, (0.01, 0.05, 0.1, 0.2)),
}


@dataclass(frozen=True)
class Writer:
    """A trained network of text: who is asked, and how text becomes tokens."""

    networks: Sequence[Stepper]
    tokenizer: Tokenizer


@click.command()
@click.argument("run", metavar="RUN|FILE", type=click.Path(path_type=Path))
@click.option("--prompt", default="\n", help="The text to go on from.  [default: a new line]")
@click.option("--length", default=200, show_default=True, type=click.IntRange(1, 10**7), help="Tokens to write.")
@click.option("--temperature", default=1.0, show_default=True, type=float, help="0 takes the likeliest token.")
@click.option("--top-k", default=0, show_default=True, type=int, help="Only the K likeliest tokens; 0: all.")
@click.option("--top-p", default=1.0, show_default=True, type=float, help="Only the likeliest, P together.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of choice and draws.")
@click.option("--samples", default=0, show_default=True, type=click.IntRange(0), help="Networks drawn; 0: the mode.")
@click.option(
    "--show",
    type=click.Choice([*MEASURES, "nothing"]),
    help="Shade tokens by this, on a terminal.  [default: entropy; mutual-information with --samples]",
)
@click.option(
    "--engine",
    type=click.Choice(["packed", "torch"]),
    help="packed: one bit a weight, activations in 8 bits; torch: as in training.  [default: packed, where it can be]",
)
@click.option("--device", default="cpu", show_default=True, help="Of torch.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object per token: text, probability, uncertainty (nats).")
def generate(
    run: Path,
    prompt: str,
    length: int,
    temperature: float,
    top_k: int,
    top_p: float,
    seed: int,
    samples: int,
    show: str | None,
    engine: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Write text with a RUN of model gpt or a FILE.gguf of one, and show where it is unsure.

    With --samples, the mean of so many networks drawn from the posterior writes, and their mutual information tells
    where they differ: where the network does not know, beside where the text is open.
    """
    writer = _of_file(run, samples) if run.is_file() else _of_run(run, samples, seed, engine, device)
    start = writer.tokenizer.encode(prompt.encode()).tolist()
    if not start:
        raise UserError("the prompt is empty: give a text to go on from, such as --prompt 'To be'")
    try:
        sampling = Sampling(temperature, top_k, top_p, seed)
    except ValueError as error:
        raise UserError(str(error)) from None
    steps = tokens_of(writer.networks, start, length, sampling)
    if as_json:
        for step in steps:
            text = writer.tokenizer.decode([step.token]).decode(errors="replace")
            click.echo(json.dumps({"text": text, **vars(step)}))
        return
    _show(prompt, steps, writer.tokenizer, show or ("mutual-information" if samples else "entropy"))


def _of_run(run: Path, samples: int, seed: int, engine: str | None, device: str) -> Writer:
    net, config, description = load_run(run, device)
    if description["task"] != "text":
        raise UserError(
            f"{run} learned {config.data}, which is no text: train one with bayesbinn train text:FILE --model gpt"
        )
    if engine is None:
        whole = config.method_row.binarizer is not None and not config.real_ends
        engine = "packed" if whole and device == "cpu" else "torch"
    networks: dict[str, Callable[..., Sequence[Stepper]]] = {"packed": decoders_of, "torch": steps_of}
    try:
        return Writer(networks[engine](net, samples, seed), tokenizer_of(description["tokenizer"]))
    except ValueError as error:
        raise UserError(f"{run}: {error}") from None


def _of_file(file: Path, samples: int) -> Writer:
    refuse_options(f"--{{}} is for a run: {file} holds one network, packed", "engine", "device")
    if samples:
        raise UserError(f"--samples draws from a run, {file} holds one network: give the run, or leave it out")
    try:
        facts = open_gguf(file)[0]
        tokens, merges = (facts.get(f"tokenizer.ggml.{name}", []) for name in ("tokens", "merges"))
        return Writer([Decoder.from_gguf(file)], read_written(tokens, merges))
    except (ImportError, ValueError) as error:
        raise UserError(str(error)) from None


def _show(prompt: str, steps: Iterator[Step], tokenizer: Tokenizer, measure: str) -> None:
    console = Console(highlight=False, soft_wrap=True)
    shaded = console.is_terminal and measure != "nothing"
    characters = codecs.getincrementaldecoder("utf-8")("replace")  # a character may take several tokens
    sys.stdout.write(prompt)
    for step in steps:
        text = characters.decode(tokenizer.decode([step.token]))
        if shaded:
            of, marks = MEASURES[measure]
            console.print(Text(text, SHADES[sum(of(step) >= mark for mark in marks)]), end="")
        else:
            sys.stdout.write(text)
        sys.stdout.flush()
    sys.stdout.write(characters.decode(b"", final=True) + "\n")
    if shaded:
        marks = MEASURES[measure][1]
        legend = Text(f"{measure.replace('-', ' ')} in nats, from ")
        for mark, shade in zip(marks, SHADES[1:], strict=True):
            legend.append(f" {mark:g} ", shade)
        Console(stderr=True).print(legend)

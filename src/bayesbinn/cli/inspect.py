"""`bayesbinn inspect`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from ..evaluation.figures import network_size
from ..nn import binary_layers
from ..nn.mixture import members_of
from ..posterior import has_posterior, posterior_summary
from ..runtime.about import About, input_text
from ..training import load_run
from ..training.load import about as about_of
from .tables import table


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def inspect(run: Path, as_json: bool) -> None:
    """Layers of a RUN, their bits, and how decided the posterior is; or what a .bbnn file holds."""
    if run.is_file():
        from ..deploy import describe
        from .export import packed_bytes, read_program

        program = read_program(run, packed_bytes(run))
        held = describe(program)
        takes = input_text(program.input_shape, program.about)
        if as_json:
            said = {"about": program.about.as_json(), "input": takes}
            click.echo(json.dumps({**dataclasses.asdict(held), **said}, indent=2))
        else:
            click.echo("\n".join([str(held), f"input: {takes}", *about_lines(program.about)]))
        return
    net, config, description = load_run(run)
    binary = dict(binary_layers(net))
    summary = posterior_summary(net) if has_posterior(net) else None
    result: dict[str, Any] = {
        "model": config.model,
        "method": config.method,
        "data": config.data,
        **description,
        **network_size(net),
        "layers": [
            {"name": name, "type": type(layer).__name__, "shape": list(layer.natural.shape)}
            for name, layer in binary.items()
        ],
        "posterior": [dataclasses.asdict(p) for p in (*summary.layers, summary.total)] if summary else None,
    }
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    several = len(members_of(net))
    click.echo(
        f"{config.model} for {config.data}, trained with {config.method}"
        + (f": {several} posteriors, one after the other" if several > 1 else "")
    )
    about = about_of(net, description)
    click.echo("\n".join([f"input: {input_text(description['input_shape'], about)}", *about_lines(about)]))
    rows = [["layer", "type", "shape", "weights"]]
    for name, layer in binary.items():
        shape = "×".join(map(str, layer.natural.shape))
        rows.append([name, type(layer).__name__, shape, f"{layer.natural.numel():,}"])
    if binary:
        click.echo("\n".join(table(rows)))
    bits, full = result["bytes_as_bits"], result["bytes_as_float32"]
    click.echo(
        f"{result['binary_weights']:,} binary weights and {result['real_parameters']:,} real parameters: "
        f"{bits:,} bytes as bits, {full:,} as float32 ({full / bits:.1f}×)"
    )
    if summary:
        click.echo(f"\n{summary}")
    else:
        click.echo(f"no posterior: {config.method} learns one network")


def about_lines(about: About) -> list[str]:
    """What a file says that its network is for, a line each.

    >>> about_lines(About(target="paid", classes=("no", "yes")))
    ['classification of paid: no, yes']
    """
    what = about.task + (f" of {about.target}" if about.target else "")
    what += f": {', '.join(about.classes)}" if about.classes else ""
    what += f" with a noise of {about.noise:.4g}" if about.noise else ""
    columns = ", ".join(f"{column['name']} ({column['kind']})" for column in about.columns)
    return [what, *([f"columns: {columns}"] if columns else [])]

"""`bayesbinn bench`."""

import json
from pathlib import Path

import click

from .. import deploy
from ..errors import UserError
from ..runtime.engine import MAX_THREADS
from .export import packed_bytes, read_program
from .tables import table


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1, MAX_THREADS))
@click.option("--batch-size", "batch_sizes", multiple=True, default=(1, 64), show_default=True, type=click.IntRange(1))
@click.option("--samples", default=0, show_default=True, type=click.IntRange(0), help="Samples to pack from a RUN.")
@click.option("--rounds", default=15, show_default=True, type=click.IntRange(1), help="Turns of each engine.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def bench(run: Path, threads: int, batch_sizes: tuple[int, ...], samples: int, rounds: int, as_json: bool) -> None:
    """Latency and throughput of a RUN or .bbnn file here, beside torch, onnxruntime and openvino, interleaved."""
    program = read_program(run, packed_bytes(run, samples))
    try:
        results = deploy.bench(program, batch_sizes=batch_sizes, threads=threads, rounds=rounds)
    except ValueError as error:  # a network beyond the limits of `load`
        raise UserError(str(error)) from None
    if as_json:
        click.echo(json.dumps(results, indent=2))
        return
    rows = [["engine", "batch", "µs", "inputs/s"]]
    for r in results:
        rows.append([r["engine"], str(r["batch"]), f"{r['microseconds']:,.1f}", f"{r['inputs_per_second']:,.0f}"])
    click.echo("\n".join(table(rows)))

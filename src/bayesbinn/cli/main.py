"""The `bayesbinn` command and what its subcommands share."""

import importlib
import sys
from typing import Any

import click

from .. import __version__
from ..errors import UserError
from ..training.distributed import ranks

COMMANDS = {
    "train": "Train a network into a run folder.",
    "evaluate": "Accuracy, NLL and calibration of a run, for the mode and the mean.",
    "predict": "Classes and their uncertainty for files of inputs.",
    "generate": "Text from a run of model gpt, and where it is unsure.",
    "continual": "Learn task after task without forgetting.",
    "inspect": "Layers, bits and posterior of a run, or of a .bbnn file.",
    "export": "Write a run as bits: .bbnn, C, ONNX or QONNX.",
    "bench": "Latency of a run or .bbnn file here, beside other engines.",
    "reproduce": "Run a recipe of experiments/ and store its results.",
}


class Commands(click.Group):
    """Imports a command only when it is called, and turns the user's errors into one sentence and status 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        rank, size = ranks()
        if size > 1 and cmd_name != "train":
            if rank > 0:  # rank 0 says it
                sys.exit(2)
            raise UserError(
                f"bayesbinn {cmd_name} runs in one process, this is one of {size}: call it without torchrun"
            )
        module = importlib.import_module(f"bayesbinn.cli.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            _fail(str(error), status=2)
        except BrokenPipeError:  # `bayesbinn predict ... | head`: click ends quietly
            raise
        except OSError as error:  # a full disk, a folder that went away: nothing of ours is wrong
            _fail(str(error), status=1)
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            _fail("out of memory: take a smaller network, batch size or data set", status=1)


def _fail(message: str, status: int) -> None:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    sys.exit(status)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="bayesbinn")
def main() -> None:
    """Train networks whose weights are ±1 by the Bayesian learning rule, and know how sure they are."""

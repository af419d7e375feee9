"""The process of the command `bayesbinn`, or of `python -m bayesbinn`."""

import traceback
import warnings

from .cli import main
from .errors import UserError
from .training.distributed import end_process, ranks


def run() -> None:
    """Call the command; a rank among others ends at once, so that no thread of gloo meets an ending Python."""
    warnings.formatwarning = lambda message, *place: f"note: {message}\n"
    try:
        main()
    except SystemExit as end:
        if _alone():
            raise
        end_process(end.code if isinstance(end.code, int) else int(end.code is not None))
    except BaseException:
        if _alone():
            raise
        traceback.print_exc()
        end_process(1)


def _alone() -> bool:
    try:
        return ranks()[1] == 1
    except UserError:  # half of an environment: the command has said so
        return True


if __name__ == "__main__":
    run()

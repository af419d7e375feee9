"""Training runs: configuration, models, methods, strategies, the loop, and runs on disk."""

from ..errors import UserError as UserError
from ..evaluation.scores import evaluate as evaluate
from .config import Config as Config
from .load import load_run as load_run
from .run import fit as fit
from .run import train as train

"""Training runs: configuration, data, models, methods, the loop, and runs on disk."""

from .config import Config as Config
from .errors import UserError as UserError
from .evaluation import evaluate as evaluate
from .run import load_run as load_run
from .run import train as train

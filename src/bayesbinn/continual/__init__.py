"""Learning task after task: streams of tasks, strategies against forgetting, and metrics of the accuracy matrix."""

from ..examples import Examples as Examples
from . import metrics as metrics
from .ewc import EWC as EWC
from .heads import competitors as competitors
from .heads import multi_head as multi_head
from .heads import task_logits as task_logits
from .normalization import TaskBatchNorm as TaskBatchNorm
from .normalization import normalize_ as normalize_
from .normalization import set_task as set_task
from .strategies import Naive as Naive
from .strategies import PosteriorToPrior as PosteriorToPrior
from .strategies import Replay as Replay
from .strategies import Strategy as Strategy
from .streams import Stream as Stream
from .streams import Task as Task
from .streams import draw_batch as draw_batch
from .streams import from_tasks as from_tasks
from .streams import permuted as permuted
from .streams import rotated as rotated
from .streams import split as split

"""Data sets: read, checked, and cut into batches."""

from ..examples import Examples as Examples
from .batches import AUGMENTATIONS as AUGMENTATIONS
from .batches import batches as batches
from .batches import channels_last as channels_last
from .checks import statistics as statistics
from .inputs import read_inputs as read_inputs
from .readers import absolute as absolute
from .sets import Data as Data
from .sets import load_data as load_data
from .sets import load_tasks as load_tasks
from .sets import to_device as to_device
from .text import load_text as load_text
from .tokens import read_written as read_written
from .tokens import tokenizer_of as tokenizer_of

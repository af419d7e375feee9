"""What each of torch's modules, functions and methods becomes: operations of the format (see `docs/format.md`)."""

from typing import Any

from torch import nn

from ..builder import Handler
from . import arithmetic, attention, floats, layers, pools, recurrent, transposed, views

PARTS = (layers, pools, arithmetic, floats, views, attention, recurrent, transposed)
MODULES: dict[type[nn.Module], Handler] = {t: handler for part in PARTS for t, handler in part.MODULES.items()}
FUNCTIONS: dict[Any, Handler] = {f: handler for part in PARTS for f, handler in part.FUNCTIONS.items()}
EXPANDED = attention.EXPANDED

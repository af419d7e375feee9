"""Ship a trained network: pack its signs into a `.bbnn` file, and export it to other formats."""

from ..runtime import FormatError as FormatError
from .file import load_program as load_program
from .file import pack as pack
from .file import save as save
from .pack import pack_signs as pack_signs
from .pack import reference as reference
from .pack import unpack_signs as unpack_signs
from .plan import UnsupportedError as UnsupportedError

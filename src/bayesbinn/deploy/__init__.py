"""Ship a trained network: pack its signs into a `.bbnn` file, and export it to other formats."""

from ..runtime import About as About
from ..runtime import FormatError as FormatError
from ..runtime.program import Program as Program
from .benchmark import bench as bench
from .bits import pack_signs as pack_signs
from .bits import unpack_signs as unpack_signs
from .c_targets import Budget as Budget
from .description import Description as Description
from .description import describe as describe
from .export_c import c_budget as c_budget
from .export_c import save_c as save_c
from .export_c import to_c as to_c
from .export_onnx import to_onnx as to_onnx
from .export_onnx import to_qonnx as to_qonnx
from .export_web import Page as Page
from .export_web import save_web as save_web
from .export_web import to_web as to_web
from .file import load_program as load_program
from .file import pack as pack
from .file import save as save
from .gguf import GGUFReport as GGUFReport
from .gguf import save_gguf as save_gguf
from .gguf_reader import read_gguf as read_gguf
from .steps import UnsupportedError as UnsupportedError

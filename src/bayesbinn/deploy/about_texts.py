"""What a network is for, as the texts of other formats."""

import json

from ..runtime.about import input_text
from ..runtime.program import Program


def about_texts(program: Program) -> dict[str, str]:
    """`About` of a program as {name: text}, and under `input` what it takes: the metadata of an ONNX model.

    Texts are themselves, all else (`classes`, `range`, ...) is JSON.
    """
    about = program.about.as_json() | {"input": input_text(program.input_shape, program.about)}
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in about.items()}


def about_c(program: Program, prefix: str) -> str:
    """The lines of a C header that say what goes in and comes out; with class names, a macro PREFIX_CLASSES."""
    about = program.about
    size = "×".join(map(str, program.output_shape))
    kind = f"the mean{f' of {about.target}' if about.target else ''}" if about.task == "regression" else "logits"
    classes = f", in the order of {prefix}_CLASSES" if about.classes else ""
    text = f"x: {input_text(program.input_shape, about)}\n   y: {size} floats, {kind}{classes}"
    lines = [f"/* {text.replace('*/', '* /').replace('/*', '/ *')} */"]
    if about.classes:
        names = ", ".join(map(c_string, about.classes))
        lines.append(f"#define {prefix}_CLASSES {{{names}}} /* const char *const names[] = {prefix}_CLASSES; */")
    return "\n".join(lines)


def c_string(text: str) -> str:
    """A C string literal of the text in UTF-8.

    >>> print(c_string('Zürich "7"'))
    "Z\\303\\274rich \\"7\\""
    """
    escaped = (_character(byte) for byte in text.encode("utf-8", "surrogatepass"))
    return f'"{"".join(escaped)}"'


def _character(byte: int) -> str:
    if chr(byte) in '"\\?':  # ? begins trigraphs
        return "\\" + chr(byte)
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"

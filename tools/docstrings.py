"""For mkdocstrings: docstrings as this repository writes them, made ready for Markdown and tables.

An example (`>>>`) becomes a block of code, which Markdown would take for a quotation.  A line of several names becomes
a line for each, so that each gets its type and default.  A default that is a constant becomes its value.
"""

import importlib
import re
from typing import Any

import griffe

NAMES = re.compile(r"^( +)(\w+(?:, \w+)+):( .*)$")


def fenced(text: str) -> str:
    """`text` with a fence around each example, from its first `>>>` to the next empty line or the end."""
    lines: list[str] = []
    inside = False
    for line in [*text.splitlines(), ""]:
        if not inside and line.startswith(">>> "):
            lines.append("```pycon")
            inside = True
        elif inside and not line.strip():
            lines.append("```")
            inside = False
        lines.append(re.sub(r"\s*# doctest: .*", "", line) if inside else line)
    return "\n".join(lines).rstrip("\n")


def one_name_a_line(text: str) -> str:
    """`text` with each line `    a, b: what` of a section, and what continues it, once for every name."""
    lines, made = text.splitlines(), list[str]()
    section = False
    while lines:
        line = lines.pop(0)
        section = line.rstrip() in ("Args:", "Attributes:", "Raises:") or (section and line.startswith(" "))
        found = NAMES.match(line) if section else None
        if not found:
            made.append(line)
            continue
        indent, names, what = found.groups()
        more = []
        while lines and lines[0].startswith(indent + " "):
            more.append(lines.pop(0))
        for name in names.split(", "):
            made += [f"{indent}{name}:{what}", *more]
    return "\n".join(made)


class Docstrings(griffe.Extension):
    """Changes every docstring, and the defaults of every function."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = one_name_a_line(fenced(obj.docstring.value))
        if isinstance(obj, griffe.Function):
            for parameter in obj.parameters:
                if re.fullmatch(r"[A-Z][A-Z_]*", str(parameter.default)):
                    module = importlib.import_module(obj.module.path)
                    parameter.default = repr(getattr(module, str(parameter.default)))

"""For mkdocstrings: examples in docstrings (`>>>`) become blocks of code; Markdown would take them for quotations."""

import re
from typing import Any

import griffe


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


class Examples(griffe.Extension):
    """Fences the examples of every docstring."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called by griffe for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)

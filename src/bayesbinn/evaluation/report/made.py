"""How a result was made: the section that every page ends with."""

import json
from collections.abc import Mapping
from typing import Any

from ...environment import environment
from .page import Section, Table


def made(config: Mapping[str, Any], bytes_of: Mapping[str, int] | None = None, **facts: str) -> Section:
    """Command, versions, size and settings.

    Args:
        config: the settings by name; None is left out.
        bytes_of: of `figures.network_size`.
        facts: further rows of the table.
    """
    versions = {key: str(value) for key, value in environment().items()}
    command = versions.pop("command")
    text = ""
    if bytes_of:
        text = (
            f"{bytes_of['binary_weights']:,} binary weights and {bytes_of['real_parameters']:,} real parameters: "
            f"{size(bytes_of['bytes_as_bits'])} as bits, {size(bytes_of['bytes_as_float32'])} as float32."
        )
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in config.items() if value is not None)
    table = Table("Made with", ["", "version"], [[key, value] for key, value in {**versions, **facts}.items()])
    code = {"Command": command, "All settings": settings}
    return Section("made", "How this was made", text, table=table, code=code)


def size(num_bytes: int) -> str:
    """A number of bytes as text, to three digits.

    >>> size(123_456)
    '123 kB'
    """
    for unit, scale in (("MB", 10**6), ("kB", 10**3)):
        if num_bytes >= scale:
            value = num_bytes / scale
            return f"{value:,.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"
    return f"{num_bytes} bytes"

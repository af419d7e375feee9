"""Options: dataclass fields that know their help, their range and how to check a value.

The general settings, every model, method, estimator and strategy each have a frozen dataclass of options.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import UserError, unknown

LARGEST = 10**9  # bound on every number without one of its own: what float32 and torch's 64-bit integers can bear
KINDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def option(default: Any, help: str, minimum: float = 0, maximum: float = LARGEST, **more: Any) -> Any:
    """A dataclass field with what the command line shows of it, and what its value may be.

    Numbers lie between `minimum` and `maximum`, strictly above `above`; texts are among `choices`.
    """
    return field(default=default, metadata={"help": help, "minimum": minimum, "maximum": maximum, **more})


@dataclass(frozen=True)
class NoOptions:
    """Of what has none."""


class Row(Protocol):
    """A row of a table of choices (methods, estimators, strategies): each brings options of its own."""

    @property
    def options(self) -> type: ...


Tables = dict[str, dict[str, Row]]  # name of a setting -> what it can be -> the row


def options_of(record: Any) -> dict[str, "dataclasses.Field[Any]"]:
    """The options of a record, or of its class, by name."""
    return {f.name: f for f in dataclasses.fields(record) if "help" in f.metadata}


def checked(f: "dataclasses.Field[Any]", value: Any) -> Any:
    """A value for an option, as its type.

    Raises:
        UserError: for another type, or a value out of range.
    """
    name, kind, data = f.name, f.type, f.metadata
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise UserError(f"{name} must be {KINDS[kind]}, got {value!r}")
    if kind is str and value not in data.get("choices", [value]):
        raise unknown(name, value, data["choices"])
    if kind in (int, float):
        above = data.get("above")
        if above is not None and not value > above:  # also for NaN, as below
            raise UserError(f"{name} must be above {above}, got {value}")
        if not value >= data["minimum"]:
            raise UserError(f"{name} must be at least {data['minimum']}, got {value}")
        if not value <= data["maximum"]:
            raise UserError(f"{name} must be at most {data['maximum']}, got {value}")
    return kind(value)


def records(general: type, tables: Tables, settings: dict[str, Any]) -> dict[str, Any]:
    """The arguments of the record `general` for flat settings: its own options, and NAME_options for every choice.

    A choice, such as the method, is itself an option of `general` or of a record that an earlier choice brings.

    Raises:
        UserError: for an unknown key, one that none of the choices made takes, or a value that cannot be.
    """
    own = _taken(general, settings)
    values: dict[str, Any] = {name: f.default for name, f in options_of(general).items()} | own
    made: dict[str, str] = {}
    for what, table in tables.items():
        if what in values:  # a method may have no estimator
            made[what] = values[what]
            kind = table[values[what]].options
            own[f"{what}_options"] = record = kind(**_taken(kind, settings))
            values |= vars(record)
    for name in settings:
        if name not in values:
            raise _not_taken(name, tables, made) or unknown("setting", name, _names(general, tables))
    return own


def _taken(kind: type, settings: dict[str, Any]) -> dict[str, Any]:
    return {name: checked(f, settings[name]) for name, f in options_of(kind).items() if name in settings}


def _not_taken(name: str, tables: Tables, made: dict[str, str]) -> UserError | None:
    """The error for an option of choices that were not made."""
    found = {
        what: [choice for choice, row in table.items() if name in options_of(row.options)]
        for what, table in tables.items()
    }
    owners = {what: choices for what, choices in found.items() if choices}
    if not owners:
        return None
    what = next((what for what in owners if what in made), "method")
    whose = "; ".join(f"{what} {', '.join(choices)}" for what, choices in owners.items())
    return UserError(f"{what} {made[what]!r} takes no {name}: leave it out (it is for {whose})")


def _names(general: type, tables: Tables) -> list[str]:
    records = [general, *(row.options for table in tables.values() for row in table.values())]
    return list(dict.fromkeys(name for record in records for name in options_of(record)))

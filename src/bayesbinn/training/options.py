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


def owners(name: str, table: dict[str, Row]) -> list[str]:
    """Which rows of a table take the option `name`."""
    return [choice for choice, row in table.items() if name in options_of(row.options)]


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


def records(general: type, tables: Tables, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Flat settings as the record `general`'s options, and {choice: record of the options that it brings}.

    A choice, such as the method, is itself an option of `general` or of a record that an earlier choice brings.

    Raises:
        UserError: for an unknown key, one that none of the choices made takes, or a value that cannot be.

    """
    own = _taken(general, settings)
    values: dict[str, Any] = {name: f.default for name, f in options_of(general).items()} | own
    used, brought, chosen = set(options_of(general)), {}, {}
    for what, table in tables.items():
        if what not in values:  # such as the estimator of a method that has none
            continue
        chosen[what] = values[what]
        kind = table[values[what]].options
        brought[what] = kind(**_taken(kind, settings))
        values |= vars(brought[what])
        used |= set(options_of(kind))
    for name in settings:
        if name in used:
            continue
        takers = {what: owners(name, table) for what, table in tables.items()}
        if any(takers.values()):
            what = next(what for what, table in takers.items() if table)
            whose = f"{what} {chosen[what]!r}" if what in chosen else f"method {chosen['method']!r}"
            whom = "; ".join(f"{what} {', '.join(names)}" for what, names in takers.items() if names)
            raise UserError(f"{whose} takes no {name}: leave it out (it is for {whom})")
        every = [row.options for table in tables.values() for row in table.values()]
        raise unknown("setting", name, dict.fromkeys(name for kind in (general, *every) for name in options_of(kind)))
    return own, brought


def _taken(kind: type, settings: dict[str, Any]) -> dict[str, Any]:
    return {name: checked(f, settings[name]) for name, f in options_of(kind).items() if name in settings}

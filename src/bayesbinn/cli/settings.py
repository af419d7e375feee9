"""Command-line options made from the settings of runs, and their help by topic, with the real defaults."""

from collections.abc import Callable, Iterator
from dataclasses import Field
from pathlib import Path
from typing import Any

import click

from ..training.config import Config, make, read_toml, section_of, to_toml
from ..training.methods import DRAWN, ESTIMATORS, METHODS
from ..training.options import options_of

BAYES, STRATEGY, OTHERS = "The Bayesian rule", "Options of strategies", "Options of other methods"
LAST = "Output and machine"
TABLES = {"method": "Methods", "estimator": "Estimators of bayesbinn (--estimator)", "strategy": "Strategies"}


class Setting(click.Option):
    """An option under a topic of the help."""

    def __init__(self, *words: Any, section: str = LAST, **more: Any) -> None:
        super().__init__(*words, **more)
        self.section = section


class SettingsCommand(click.Command):
    """A command whose options are the settings of `config`; its help has a section for each topic."""

    config: type[Config] = Config

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and (record := parameter.get_help_record(ctx)):
                sections.setdefault(getattr(parameter, "section", LAST), []).append(record)
        sections[LAST] = sections.pop(LAST)
        for what, table in self.config.tables.items():
            sections[TABLES[what]] = [(name, getattr(row, "summary", "")) for name, row in table.items()]
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def settings_options(config: type[Config]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A `--setting` for every setting of `config` and of its choices, with --config, --print-config and --quiet."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for name, section, f, help in reversed(list(_described(config))):
            flag, kind = f"--{name.replace('_', '-')}", f.type
            if kind is bool:
                flag = f"{flag}/--no-{name.replace('_', '-')}"
            choices = f.metadata.get("choices")
            command = click.option(
                *(flag, name),
                type=kind,  # `training.config` checks the choices, and names the nearest
                metavar=f"[{'|'.join(choices)}]" if choices else None,
                default=None,
                help=help,
                cls=Setting,
                section=section,
            )(command)
        quiet = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
        print_config = click.option("--print-config", is_flag=True, help="Print the settings as TOML and exit.")
        file = click.Path(path_type=Path)
        recipe = click.option("--config", "recipe", type=file, help="TOML file of settings; options override it.")
        return recipe(print_config(quiet(command)))

    return decorate


def given(recipe: Path | None, options: dict[str, Any]) -> dict[str, Any]:
    """The settings that the user has given: the recipe's, overridden by the options."""
    settings = read_toml(recipe) if recipe else {}
    return settings | {name: value for name, value in options.items() if value is not None}


def printed(config: type[Config], settings: dict[str, Any]) -> str:
    """All settings in force as TOML."""
    return to_toml(make(config, settings))


def _described(config: type[Config]) -> Iterator[tuple[str, str, "Field[Any]", str]]:
    """(name, section, field, help) of every setting but `data`, those of one section together."""
    methods = list(config.tables["method"])
    for name, f in options_of(config).items():
        if name == "data":
            continue
        if name == "method":
            defaults = {"": f.default}
        else:
            defaults = {method: config.defaults({"method": method}).get(name, f.default) for method in methods}
        yield name, section_of(config, name), f, f"{f.metadata['help']}  [default: {_by_owner(defaults)}]"
    owned: dict[str, dict[str, Field[Any]]] = {}  # name -> owner -> field
    for table in config.tables.values():
        for owner, row in table.items():
            for name, f in options_of(row.options).items():
                owned.setdefault(name, {})[owner] = f
    for section in (BAYES, STRATEGY, OTHERS):
        for name, owners in owned.items():
            if section == min((_section(owner) for owner in owners), key=(BAYES, STRATEGY, OTHERS).index):
                first = next(iter(owners.values()))
                defaults = {
                    owner: config.defaults({"method": owner}).get(name, f.default) for owner, f in owners.items()
                }
                if name in DRAWN and config is Config:
                    defaults["where weights are drawn"] = DRAWN[name]
                whose = "" if methods[0] in owners else f" ({', '.join(owners)})"
                yield name, section, first, f"{first.metadata['help']}{whose}  [default: {_by_owner(defaults)}]"


def _section(owner: str) -> str:
    if owner == "bayesbinn" or owner in ESTIMATORS:
        return BAYES
    return OTHERS if owner in METHODS else STRATEGY


def _by_owner(defaults: dict[str, Any]) -> str:
    """The first owner's default, and whose differ.

    >>> _by_owner({"bayesbinn": 0.1, "ste": 0.001, "pmf": 0.001})
    '0.1; ste, pmf: 0.001'
    """
    by_value: dict[Any, list[str]] = {}
    for owner, value in defaults.items():
        by_value.setdefault(value, []).append(owner)
    (first, _), *others = by_value.items()
    return "; ".join([f"{first}", *(f"{', '.join(owners)}: {value}" for value, owners in others)])

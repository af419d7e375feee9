"""The error for everything a user can get wrong."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """Bad input: one sentence that names the value and the fix.  The commands print it and exit with status 2."""


def unknown(what: str, value: str, valid: Iterable[str]) -> UserError:
    """The error for a name that does not exist: suggests the nearest valid one.

    >>> print(unknown("method", "bayesbin", ["bayesbinn", "ste"]))
    unknown method 'bayesbin': did you mean 'bayesbinn'? (valid: bayesbinn, ste)
    """
    valid = list(valid)
    near = get_close_matches(value, valid, n=1)
    hint = f": did you mean {near[0]!r}?" if near else ""
    return UserError(f"unknown {what} {value!r}{hint} (valid: {', '.join(valid)})")

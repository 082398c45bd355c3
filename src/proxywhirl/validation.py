"""Refusing arguments of the wrong kind, in words that say what to give.

Values are not repeated where they are of the wrong kind: an argument that went astray may hold a credential.

The last functions are for what a user wrote in TOML: they read its tables, and say what is wrong with one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from proxywhirl.errors import SettingsError

if TYPE_CHECKING:  # the pool and the errors load without it
    from pathlib import Path

    from pydantic import BaseModel, ValidationError


LARGEST = 2**63 - 1
"""The largest whole number that a database holds."""

FIRST_MOMENT = -62135596800.0  # 0001-01-01T00:00:00Z
LAST_MOMENT = 253402300799.0  # 9999-12-31T23:59:59Z
_SHOWN_BITS = 128


def require(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Refuse a value of another kind; `what` says in words what it has to be.

    >>> require("rng", 5, float, "a number with a point")
    Traceback (most recent call last):
    TypeError: rng must be a number with a point, not int

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {what}, not {type(value).__name__}")


def require_several(name: str, value: object, what: str) -> None:
    """Refuse a single text where several are asked for: its characters would be taken for them.

    >>> require_several("keys", "3f1c", "keys")
    Traceback (most recent call last):
    TypeError: keys must be several keys, not one str: put it in brackets

    Raises:
        TypeError: It is one, or nothing that can be gone through.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be several {what}, not one {type(value).__name__}: put it in brackets")


def require_within(
    name: str, value: Any, low: float, high: float, what: str, *, kind: str = "a number", whole: bool = False
) -> None:
    """Refuse what is no number from `low` to `high`; `kind` and `what` say what it has to be. True is no number.

    >>> require_within("weight", float("nan"), 0, 1, "from 0 to 1")
    Traceback (most recent call last):
    ValueError: weight must be from 0 to 1, not nan

    Raises:
        TypeError: It is no number, or a `whole` one was asked for.
        ValueError: It lies outside, or is none (NaN).
    """
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise TypeError(f"{name} must be {kind}, not {type(value).__name__}")
    if not low <= value <= high:
        too_long = isinstance(value, int) and value.bit_length() > _SHOWN_BITS
        shown = f"one of {value.bit_length()} bits" if too_long else repr(value)
        raise ValueError(f"{name} must be {what}, not {shown}")


def require_moment(name: str, value: Any) -> None:
    """Refuse what is no time in Unix seconds of the years 1 to 9999. Raises as `require_within` does."""
    what = "a time in Unix seconds, of the years 1 to 9999"
    require_within(name, value, FIRST_MOMENT, LAST_MOMENT, what, kind="a time in Unix seconds")


def require_count(name: str, value: Any, *, kind: str = "a whole number") -> None:
    """Refuse what is no number from 0 to the largest that can be stored. Raises as `require_within` does."""
    require_within(name, value, 0, LARGEST, f"from 0 to {LARGEST}", kind=kind, whole=True)


def require_number(name: str, value: Any, unit: str = "", *, whole: bool = False, more: str = "") -> None:
    """Refuse what is no number of more than 0; `unit` says of what, `more` what else there is to do.

    Raises:
        TypeError: It is no number, or a `whole` one was asked for.
        ValueError: It is not more than 0.
    """
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        of = f" of {unit}" if unit else ""
        raise TypeError(f"{name} must be a {'whole ' * whole}number{of}, not {type(value).__name__}{more}")
    if not value > 0:  # so that it refuses what is not a number (NaN) too
        raise ValueError(f"{name} must be more than 0{f' {unit}' if unit else ''}, not {value!r}{more}")


def user_text(path: Path, shown: str | None = None) -> str | None:
    """Return the text of a file that a user wrote, None where there is none; a message calls it `shown`.

    Raises:
        SettingsError: It cannot be read, or is no text in UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise SettingsError(f"{shown or path} cannot be read: {reason}") from exc


def toml_tables(text: str, where: str) -> dict[str, dict[str, Any]]:
    """Return the tables of a TOML document that a user wrote, by their names.

    Raises:
        SettingsError: It is not TOML, or something in it is no table; the message names `where`.
    """
    import tomllib  # noqa: PLC0415  # the pool loads without it

    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{where} is not TOML: {exc}") from None  # the cause holds the text
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise SettingsError(f"{where}: {name} must be a table: write [{name}] and its settings below it")
    return tables


def what_is_wrong(exc: ValidationError, model: type[BaseModel]) -> str:
    """Name each wrong key of a table and what is wrong with it, without its value: that may be a secret."""
    parts = []
    for error in exc.errors(include_input=False, include_url=False):
        name = str(error["loc"][0])
        if error["type"] == "extra_forbidden":
            what = f"there is none of this name; known: {', '.join(sorted(model.model_fields))}"
        else:
            what = error["msg"].removeprefix("Value error, ")
        parts.append(f"{name}: {what}")
    return "; ".join(dict.fromkeys(parts))

"""Refusing arguments of the wrong kind, in words that say what to give.

Values are not repeated where they are of the wrong kind: an argument that went astray may hold a credential.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["require", "require_number", "require_several"]


def require(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Refuse what is not of a kind; `what` says in words what it has to be.

    >>> require("rng", 5, float, "a number with a point")
    Traceback (most recent call last):
    TypeError: rng must be a number with a point, not int

    Raises:
        TypeError: It is not.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {what}, not {type(value).__name__}")


def require_several(name: str, value: object, what: str) -> None:
    """Refuse one text where several of something are asked for: its characters would be taken for them.

    >>> require_several("keys", "3f1c", "keys")
    Traceback (most recent call last):
    TypeError: keys must be several keys, not one str: put it in brackets

    Raises:
        TypeError: It is one, or nothing that can be gone through.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise TypeError(f"{name} must be several {what}, not one {type(value).__name__}: put it in brackets")


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

"""How bans, sessions and holds are written: short JSON, under a key that can be taken apart again.

What cannot be read is a `ValueError`: it costs that record, and nothing else.
"""

from __future__ import annotations

import json
import re
from urllib.parse import quote, unquote

from proxywhirl.rotation.affinity.ledger import Assignment
from proxywhirl.rotation.sites.bans import Ban, Pair

ENDED = "null"
_PLAIN = re.compile(r"[A-Za-z0-9._:\[\]*-]*")  # as nearly all are: quoting takes longer than all the rest
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
FIRST = -62_135_596_800.0
"""The beginning of the year 1."""
FAR = 253_402_300_799.0
"""The end of the year 9999: what is for ever is written so, since JSON has no infinity."""


def bans_of(key: str) -> str:
    """Return what the key of each ban of a proxy begins with.

    >>> bans_of("6b41c3")
    '6b41c3@'
    """
    return _quoted(key) + "@"


def ban_key(pair: Pair) -> str:
    """Return the key of a ban. What parts proxy and site is in neither of them.

    >>> ban_key(("6b41c3", "[2001:db8::1]:8080"))
    '6b41c3@[2001:db8::1]:8080'
    """
    key, site = pair
    return bans_of(key) + _quoted(site)


def pair_of(text: str) -> Pair:
    """Return proxy and site of the key of a ban."""
    key, parted, site = text.partition("@")
    if not parted:
        raise ValueError("the key of a ban names no site")
    if "%" not in text:
        return key, site
    return unquote(key, errors="surrogatepass"), unquote(site, errors="surrogatepass")


def ban_text(ban: Ban) -> str:
    """Return the text of a ban."""
    return _text(min(ban.until, FAR), ban.strikes, ban.rule, min(ban.forget_at, FAR))


def ban_of(text: str) -> Ban:
    """Return the ban of a text."""
    until, strikes, rule, forget_at = _row(text, 4)
    if not isinstance(rule, str):
        raise ValueError("the rule of a ban is no text")  # noqa: TRY004  # the value is wrong, not the caller
    return Ban(_seconds(until), _number(strikes), rule, _seconds(forget_at))


def session_text(assignment: Assignment | None) -> str:
    """Return the text of a session, None for one that was ended."""
    if assignment is None:
        return ENDED
    return _text(assignment.key, assignment.since, assignment.used, assignment.moves)


def session_of(text: str) -> Assignment | None:
    """Return the session of a text."""
    if text == ENDED:
        return None
    key, since, used, moves = _row(text, 4)
    if not isinstance(key, str):
        raise ValueError("the proxy of a session is no text")  # noqa: TRY004  # the value is wrong, not the caller
    return Assignment(key, _seconds(since), _seconds(used), _number(moves))


def hold_text(token: int, until: float) -> str:
    """Return the text of a hold."""
    return _text(token, until)


def hold_of(text: str) -> tuple[int, float]:
    """Return the token of a hold and its end."""
    token, until = _row(text, 2)
    return _number(token), _seconds(until)


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote(text, safe=":[]*", errors="surrogatepass")


def _text(*fields: object) -> str:
    return _ENCODER.encode(fields)


def _row(text: str, length: int) -> list[object]:
    try:
        row = json.loads(text)
    except RecursionError as exc:
        raise ValueError("nested too deeply") from exc
    if not isinstance(row, list) or len(row) != length:
        raise ValueError(f"not a row of {length} fields")
    return row


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not FIRST <= value <= FAR:
        raise ValueError("a moment is no number of seconds, or out of all time")
    return float(value)


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("a count is no whole number")  # noqa: TRY004  # the value is wrong, not the caller
    return value

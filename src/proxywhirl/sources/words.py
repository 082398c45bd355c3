"""What the words beside a proxy mean: headings, flags, countries, levels of anonymity."""

from __future__ import annotations

import re
from functools import lru_cache

from proxywhirl.models import Anonymity, Attributes
from proxywhirl.sources.items import NOTHING_KNOWN
from proxywhirl.urls import protocol_scheme

__all__ = ["anonymity", "column_attributes", "heading_scheme"]

_LONGEST_HEADING = 120
_SEPARATORS = re.compile(r"[\s,;|:/()\[\]]+")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_SOCKS_VERSION = re.compile(r"\bsocks[ -]?v?(?=[45])", re.IGNORECASE)
_FLAGS = re.compile(r"([A-Z]{2})-([NAH])(?:-S)?!?")  # 170.0.2.1:999 CO-N-S! +
_COUNTRY = re.compile(r"(?!OK)[A-Z]{2}")
_WORD = re.compile(r"[a-z]+[0-9]?[a-z]*|[0-9]+", re.IGNORECASE)
_NO_HEADING = re.compile(
    r"://|@|[0-9]\.[0-9]+\.|\.(?!txt\b)[A-Za-z]|\w-[A-Za-z]+:[0-9]+$"
)  # an address, a link or a name in it
_HEADING_WORDS = frozenset(
    """
    a alive all and as at available by checked count date elite fast found free fresh gmt last list lists live new
    number of on online only open protocol proxies proxy public section server servers ssl the time tls total txt
    type update updated utc verified working
    """.split()  # noqa: SIM905 - words read better than a column of quotes
)
_ANONYMITY: dict[str, Anonymity] = {
    "n": "transparent",
    "noa": "transparent",
    "none": "transparent",
    "transparent": "transparent",
    "level3": "transparent",
    "a": "anonymous",
    "anm": "anonymous",
    "anonymous": "anonymous",
    "distorting": "anonymous",
    "level2": "anonymous",
    "h": "elite",
    "hia": "elite",
    "high": "elite",
    "highanonymous": "elite",
    "highanonymity": "elite",
    "highlyanonymous": "elite",
    "elite": "elite",
    "eliteproxy": "elite",
    "level1": "elite",
}


def heading_scheme(line: str) -> str | None:
    """Return the scheme that a heading sets for the bare lines below it, None where it sets none.

    A heading is made of protocols and of words that say no more than "list": `# SOCKS5 Proxies (28)`,
    `[socks4]`, `HTTPS:`. One that names two families sets nothing, and prose is no heading.
    """
    if len(line) > _LONGEST_HEADING or _NO_HEADING.search(line):
        return None
    line = _SOCKS_VERSION.sub("socks", _TAG.sub(" ", line))
    schemes = set()
    for word in _WORD.findall(line.lower()):
        scheme = protocol_scheme(word)
        if scheme:
            schemes.add(scheme)
        elif not word.isdigit() and word not in _HEADING_WORDS:
            return None
    return schemes.pop() if len(schemes) == 1 else None


def anonymity(text: str) -> Anonymity | None:
    """Return the level that a word or two name, None where they name none."""
    return _ANONYMITY.get(re.sub(r"[\s_-]", "", text.lower()))


@lru_cache(maxsize=4096)  # a list has millions of lines and a few hundred such columns
def column_attributes(columns: str) -> Attributes:
    """Take what the columns beside an endpoint tell: country and anonymity."""
    country: str | None = None
    level: Anonymity | None = None
    for word in _SEPARATORS.split(columns):
        flags = _FLAGS.fullmatch(word)
        if flags:
            country, level = country or flags[1], level or anonymity(flags[2])
        elif _COUNTRY.fullmatch(word):
            country = country or word
        elif len(word) > 1:
            level = level or anonymity(word)
    return Attributes(country=country, anonymity=level) if country or level else NOTHING_KNOWN

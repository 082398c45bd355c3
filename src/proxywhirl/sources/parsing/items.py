"""What reading a list yields: one item for each proxy, each wrong line and each line that is no proxy.

Whether a text has the shape of a proxy, so that it is an error where it is none, or is prose.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from proxywhirl.errors import ProxyURLError
from proxywhirl.models import Attributes
from proxywhirl.urls import ProxyURL, parse_first

_SURE = re.compile(r"[0-9]+(?:\.[0-9]+){3}[:\s,;|]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_LINK = re.compile(r"""["'<]*https?://[^\s/?#@:]+/[^\s/"',;|]""", re.IGNORECASE)
_CLOCK = re.compile(r"[0-9]{1,4}(?::[0-9]{2}){1,2}(?=\s|$)")
_LABEL = re.compile(r"[A-Z][A-Za-z-]*:[0-9]+")  # "Total:28" counts something; a host of one label is lower-case
_SENTENCE = re.compile(r"[A-Z][a-z]*(?:\.[a-z]+)+[ ,]+[0-9]")  # "Node.js 18", as words are written
_SHAPE = re.compile(
    r"""["'`]?(?:(?:https?|socks[45][ah]?)[\s,;|]+)?(?:"""
    r"[a-z][a-z0-9+.-]*://"  # a URL, of whatever scheme
    r"|[0-9]+(?:\.[0-9]+){3}(?![\w-])"  # four numbers
    r"|[0-9]+(?:\.[0-9]+)+:[0-9]"
    r"|\[\S*\]:\S|:[0-9]+$"
    r"|(?=[^\s@]*+@)[^\s@]*:|[^\s@]++@[^\s@]*:[0-9]"
    r"|[\w-]+(?:\.[\w-]+)+(?::|\s*[,;|]\s*)[0-9]"
    r"|[^\s:,;|]+(?::[^\s:]*)*:[^\s:]+$"  # a single word with colons in it
    r")",
    re.IGNORECASE,
)


def has_shape(text: str) -> bool:
    """Whether a line begins with what can only be meant as a proxy."""
    if _SURE.match(text):
        return True
    visible = _CONTROL.sub("", text)
    if is_link(visible) or _CLOCK.match(visible) or _LABEL.fullmatch(visible) or _SENTENCE.match(visible):
        return False
    return _SHAPE.match(visible) is not None or _parses(text)


def is_link(text: str) -> bool:
    """Whether a text is the address of a page: a web URL with a path and neither port nor credential."""
    return _LINK.match(text) is not None


def _parses(text: str) -> bool:
    """Whether a line without an obvious shape is a proxy all the same, such as `2001:db8::1 8080`."""
    try:
        parse_first(text)
    except ProxyURLError:
        return False
    return True


NOTHING_KNOWN = Attributes()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proxy that a list offers, what the list says of it, and the line (from 1) where it stands."""

    url: ProxyURL
    attributes: Attributes = NOTHING_KNOWN
    line: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line (from 1) that has the shape of a proxy and is wrong; `reason` is redacted."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A line (from 1) that is no proxy: blank, a comment, a heading, prose, a link."""

    line: int


Item = Candidate | Rejected | Ignored

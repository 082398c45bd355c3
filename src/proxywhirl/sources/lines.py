"""Read one line of a text list: the proxies in it, or why there are none.

A line that has the shape of an endpoint and is wrong is rejected; one without that shape is prose and
ignored. Nothing that looks like an endpoint is dropped silently: a line may hold several.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from proxywhirl.errors import ProxyURLError
from proxywhirl.sources.items import NOTHING_KNOWN, Candidate, Ignored, Item, Rejected
from proxywhirl.sources.words import column_attributes, heading_scheme
from proxywhirl.urls import LONGEST, parse_first, parse_plain, redact

__all__ = ["parse_line", "parse_text"]

_SURE = re.compile(r"[0-9]+(?:\.[0-9]+){3}[:\s,;|]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_COMMENT = re.compile(r"[#;]|//(?=\s|/)|--|<!|/\*")
_BULLET = re.compile(r"(?:[-*+>|\u2022\u00b7]\s+|\|)*(?:\(?[0-9]{1,7}(?:[.)]\s+|\s*[|,;]\s*|\s+)(?=[^\s:]*[.:@\[]))?")
_LINK = re.compile(r"""["'<]*https?://[^\s/?#@:]+/[^\s/"',;|]""", re.IGNORECASE)
_CLOCK = re.compile(r"[0-9]{1,4}(?::[0-9]{2}){1,2}(?=\s|$)")
_LABEL = re.compile(r"[A-Z][A-Za-z-]*:[0-9]+")  # "Total:28" counts something; a host of one label is lower-case
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
_INSIDE = re.compile(
    r"(?:^|(?<=[\s,;|(\"']))(?:(?:https?|socks4a?|socks5h?)://)?(?:[^\s,;|/@]+@)?"
    r"(?:\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]|[0-9]{1,3}(?:\.[0-9]{1,3}){3}):[0-9]+",
    re.IGNORECASE,
)


def parse_text(lines: Iterable[str], *, scheme: str = "http", first_line: int = 1) -> Iterator[Item]:
    """Read the lines of a text list; a heading sets the scheme of the bare lines below it.

    At least one item comes of each line, in the order of the lines.
    """
    for number, line in enumerate(lines, first_line):
        plain = parse_plain(line.rstrip(), scheme)
        if plain:
            yield Candidate(plain, NOTHING_KNOWN, number)
            continue
        heading = heading_scheme(line)
        if heading:
            scheme = heading
            yield Ignored(number)
        else:
            yield from parse_line(line, number, scheme=scheme)


def parse_line(line: str, number: int, *, scheme: str = "http") -> Iterator[Item]:
    """Read one line: every proxy in it, `Rejected` where one is wrong, `Ignored` where there is none."""
    text = line.strip().lstrip("\ufeff\u200b")
    if not text or _COMMENT.match(text):
        yield Ignored(number)
        return
    if len(text) > LONGEST:
        yield Rejected(number, f"too long for a proxy: {redact(text)}")
        return
    text = text[_bullet(text) :]
    before = ""
    if not _has_shape(text):
        inside = _INSIDE.search(text)
        start = inside.start() if inside else len(text)
        before, text = text[:start], text[start:]
    if not text:
        yield Ignored(number)
    while text:
        item, text = _next(text, number, scheme, before)
        yield item
        before = ""


def _next(text: str, number: int, scheme: str, before: str) -> tuple[Item, str]:
    """Read the proxy that a text begins with, and return what is left from the next one on."""
    try:
        found = parse_first(text, scheme=scheme)
    except ProxyURLError as exc:
        later = _INSIDE.search(text, len(text.split(None, 1)[0]))
        return Rejected(number, str(exc)), text[later.start() :] if later else ""
    columns = f"{before} {found.columns}" if before else found.columns
    attributes = column_attributes(columns) if columns else NOTHING_KNOWN
    return Candidate(found.url, attributes, number), found.rest


def _bullet(text: str) -> int:
    match = _BULLET.match(text)
    return match.end() if match else 0


def _has_shape(text: str) -> bool:
    """Whether a line begins with what can only be meant as a proxy."""
    if _SURE.match(text):
        return True
    visible = _CONTROL.sub("", text)
    if _LINK.match(visible) or _CLOCK.match(visible) or _LABEL.fullmatch(visible):
        return False
    return _SHAPE.match(visible) is not None or _parses(text)


def _parses(text: str) -> bool:
    """Whether a line without an obvious shape is a proxy all the same, such as `2001:db8::1 8080`."""
    try:
        parse_first(text)
    except ProxyURLError:
        return False
    return True

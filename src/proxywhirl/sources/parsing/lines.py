"""Read the lines of a text list: the proxies in each, or why there are none.

A line that has the shape of an endpoint and is wrong is rejected; one without that shape is prose and
ignored. Nothing that looks like an endpoint is dropped silently: a line may hold several. A line is read as it
stands first, and without its markup and quotation marks only where that finds no proxy.

What stands around a proxy in a line of markup, code or configuration, and how it is taken off.

Only a line in which nothing is found as it stands is undressed: a password may hold any of these characters.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator

from proxywhirl.errors import ProxyURLError
from proxywhirl.hosts import IPV4
from proxywhirl.sources.parsing.blocks import Block
from proxywhirl.sources.parsing.decode import LONGEST_LINE
from proxywhirl.sources.parsing.fields import ROLES, column_attributes, field_name, heading_scheme
from proxywhirl.sources.parsing.items import NOTHING_KNOWN, Candidate, Ignored, Item, Rejected, has_shape
from proxywhirl.sources.parsing.records import parse_object
from proxywhirl.spellings import credential_fields
from proxywhirl.urls import LONGEST, ProxyURL, parse_columns, parse_first, parse_plain, redact, words_scheme

_NO_TEXT = re.compile(  # tags, white space as code writes it, links
    r"</?[A-Za-z!][^<>]*>|\\[rnt]|https?://[^\s/?#@:]+/[^\s/\"'<>()][^\s\"'<>()]*", re.IGNORECASE
)
_BRACKETS = re.compile(r"(\[[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\])|[\[\]]")
_ORNAMENTS = re.compile(
    "[\"'`(){}<>*~=\u00ab\u00bb\u2018-\u201f\u2039\u203a\u2190-\u2bff\u3008-\u3011\ufe0f\uff08\uff09\U0001f000-\U0001faff]"
)
_WIDE = str.maketrans("\uff1a\uff0c\uff1b\uff5c", ":,;|")
_NUMBERED_PORT = re.compile(r"port[\"']?\s*[:=>]\s*[\"']?[0-9]", re.IGNORECASE)
_PAIR = re.compile(
    r"""["']?\b([A-Za-z][A-Za-z_ -]{0,30}?)["']?\s*[:=>]\s*(?:"([^"]*)"|'([^']*)'|([^\s,;|&<>{}"'()]+))"""
)
_KNOWN = frozenset().union(*map(frozenset, ROLES.values()))


def undressed(text: str) -> str:
    """Return a text without markup, quotation marks, brackets and ornaments; blanks stand in their place."""
    text = _NO_TEXT.sub("\t", text).translate(_WIDE)
    return _ORNAMENTS.sub(" ", _BRACKETS.sub(lambda match: match[1] or " ", text))


def labelled(text: str) -> list[dict[str, object]]:
    """Return the records of a line that names its fields (`IP: 203.0.113.9 PORT: 8080`), none of any other line."""
    if not _NUMBERED_PORT.search(text):
        return []
    records: list[dict[str, object]] = [{}]
    for name, *values in _PAIR.findall(text):
        label = field_name(name)
        if label not in _KNOWN:
            label = field_name(name.rsplit(None, 1)[-1])
        if label in records[-1]:
            records.append({})
        if label in _KNOWN:
            records[-1][label] = next(filter(None, values), "")
    hosts = [record for record in records if not record.keys().isdisjoint(ROLES["host"])]
    return [] if all(record.keys().isdisjoint(ROLES["port"]) for record in hosts) else hosts


CUT_OFF = f"the line is longer than {LONGEST_LINE} characters: its end was not read"

_PART = 1024  # characters: reading costs the length of what is still to come for each proxy
_COMMENT = re.compile(r"[#;]|//(?=\s|/)|--|<!|/\*")
_BULLET = re.compile(r"(?:[-*+>|\u2022\u00b7]\s+|\|)*(?:\(?[0-9]{1,7}(?:[.)]\s+|\s*[|,;]\s*|\s+)(?=[^\s:]*[.:@\[]))?")
_INSIDE = re.compile(
    r"(?:^|(?<=[\s,;|(\"'<>]))(?:(?:https?|socks4a?|socks5h?)://)?(?:[^\s,;|/@]+@)?"
    rf"(?:(?:\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]|[0-9]{{1,3}}(?:\.[0-9]{{1,3}}){{3}}):[0-9]+"
    rf"|{IPV4}\s*[\t,;|]\s*[0-9]{{1,5}}(?=\s*[\t,;|]|\s*$))"
    r"|(?:^|(?<=[\s,;|(\"'<>]))(?:https?|socks4a?|socks5h?)://[^\s/@]*@?[\w.-]+:[0-9]+(?![0-9]|/[^\s\"'])",
    re.IGNORECASE,
)


def parse_text(lines: Iterable[str], *, scheme: str = "http", first_line: int = 1) -> Iterator[Item]:
    """Read the lines of a text list; a heading sets the scheme of the bare lines below it.

    At least one item comes of each line, in the order of the lines.
    """
    block = Block()
    for number, line in enumerate(lines, first_line):
        plain = None if block.lines else parse_plain(line.rstrip(), scheme)
        if plain:
            yield Candidate(plain, NOTHING_KNOWN, number)
        elif not block.takes(number, line):
            if block.lines:
                scheme = yield from _end(block, scheme)
                block = Block()
            if not block.takes(number, line):
                scheme = yield from _alone(line, number, scheme)
    yield from _end(block, scheme)


def parse_line(line: str, number: int, *, scheme: str = "http") -> Iterator[Item]:
    """Read one line: every proxy in it, `Rejected` where one is wrong, `Ignored` where there is none."""
    text = line.strip().lstrip("\ufeff\u200b")
    if not text or _COMMENT.match(text):
        yield Ignored(number)
        return
    text = text[_bullet(text) :]
    while len(text) > LONGEST and (cut := _last_start(text)):
        yield from _read(text[:cut], number, scheme)
        text = text[cut:]
    if len(line) > LONGEST_LINE and len(text) <= LONGEST:
        yield Rejected(number, CUT_OFF)
    else:
        yield from _read(text, number, scheme)


def _end(block: Block, scheme: str) -> Generator[Item, None, str]:
    """Read a block that is complete, and return the scheme for the lines below it."""
    if not block.is_proxy:
        for number, line in block.lines:
            scheme = yield from _alone(line, number, scheme)
        return scheme
    for number, _ in block.lines:
        if number == block.endpoint:
            yield from parse_object(block.fields, number, scheme=scheme)
        else:
            yield Ignored(number)
    return scheme


def _alone(line: str, number: int, scheme: str) -> Generator[Item, None, str]:
    """Read a line that is part of no block, and return the scheme for the lines below it."""
    found = parse_columns(line.strip(), scheme)
    if found:
        yield Candidate(found.url, column_attributes(found.columns), number)
        return scheme
    heading = heading_scheme(line)
    if heading:
        yield Ignored(number)
        return heading
    yield from parse_line(line, number, scheme=scheme)
    return scheme


def _read(text: str, number: int, scheme: str) -> Iterator[Item]:
    if len(text) > LONGEST:
        yield Rejected(number, f"too long for a proxy: {redact(text)}")
        return
    records = labelled(text)
    if records:
        for record in records:
            yield from parse_object(record, number, scheme=scheme)
        return
    items = list(_proxies(text, number, scheme))
    if not all(isinstance(item, Candidate) for item in items):
        bare = undressed(text).strip()
        again = [] if bare == text else list(_proxies(bare[_bullet(bare) :], number, scheme))
        if _proxies_in(again) and (not _proxies_in(items) or _proxies_in(again) == len(again)):
            items = again
    yield from items


def _proxies_in(items: list[Item]) -> int:
    return sum(isinstance(item, Candidate) for item in items)


def _proxies(text: str, number: int, scheme: str) -> Iterator[Item]:
    """Read a text as it stands: from its beginning where that has the shape, else from the first endpoint in it."""
    before = ""
    if not has_shape(text):
        inside = _INSIDE.search(text)
        start = inside.start() if inside else len(text)
        before, text = text[:start], text[start:]
        scheme = words_scheme(before) or scheme
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
        url = found.url if found.url.username or not before else _with_credential_before(found.url, before)
    except ProxyURLError as exc:
        later = _INSIDE.search(text, len(text.split(None, 1)[0]))
        return Rejected(number, str(exc)), text[later.start() :] if later else ""
    columns = f"{before} {found.columns}" if before else found.columns
    attributes = column_attributes(columns) if columns else NOTHING_KNOWN
    return Candidate(url, attributes, number), found.rest


def _with_credential_before(url: ProxyURL, before: str) -> ProxyURL:
    """Take `user:pass` or two columns that stand before an endpoint for its credential."""
    delimiter = re.search(r"[,;|\t](?=\s*$)", before)
    words = before.strip(" \t,;|")
    if delimiter is None and (":" not in words or " " in words or not before[-1].isspace()):
        return url
    credential = credential_fields(words, delimiter and delimiter[0])
    return url.with_credential(*credential[:2]) if credential else url


def _bullet(text: str) -> int:
    match = _BULLET.match(text)
    return match.end() if match else 0


def _last_start(text: str) -> int:
    """Return where to cut a line of many: before the last endpoint of its first part, 0 where there is none."""
    for part in (_PART, LONGEST):
        cut = max((match.start() for match in _INSIDE.finditer(text, 1, part)), default=0)
        if cut:
            return cut
    return 0

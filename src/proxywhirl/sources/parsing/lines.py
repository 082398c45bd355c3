"""Read the lines of a text list: the proxies in each, or why there are none.

Rules:

- Nothing that looks like an endpoint is dropped silently. A line that has the shape of a proxy and is wrong is
  rejected; one without that shape is prose and ignored. A line may hold several proxies.
- A line is read as it stands first. Markup, brackets and quotation marks are taken off only where that finds no proxy:
  a password may hold any of these characters.
- A heading sets the scheme of the bare lines below it.
- A run of lines `name: value`, as in YAML, INI files, XML and code, is a block. It ends at a line of another form, or
  where a name comes again. A block that is no proxy is read line by line.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from functools import lru_cache

from proxywhirl.errors import ProxyURLError
from proxywhirl.hosts import IPV4
from proxywhirl.models import Anonymity, Attributes
from proxywhirl.sources.parsing.decode import LONGEST_LINE, lines_of
from proxywhirl.sources.parsing.records import (
    FIELD_NAMES,
    NOTHING_KNOWN,
    ROLES,
    Candidate,
    Ignored,
    Item,
    ParseOptions,
    Rejected,
    anonymity,
    field_name,
    is_link,
    parse_object,
)
from proxywhirl.spellings import credential_fields
from proxywhirl.urls import (
    LONGEST,
    ProxyURL,
    parse_columns,
    parse_first,
    parse_plain,
    protocol_scheme,
    redact,
    words_scheme,
)

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

_SURE = re.compile(r"[0-9]+(?:\.[0-9]+){3}[:\s,;|]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
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

_FIELD = re.compile(
    r"""\s*(-\s+)?["']?([A-Za-z][\w-]*)["']?(?:\s*=\s*|\s*:\s+)(["']?)(.*?)\3[\s,;]*"""
    r"""|\s*()<([A-Za-z][\w-]*)>\s*()([^<>]*?)\s*</\6>\s*"""
)
_ADDRESS = re.compile(r"[0-9]+(?:\.[0-9]+){3}|:[0-9]")
_MOST_LINES = 64
_LONGEST_FIELD = 1024  # characters


def parse_text(texts: Iterable[str], options: ParseOptions) -> Iterator[Item]:
    """Read a text list: at least one item comes of each line, in the order of the lines."""
    scheme = options.scheme
    block = _FieldBlock()
    for number, line in enumerate(lines_of(texts), 1):
        plain = None if block.lines else parse_plain(line.rstrip(), scheme)
        if plain:
            yield Candidate(plain, NOTHING_KNOWN, number)
            continue
        if block.takes(number, line):
            continue
        if block.lines:
            scheme = yield from _end(block, scheme)
            block = _FieldBlock()
            if block.takes(number, line):
                continue
        scheme = yield from _alone(line, number, scheme)
    if block.lines:
        yield from _end(block, scheme)


def parse_line(line: str, number: int, *, scheme: str = "http") -> Iterator[Item]:
    """Read one line: every proxy in it, `Rejected` where one is wrong, `Ignored` where there is none."""
    text = line.strip().lstrip("\ufeff\u200b")
    if not text or _COMMENT.match(text):
        yield Ignored(number)
        return
    text = _BULLET.sub("", text, count=1)
    while len(text) > LONGEST and (cut := _last_start(text)):
        yield from _read(text[:cut], number, scheme)
        text = text[cut:]
    if len(line) > LONGEST_LINE and len(text) <= LONGEST:
        yield Rejected(number, CUT_OFF)
    else:
        yield from _read(text, number, scheme)


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


class _FieldBlock:
    """The lines of one block, as far as they have come."""

    def __init__(self) -> None:
        self.fields: dict[str, object] = {}
        self.lines: list[tuple[int, str]] = []
        self.endpoint = 0  # the line that names the host

    def takes(self, number: int, line: str) -> bool:
        """Add a line that goes on with this block; False where it does not."""
        match = _FIELD.fullmatch(line) if len(line) <= _LONGEST_FIELD else None
        if match is None or (match[1] and self.lines) or len(self.lines) >= _MOST_LINES:
            return False
        name, value = match[2] or match[6], match[4] if match[2] else match[8]
        compared = field_name(name)
        if compared in self.fields or not (self.lines or match[1] or compared in FIELD_NAMES):
            return False
        if self.endpoint and compared in ROLES["url"] and _ADDRESS.search(value):
            return False  # another proxy, under another name
        if not self.endpoint and (compared in ROLES["host"] or compared in ROLES["url"]):
            self.endpoint = number
        self.fields[compared] = value
        self.lines.append((number, line))
        return True

    @property
    def is_proxy(self) -> bool:
        """Whether several lines name an endpoint and its port, or an address without one."""
        if not self.endpoint or len(self.lines) == 1:
            return False
        texts = (str(self.fields.get(name, "")) for name in ROLES["host"] + ROLES["url"])
        return not self.fields.keys().isdisjoint(ROLES["port"]) or any(map(_ADDRESS.search, texts))


def _end(block: _FieldBlock, scheme: str) -> Generator[Item, None, str]:
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
        yield Candidate(found.url, _column_attributes(found.columns), number)
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
    records = _labelled(text)
    if records:
        for record in records:
            yield from parse_object(record, number, scheme=scheme)
        return
    items = list(_proxies(text, number, scheme))
    if not all(isinstance(item, Candidate) for item in items):
        bare = _undressed(text).strip()
        again = [] if bare == text else list(_proxies(_BULLET.sub("", bare, count=1), number, scheme))
        if _proxies_in(again) and (not _proxies_in(items) or _proxies_in(again) == len(again)):
            items = again
    yield from items


def _labelled(text: str) -> list[dict[str, object]]:
    """Return the records of a line that names its fields (`IP: 203.0.113.9 PORT: 8080`), none of any other line."""
    if not _NUMBERED_PORT.search(text):
        return []
    records: list[dict[str, object]] = [{}]
    for name, *values in _PAIR.findall(text):
        label = field_name(name)
        if label not in FIELD_NAMES:
            label = field_name(name.rsplit(None, 1)[-1])
        if label in records[-1]:
            records.append({})
        if label in FIELD_NAMES:
            records[-1][label] = next(filter(None, values), "")
    hosts = [record for record in records if not record.keys().isdisjoint(ROLES["host"])]
    return [] if all(record.keys().isdisjoint(ROLES["port"]) for record in hosts) else hosts


def _undressed(text: str) -> str:
    """Return a text without markup, quotation marks, brackets and ornaments; blanks stand in their place."""
    text = _NO_TEXT.sub("\t", text).translate(_WIDE)
    return _ORNAMENTS.sub(" ", _BRACKETS.sub(lambda match: match[1] or " ", text))


def _proxies_in(items: list[Item]) -> int:
    return sum(isinstance(item, Candidate) for item in items)


def _proxies(text: str, number: int, scheme: str) -> Iterator[Item]:
    """Read a text as it stands: from its beginning where that has the shape, else from the first endpoint in it."""
    before = ""
    if not _has_shape(text):
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


def _has_shape(text: str) -> bool:
    """Whether a line begins with what can only be meant as a proxy."""
    if _SURE.match(text):
        return True
    visible = _CONTROL.sub("", text)
    if is_link(visible) or _CLOCK.match(visible) or _LABEL.fullmatch(visible) or _SENTENCE.match(visible):
        return False
    if _SHAPE.match(visible):
        return True
    try:
        parse_first(text)  # without an obvious shape, such as `2001:db8::1 8080`
    except ProxyURLError:
        return False
    return True


def _next(text: str, number: int, scheme: str, before: str) -> tuple[Item, str]:
    """Read the proxy that a text begins with, and return what is left from the next one on."""
    try:
        found = parse_first(text, scheme=scheme)
        url = found.url if found.url.username or not before else _with_credential_before(found.url, before)
    except ProxyURLError as exc:
        later = _INSIDE.search(text, len(text.split(None, 1)[0]))
        return Rejected(number, str(exc)), text[later.start() :] if later else ""
    columns = f"{before} {found.columns}" if before else found.columns
    attributes = _column_attributes(columns) if columns else NOTHING_KNOWN
    return Candidate(url, attributes, number), found.rest


def _with_credential_before(url: ProxyURL, before: str) -> ProxyURL:
    """Take `user:pass` or two columns that stand before an endpoint for its credential."""
    delimiter = re.search(r"[,;|\t](?=\s*$)", before)
    words = before.strip(" \t,;|")
    if delimiter is None and (":" not in words or " " in words or not before[-1].isspace()):
        return url
    credential = credential_fields(words, delimiter and delimiter[0])
    return url.with_credential(*credential[:2]) if credential else url


@lru_cache(maxsize=4096)  # a list has millions of lines and a few hundred such columns
def _column_attributes(columns: str) -> Attributes:
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


def _last_start(text: str) -> int:
    """Return where to cut a line of many: before the last endpoint of its first part, 0 where there is none."""
    for part in (_PART, LONGEST):
        cut = max((match.start() for match in _INSIDE.finditer(text, 1, part)), default=0)
        if cut:
            return cut
    return 0

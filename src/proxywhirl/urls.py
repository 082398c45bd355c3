"""Parse, canonicalise, key and redact proxy URLs: the only code that sees a credential inside a URL.

Rules:

- One endpoint, one text: hosts as `proxywhirl.hosts` writes them, IPv6 in brackets, the port always
  explicit. `parse(p.reveal()) == p` for every `p` that `parse` returns.
- A message never quotes its input: it holds `redact(text)`, in which nothing survives that could be a
  credential.
- The grammar of spellings is `proxywhirl.spellings`; here are the schemes, the columns and the value.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from proxywhirl.errors import ProxyURLError
from proxywhirl.hosts import IPV4
from proxywhirl.spellings import (
    BETWEEN,
    CONTROL,
    SEPARATOR,
    checked_credential,
    credential_fields,
    explain,
    host_then_port,
    is_attribute,
    joined,
)

SCHEMES = {"http": 80, "https": 443, "socks4": 1080, "socks4a": 1080, "socks5": 1080, "socks5h": 1080}

LONGEST = 4096  # characters: room for a token as password, not for a file without line ends
_MESS = " \t\r\n\v\f\xa0\xad\u1680\u180e\u2028\u2029\u202f\u205f\u2060\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x2010))
)  # copying from web pages and editors leaves these at the ends of a line

_NAME = r"([A-Za-z0-9_.-]+)"
_USERINFO = r"([A-Za-z0-9_.!$*+=~^&-]+):([A-Za-z0-9_.!$*+=~^&-]+)"
_PORT = r"(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3})"
_DOTTED = r"(?:[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?\.){1,6}[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?"
_PLAIN = re.compile(rf"(?:({'|'.join(SCHEMES)})://)?(?:{_USERINFO}@)?({IPV4}|{_DOTTED}):{_PORT}(?:/|:{_NAME}:{_NAME})?")
_PLAIN_CANONICAL = re.compile(rf"(?:{'|'.join(SCHEMES)})://(?:{IPV4}|{_DOTTED}):{_PORT}")
_COLUMNED = re.compile(rf"({IPV4})(:|{BETWEEN}){_PORT}({BETWEEN})([\w \t,;|+!()-]*)", re.ASCII)
_SCHEME = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?//")
_QUOTED_FIELD = re.compile(r"""(^|[,;|\t])[ ]*(["'`])([^"'`]*)\2(?=\s*(?:$|[,;|\t]))""")
_LEADING_PROTOCOL = re.compile(rf"(https?|socks4a?|socks5h?)(?:{BETWEEN}|:(?!//))", re.IGNORECASE)
_LABELLED = re.compile(rf"\S*[=:'\"(<>](?:{'|'.join(SCHEMES)})://", re.IGNORECASE)  # http_proxy=http://…
_COMMENT = re.compile(r"(?:^|\s)(?:#|//).*")
_ANOTHER = re.compile(
    r"(?:(?<![^\s,;|])(https?|socks4a?|socks5h?)\s+)?"
    r"((?<![\w.:@%/-])(?:(?:https?|socks4a?|socks5h?)://)?(?:[^\s,;|/@]+@)?"
    r"(?:\[[0-9A-Fa-f:.]+\]|[0-9.]+\.[0-9.]+|(?:[\w-]+\.)+[\w-]+|localhost):[0-9]+(?![\w]))",
    re.IGNORECASE,
)
_ANOTHER_APART = re.compile(rf"(?<![\w.:@%/-])(?:{IPV4}){BETWEEN}[0-9]{{1,5}}(?![\w.:-])")
_WORD = re.compile(r"[A-Za-z0-9]+(?!://)\b")
_KEPT = re.compile(
    r"(?:^|(?<=[\s:,;|]))(\[[0-9A-Fa-f:.]{2,45}\]|[0-9]{1,5}(?:\.[0-9]{1,5}){2,4})(:[0-9]{1,6})?(?![\w.-])"
)


@dataclass(frozen=True, slots=True, repr=False)
class ProxyURL:
    """A parsed proxy URL in canonical form.

    `host` is lower-case, IDNA-encoded, an IPv6 address in brackets. `repr` and `str` are redacted;
    only `reveal` gives the credential.
    """

    scheme: str
    host: str
    port: int
    username: str | None = None
    password: str | None = None

    @property
    def canonical(self) -> str:
        """`scheme://host:port`, without the credential."""
        return f"{self.scheme}://{self.host}:{self.port}"

    @property
    def key(self) -> str:
        """The identity: 16 hex digits of the SHA-256 of the canonical URL with its username."""
        identity = self.canonical
        if self.username:
            identity = f"{self.scheme}://{quote(self.username, safe='')}@{self.host}:{self.port}"
        return hashlib.sha256(identity.encode()).hexdigest()[:16]

    @property
    def label(self) -> str | None:
        """What tells sessions of one endpoint apart instead of the username; None without one."""
        return f"user-{self.key[:6]}" if self.username else None

    def with_credential(self, username: str | None, password: str | None) -> ProxyURL:
        """Return the same endpoint with a credential taken as it is, without percent-decoding.

        Raises:
            ProxyURLError: the credential holds a control character.
        """
        username, password = checked_credential(username, password)
        return ProxyURL(self.scheme, self.host, self.port, username, password)

    def reveal(self) -> str:
        """Return the whole URL, credential included and percent-encoded: never log or print it."""
        if self.username is None and self.password is None:
            return self.canonical
        userinfo = quote(self.username or "", safe="")
        if self.password is not None:
            userinfo += ":" + quote(self.password, safe="")
        return f"{self.scheme}://{userinfo}@{self.host}:{self.port}"

    def __repr__(self) -> str:
        """Return the canonical URL and the label, never the credential."""
        return (
            f"ProxyURL({self.canonical!r}, label={self.label!r})" if self.username else f"ProxyURL({self.canonical!r})"
        )

    __str__ = __repr__


class FirstProxy(NamedTuple):
    """The first proxy of a text, the columns after it, and the rest from the next proxy on."""

    url: ProxyURL
    columns: str
    rest: str


def default_port(scheme: str) -> int:
    """Return the port that a URL of `scheme` means where it names none.

    Raises:
        ProxyURLError: the scheme is none of `SCHEMES`.
    """
    port = SCHEMES.get(scheme)
    if port is None:
        raise ProxyURLError(f"unknown proxy scheme; known: {', '.join(SCHEMES)}")
    return port


def redact(text: str) -> str:
    """Return a text with nothing left in it that could be a credential: at most 80 printable characters.

    A known scheme and a numeric address with its port stay, all else is `***`; of a long text
    only the length is told.

    >>> redact("http://bob:secret@203.0.113.9:99999")
    'http://***@203.0.113.9:99999'
    """
    if len(text) > LONGEST:
        return f"({len(text)} characters)"
    body = text.strip(_MESS)
    prefix = _SCHEME.match(body)
    scheme = prefix[0].lower() if prefix and (prefix[1] or "").lower() in SCHEMES else ""
    body = body[len(scheme) :]
    start = body.rfind("@") + 1
    kept = _KEPT.search(body[start:])
    if kept is None:
        return f"{scheme}***"
    before = "***@" if start else "***" if kept.start() else ""
    after = "***" if start + kept.end() < len(body) else ""
    return f"{scheme}{before}{kept[0]}{after}"


def protocol_scheme(word: str) -> str | None:
    """Return the scheme that a word in a heading or a protocol column means; None for any other word.

    "HTTPS" there says that an HTTP proxy can tunnel, not that one speaks TLS to it: it means `http`.
    """
    scheme = word.strip().lower()
    return "http" if scheme == "https" else scheme if scheme in SCHEMES else None


def parse(text: str, *, scheme: str = "http") -> ProxyURL:
    """Read one proxy in any spelling that lists use; columns and comments after it are passed over.

    A text that names no scheme has `scheme`. Percent sequences are decoded in the forms with `@` alone;
    a userinfo ends before the last `@` that an endpoint follows, so that passwords may hold raw characters.

    >>> parse("203.0.113.9:8080:bob:s3cret").reveal()
    'http://bob:s3cret@203.0.113.9:8080'

    Raises:
        ProxyURLError: the text is no proxy, or more than one; the message is redacted.
    """
    found = parse_first(text, scheme=scheme)
    if found.rest:
        raise ProxyURLError(f"more than one proxy: {redact(text)}")
    return found.url


def parse_first(text: str, *, scheme: str = "http") -> FirstProxy:
    """Read the first proxy of a line, and tell what is left of the line.

    Raises:
        ProxyURLError: the line does not begin with a proxy; the message is redacted.
    """
    default_port(scheme)
    plain = parse_plain(text, scheme)
    if plain:
        return FirstProxy(plain, "", "")
    try:
        return _read(_clean(text), scheme)
    except ProxyURLError as exc:  # no foreign error is behind it, that could hold the text
        raise ProxyURLError(f"{exc}: {redact(text)}") from None


def parse_plain(text: str, scheme: str) -> ProxyURL | None:
    """Read the forms that most lines of most lists have, in one step; None for any other text.

    They are an IPv4 address or a dotted name and a port, with a scheme and a credential of plain characters
    or without. What is read here reads the same by the whole grammar, at a tenth of the speed.
    """
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    named, username, password, host, port, late_username, late_password = match.groups()
    if late_username:
        if username or is_attribute(late_username) or (late_password.isdigit() and "." in late_username):
            return None  # a fact perhaps, or another endpoint
        username, password = late_username, late_password
    return ProxyURL(named or scheme, host, int(port), username, password)


def is_plain_canonical(text: str) -> bool:
    """Whether a text is as `ProxyURL.canonical` writes an IPv4 address or a dotted name; of others this says nothing.

    What `parse_plain` reads without a credential is that already, once it names its scheme.
    """
    return _PLAIN_CANONICAL.fullmatch(text) is not None


def parse_columns(text: str, scheme: str) -> FirstProxy | None:
    """Read an IPv4 address, a port and columns of plain words without a credential; None for any other text.

    As `parse_plain`, this is a short cut: what is read here reads the same by the whole grammar.
    """
    match = _COLUMNED.fullmatch(text)
    if match is None:
        return None
    host, joint, port, separator, columns = match.groups()
    facts_alone, column_scheme = _plain_columns(columns, separator, joint != ":")
    return FirstProxy(ProxyURL(column_scheme or scheme, host, int(port)), columns, "") if facts_alone else None


@lru_cache(maxsize=4096)  # a list has millions of lines and a few hundred such columns
def _plain_columns(columns: str, separator: str, apart: bool) -> tuple[bool, str | None]:
    """Return whether columns hold no credential, and the scheme that they name."""
    delimiter = _delimiter(separator)
    credential = credential_fields(columns.rstrip(_MESS + ",;|"), delimiter) if apart or delimiter else None
    return credential is None, words_scheme(columns)


def _clean(text: str) -> str:
    if len(text) > LONGEST:
        raise ProxyURLError("too long for a proxy")
    body = text.strip(_MESS).rstrip(_MESS + ",;|")
    if CONTROL.search(body.replace("\t", " ")):
        raise ProxyURLError("a control character")
    return _QUOTED_FIELD.sub(r"\1\3", body)


def _read(body: str, scheme: str, *, named: bool = False) -> FirstProxy:
    """Read a clean text; `named` says that a word before it has named the protocol."""
    word = None if named else _LEADING_PROTOCOL.match(body)
    if word:
        try:
            found = _read(body[word.end() :], protocol_scheme(word[1]) or scheme, named=True)
            if found.url.username is None or found.url.password is not None:
                return found
        except ProxyURLError:
            pass
        named = False  # it was a user or a host of that name
    prefix = _SCHEME.match(body)
    explicit = prefix is not None and prefix[1] is not None
    if prefix is not None:
        scheme = prefix[1].lower() if explicit else scheme
        default_port(scheme)
        body = body[prefix.end() :]
    elif _LABELLED.match(body):
        raise ProxyURLError("something stands before the scheme")
    apart = host_then_port(body)
    reading = apart or joined(body, default_port(scheme) if explicit else None) or explain(body)
    columns, rest, delimiter = _columns(body[reading.end :], named=named, apart=apart is not None)
    if reading.username is None:
        credential = credential_fields(columns, delimiter)
        if credential and (apart or named or delimiter or len(columns.split()) == 1):
            reading, columns = reading.with_credential(*credential[:2]), credential[2]
    columns = f"{reading.word} {columns}" if reading.word else columns
    if not (explicit or named):
        scheme = words_scheme(columns) or scheme
    url = ProxyURL(scheme, reading.host, reading.port, reading.username, reading.password)
    return FirstProxy(url, columns, rest)


def _columns(tail: str, *, named: bool, apart: bool) -> tuple[str, str, str | None]:
    """Split what follows an endpoint: its columns, the rest from the next proxy on, the delimiter or None.

    `named` and `apart` tell how the endpoint was written: those that follow it on a line are written alike.
    """
    if tail.startswith("#"):
        return "", "", None
    cut = SEPARATOR.search(tail)
    delimiter = None
    start = 1 if tail[:1] in (":", "@") else 0
    if cut and (cut.start() == 0 or tail[0] in "/?"):  # after a path, if there is one
        start = cut.end()
        delimiter = _delimiter(cut[0])
    elif tail[:1] in ("/", "?"):
        start = len(tail)
    columns = _COMMENT.sub("", tail[start:])
    end = _next_proxy(columns, named=named or bool(delimiter), apart=apart)
    return columns[:end], columns[end:], delimiter


def _delimiter(separator: str) -> str | None:
    """Return the character that separates columns; None where it is blanks, that separate words too."""
    return separator.strip() or ("\t" if "\t" in separator else None)


def _next_proxy(columns: str, *, named: bool, apart: bool) -> int:
    """Return where the next proxy of a line begins: with the protocol before it, unless that ends the columns."""
    another = _ANOTHER.search(columns)
    if another is None:
        beside = _ANOTHER_APART.search(columns) if apart else None
        return beside.start() if beside else len(columns)
    before = columns[: another.start()].rstrip()
    return another.start() if before.endswith((",", ";", "|")) or (named and not before) else another.start(2)


def words_scheme(text: str) -> str | None:
    """Return the scheme that the first protocol among the words of a text means, None where there is none."""
    return next(filter(None, map(protocol_scheme, _WORD.findall(text))), None)

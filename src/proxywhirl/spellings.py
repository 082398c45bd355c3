"""The spellings of one proxy, as a grammar: text in, a reading out.

Rules:

- Readings are tried from the most to the least certain. An address proves an endpoint, a dotted name
  nearly does, a single label is one only where nothing else fits.
- A userinfo ends before the last `@` that an endpoint follows, so that passwords may hold raw characters.
- Percent sequences are decoded in the forms with `@` alone.
- What a list says of a proxy (a country, a level of anonymity, a protocol) is no credential, wherever it stands.
- A function returns None for a text that is not of its form; only `explain` says what is wrong.
"""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn
from urllib.parse import unquote

from proxywhirl.errors import ProxyURLError
from proxywhirl.hosts import IPV4, split_authority

_IPV6_GROUPS = 8
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # surrogates too: they have no UTF-8 form
BETWEEN = r"(?:\s*[,;|]\s*|\s+)"
SEPARATOR = re.compile(BETWEEN)
_HOST_THEN_PORT = re.compile(rf"([^\s,;|/@]*[^\s,;|/@:])(?:{BETWEEN}|\s+:\s*|\s*:\s+)([0-9]{{1,5}})(?=$|{BETWEEN})")
_GLUED = re.compile(  # nothing that goes on like this is part of a port, a path or a credential
    rf"(?:{IPV4}|\[[0-9A-Fa-f:.]*\]):[0-9]{{1,5}}(?=[^\w\s:@/?#.\\-]|[.-](?![0-9]))", re.ASCII
)
_AT_PROTOCOL = re.compile(r"(?:https?|socks[45][ah]?)(?![\w:.-])", re.IGNORECASE)
_PROTOCOL = re.compile(r"https?|socks[45][ah]?", re.IGNORECASE)
_BRACKETED_FIELD = re.compile(r"(?:^|(?<=:))\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\](?=[:/?#]|$)")
_PATH = re.compile(r"[/?#]")
_AFTER_AT = re.compile(r"(\[[^\]@]*\]|[^\s:/?#@\[\],;|]+)(:[0-9]*)?(?=$|[\s/?#,;|])")
_PERCENT_RUN = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ATTRIBUTE = re.compile(
    r"(?-i:[A-Z]{2}(-[NAH].*)?)|https?(/s)?|socks[45]?[ah]?"
    r"|(high[- ]?)?anonym\w*|elite|transparent|yes|no|true|false"
    r"|[-+!]+|[0-9.]+ ?(ms|s|%)"
    r"|[0-9]{1,4}[-/.][0-9]{1,2}[-/.][0-9]{1,4}(T\S*)?|[0-9]{1,2}:[0-9]{2}(:[0-9]{2}\S*)?",  # a date, a time
    re.IGNORECASE,
)
_PAIR = re.compile(r"([^\s:]+):(\S+)")
_NO_USER = re.compile(  # "ping:120", "12:30"
    r"[\W0-9]*|\$.*|[a-z]*(country|city|region|type|proto\w*|anon\w*|speed|ping|latency|delay|time|response|score|rank"
    r"|status|checked|updated|seen|last|uptime|exit|isp|org|asn?|cc|geo|ip|port|google|ssl|level)",
    re.IGNORECASE,
)


class Reading(NamedTuple):
    """One way to read a text; `host` is canonical, an IPv6 address in brackets."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    end: int = 0  # where the endpoint and its credential end; a path or columns may follow
    word: str = ""  # a protocol that stood among the fields

    def with_credential(self, username: str, password: str | None) -> Reading:
        """Add a credential, checked."""
        username_or_none, password = checked_credential(username, password)
        return self._replace(username=username_or_none, password=password)


def checked_credential(username: str | None, password: str | None) -> tuple[str | None, str | None]:
    """Return a credential in canonical form: one without a name and a password is none.

    Raises:
        ProxyURLError: it holds a control character.
    """
    if CONTROL.search(f"{username or ''}{password or ''}"):
        raise ProxyURLError("a control character in the credential")
    return (username or "", password) if username or password else (None, None)


def host_then_port(body: str) -> Reading | None:
    """`host port [user pass]` with any separator; only an address or a dotted name may be the host."""
    match = _HOST_THEN_PORT.match(body)
    if match is None:
        return None
    host = match[1]
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"  # an IPv6 address in a column of its own needs no brackets
    reading = _endpoint(f"{host}:{match[2]}", None, match.end())
    return reading if reading and _certainty(reading.host) else None


def joined(body: str, port: int | None) -> Reading | None:
    """Read the forms that hold no white space; `port` is the default, None where it must be written."""
    token = next(iter(body.split(None, 1)), "")
    head = SEPARATOR.split(token, maxsplit=1)[0]
    if "@" not in token:
        return _colons(head, port) or _glued(token)
    first = _colons(head, None)
    if first and (_is_address(first.host) or (head != token and _certainty(first.host) and "@" not in head)):
        return first
    return (
        _before_at(token, None)
        or (first if first and _certainty(first.host) else None)
        or (_before_at(token, port) if port else None)
        or _after_at(head)
        or first
        or (_colons(head, port) if "@" not in head else None)
        or _glued(token)
    )


def _before_at(token: str, port: int | None) -> Reading | None:
    """`userinfo@host:port`: the last `@` that an endpoint follows ends the userinfo."""
    at = token.rfind("@")
    while at >= 0:
        match = _AFTER_AT.match(token, at + 1)
        if match and (match[2] or port):
            found = _endpoint(match[0], port, match.end())
            if found:
                return found.with_credential(*_userinfo(token[:at]))
        at = token.rfind("@", 0, at)
    return None


def _after_at(token: str) -> Reading | None:
    """`host:port@user:pass` or `host:port@protocol`, where the host is surely one."""
    left, _, right = token.partition("@")
    found = _endpoint(left, None, len(token))
    if found is None or not _certainty(found.host):
        return None
    if _AT_PROTOCOL.match(right):
        return found._replace(end=len(left))
    if ":" not in right:
        return None
    return found.with_credential(*_userinfo(right))


def _colons(head: str, port: int | None) -> Reading | None:
    """`host:port`, `host:port:user:pass` or `user:pass:host:port`; the surer host decides."""
    fields = _BRACKETED_FIELD.sub(lambda match: match[0].replace(":", "\0"), head).split(":")
    fields = [field.replace("\0", ":") for field in fields]
    left = right = None
    if len(fields) >= 4:  # noqa: PLR2004 - host, port, user, password
        left = _endpoint(f"{fields[0]}:{fields[1]}", None, len(head))
        if left and _is_address(left.host):
            return _late_credential(left, fields)
        right = _endpoint(f"{fields[-2]}:{_PATH.split(fields[-1])[0]}", None, len(head))
    if left and not (right and _certainty(right.host) > _certainty(left.host)):
        return _late_credential(left, fields)
    if right:
        return right.with_credential(fields[0], ":".join(fields[1:-2]))
    bare = _PATH.split(head, maxsplit=1)[0]
    found = _endpoint(bare, port, len(bare))
    if found is None and len(fields) == 3 and _ATTRIBUTE.fullmatch(fields[2]):  # noqa: PLR2004 - host:port:country
        found = _endpoint(f"{fields[0]}:{fields[1]}", None, len(head) - len(fields[2]) - 1)
    return found


def _late_credential(found: Reading, fields: list[str]) -> Reading:
    """Take what follows `host:port:` for a user and a password, unless the list tells facts there."""
    late = fields[2:]
    if all(map(is_attribute, late)):
        return found._replace(end=found.end - len(":".join(late)) - 1)
    word = ""
    if len(late) > 2:  # noqa: PLR2004 - a pair and a protocol, before or behind it
        if _PROTOCOL.fullmatch(late[0]):
            word = late.pop(0)
        elif _PROTOCOL.fullmatch(late[-1]):
            word = late.pop()
    return found.with_credential(late[0], ":".join(late[1:]))._replace(word=word)


def _glued(token: str) -> Reading | None:
    """Read an address and a port with something behind them that can belong to neither, `:80->US`, `:80<br>`."""
    match = _GLUED.match(token)
    return _endpoint(match[0], None, match.end()) if match else None


def _endpoint(authority: str, port: int | None, end: int) -> Reading | None:
    try:
        host, number = split_authority(authority, port)
    except ProxyURLError:
        return None  # not this reading; where none fits, _explain says why
    return Reading(f"[{host}]" if ":" in host else host, number, end=end)


def _is_address(host: str) -> bool:
    return host.startswith("[") or host.replace(".", "").isdigit()


def _certainty(host: str) -> int:
    """How surely a canonical host is meant as one: an address 2, a dotted name 1, a single label 0."""
    return 2 if _is_address(host) else 1 if "." in host or host == "localhost" else 0


def _userinfo(text: str) -> tuple[str, str | None]:
    username, colon, password = text.partition(":")
    return _decode(username), _decode(password) if colon else None


def _decode(text: str) -> str:
    """Decode percent sequences; malformed ones and those that are not UTF-8 stay as they are."""

    def decoded(match: re.Match[str]) -> str:
        try:
            return unquote(match[0], errors="strict")
        except UnicodeDecodeError:
            return match[0]  # a raw password may hold anything

    return _PERCENT_RUN.sub(decoded, text)


def explain(body: str) -> NoReturn:
    """Say what is wrong with a text that no reading fits."""
    tail = _PATH.split(SEPARATOR.split(body.rpartition("@")[2], maxsplit=1)[0], maxsplit=1)[0]
    fields = tail.split(":")
    if ("::" in tail or len(fields) > _IPV6_GROUPS) and not tail.startswith("["):
        raise ProxyURLError("an IPv6 address must stand in brackets, followed by :port")
    if len(fields) == 3 and not tail.startswith("["):  # noqa: PLR2004 - a credential or an endpoint, one of them cut short
        raise ProxyURLError("three fields: write host:port, user@host:port or host:port:user:pass")
    if len(fields) > 3 and not tail.startswith("["):  # noqa: PLR2004 - an endpoint and a credential
        tail = ":".join(fields[-2:] if fields[-1].isdigit() else fields[:2])
    split_authority(tail)
    raise ProxyURLError("not in a known spelling")


def is_attribute(field: str) -> bool:
    """Whether a field states a fact about a proxy: a country, a protocol, a level, a latency, yes or no."""
    return _ATTRIBUTE.fullmatch(field) is not None


def credential_fields(columns: str, delimiter: str | None) -> tuple[str, str, str] | None:
    """Take one `user:pass` or two columns for a credential, unless they are facts about the proxy; else None.

    Protocols before or behind them come as the third value. The delimiter is None where blanks separate words.
    """
    fields = [field.strip() for field in columns.split(delimiter)]
    protocols = " ".join(filter(_PROTOCOL.fullmatch, fields))
    fields = [field for field in fields if field and not _PROTOCOL.fullmatch(field)]
    if any(map(is_attribute, fields)) or "".join(fields).isdigit():
        return None
    if len(fields) == 1:
        pair = _PAIR.fullmatch(fields[0])
        if pair is None or _NO_USER.fullmatch(pair[1]) or any(map(is_attribute, pair.groups())):
            return None
        return pair[1], pair[2], protocols
    if len(fields) != 2 or all(field.istitle() or " " in field for field in fields):  # noqa: PLR2004 - a pair
        return None  # "Germany,Frankfurt am Main" is none
    return fields[0], fields[1], protocols

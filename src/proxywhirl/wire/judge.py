"""The conversation with a judge, both sides: a server that tells each asker how its request arrived.

Rules: every question has a nonce of its own in a header, so that an answer from a cache, or one that a proxy made up,
is found out even where the URL is the same. The answer never repeats a secret: of headers that carry credentials the
name is told and the value withheld. Nothing follows the answer on its connection.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Self

import h11

from proxywhirl.errors import AccountRefused, ForgedAnswer, LocalFailure, ProxyFailed, ProxyURLError, TargetUnreachable
from proxywhirl.models import Anonymity, Target
from proxywhirl.wire.steps import Handshake, ReceiveSome, Send

ANSWER_LIMIT = 64 * 1024
"""How many bytes a judge's whole answer may have, head and body."""

NONCE_HEADER = "Probe-Nonce"
"""A header that no proxy knows, and that each must pass on for that very reason (RFC 9110 section 5.1)."""

_LONGEST_NONCE = 64  # characters: a judge repeats no more than that
_LONGEST_VALUE = 1024  # characters of each header's value
_QUESTION_HEADERS = frozenset({"accept", "connection", "host", NONCE_HEADER.lower()})
_SECRET = frozenset({"authorization", "cookie", "proxy-authorization"})
_CHUNK = 16 * 1024  # bytes
_ADDRESSES = re.compile(r"[0-9A-Fa-f:.]{2,45}")
_PORT = re.compile(r":[0-9]{1,5}$")


@dataclass(frozen=True, slots=True)
class Judge:
    """Where a judge is: a target, and the path with its query."""

    target: Target
    path: str = "/"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read an absolute http or https URL.

        >>> Judge.parse("http://127.0.0.1:8898/judge")
        Judge(target=Target(scheme='http', host='127.0.0.1', port=8898), path='/judge')

        Raises:
            ProxyURLError: It is none, has a credential, or its path is not printable ASCII.
        """
        target = Target.parse(url)
        authority, slash, rest = url.partition("://")[2].partition("#")[0].partition("/")
        if "@" in authority or "?" in authority:
            raise ProxyURLError("a judge's URL is http://host:port/path, without a credential")
        path = slash + rest or "/"
        if not (path.isascii() and path.isprintable()) or " " in path:
            raise ProxyURLError(
                "a judge's path must be printable ASCII without spaces: encode the rest with percent signs"
            )
        return cls(target, path)

    @property
    def url(self) -> str:
        """The absolute URL, its port explicit."""
        return f"{self.target.scheme}://{self.target.authority}{self.path}"


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a judge saw: the address that its connection came from, and the request's headers in order.

    A value is None where the judge withheld it.
    """

    address: str
    headers: tuple[tuple[str, str | None], ...]


def question(judge: Judge, nonce: str, *, absolute: bool, authorization: str | None = None) -> Handshake[Sighting]:
    """Ask a judge how this very request arrives, to the end of its answer.

    Args:
        judge: Whom to ask.
        nonce: What the judge must repeat: fresh for each question, at most 64 characters of printable ASCII.
        absolute: Write the whole URL into the request, as an HTTP proxy wants it (RFC 9112 section 3.2.2).
        authorization: The value of Proxy-Authorization, for an HTTP proxy alone.

    Raises:
        ProxyFailed: The answer is no HTTP, cut short or too long.
        ForgedAnswer: It is no judge's, or one to another question.
        AccountRefused: 407, or 402.
        TargetUnreachable: Any other 4xx or 5xx.
        LocalFailure: The question cannot be written as a request.
    """
    protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=ANSWER_LIMIT)
    yield Send(_request(protocol, judge, nonce, absolute=absolute, authorization=authorization))
    status, body, room, begun = 0, b"", ANSWER_LIMIT, False
    while True:
        try:
            event = protocol.next_event()
        except h11.RemoteProtocolError:  # its text quotes the answer
            raise ProxyFailed("cut the judge's answer short" if status else "answered with no HTTP response") from None
        if event is h11.NEED_DATA:
            data = yield ReceiveSome(min(_CHUNK, room))
            if not begun and not b"HTTP/".startswith(data[:5]):
                raise ProxyFailed("answered with no HTTP response")
            if not begun and not data:
                raise ProxyFailed("closed the connection without an answer")
            begun, room = True, room - len(data)
            if room <= 0:
                raise ProxyFailed(f"answered for the judge with more than {ANSWER_LIMIT} bytes")
            protocol.receive_data(data)
        elif isinstance(event, h11.Response):
            status = event.status_code
            _refuse(status)
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return _sighting(body, nonce)


def _request(protocol: h11.Connection, judge: Judge, nonce: str, *, absolute: bool, authorization: str | None) -> bytes:
    headers = [("Host", judge.target.authority), ("Accept", "application/json"), (NONCE_HEADER, nonce)]
    headers.append(("Connection", "close"))
    if authorization is not None:
        headers.append(("Proxy-Authorization", authorization))
    try:
        head = protocol.send(h11.Request(method="GET", target=judge.url if absolute else judge.path, headers=headers))
        protocol.send(h11.EndOfMessage())
    except (h11.LocalProtocolError, UnicodeEncodeError):
        raise LocalFailure("cannot be asked for the judge: its URL makes no valid request") from None
    return head or b""


def _refuse(status: int) -> None:
    if status == HTTPStatus.OK:
        return
    if status in (HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED):
        raise AccountRefused(f"answered {status} for the judge")
    if status >= HTTPStatus.BAD_REQUEST:
        raise TargetUnreachable(f"answered {status} for the judge")
    raise ForgedAnswer(f"answered {status} for the judge, which never does")


def _sighting(body: bytes, nonce: str) -> Sighting:
    try:
        told = json.loads(body)
        address = str(_plain(told["address"]))
        headers = tuple((str(name), None if value is None else str(value)) for name, value in told["headers"])
        repeated = told["nonce"]
    except (ValueError, TypeError, KeyError, RecursionError):  # its text quotes the answer
        raise ForgedAnswer("answered for the judge with what no judge says") from None
    if repeated != nonce:
        raise ForgedAnswer("answered for the judge with its answer to another question, as a cache does")
    return Sighting(address, headers)


def answer(headers: Iterable[tuple[str, str]], address: str) -> bytes:
    """Return the JSON that a judge answers to a request with `headers` that came from `address`."""
    seen: list[tuple[str, str | None]] = []
    nonce = ""
    for name, value in headers:
        seen.append((name, None if name.lower() in _SECRET else value[:_LONGEST_VALUE]))
        if name.lower() == NONCE_HEADER.lower():
            nonce = value[:_LONGEST_NONCE]
    told: dict[str, Any] = {"nonce": nonce, "address": str(_plain(address)), "headers": seen}
    return json.dumps(told).encode()


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address; one of IPv4 that came in over an IPv6 socket is one of IPv4."""
    read = ipaddress.ip_address(address)
    return read.ipv4_mapped or read if isinstance(read, ipaddress.IPv6Address) else read


def anonymity(direct: Sighting, proxied: Sighting) -> Anonymity:
    """Say how much a proxy tells of who asked: compare what a judge saw of a question directly and through it.

    ``transparent``: the judge learns our address, as where the request came from or in any header. ``anonymous``: it
    does not, and sees from a header that a proxy was at work. ``elite``: neither.

    A proxy gives itself away with Via (RFC 9110 section 7.6.3), Forwarded (RFC 7239), X-Forwarded-For and a dozen
    others of its own: so every header counts that was not there without the proxy. What the question itself says is no
    sign of anything; the judge may have our own address, where both run on one machine.

    >>> alone = Sighting("192.0.2.1", (("Host", "judge"),))
    >>> anonymity(alone, Sighting("203.0.113.9", (("Host", "judge"), ("Via", "1.1 squid"))))
    'anonymous'
    """
    ours = _addresses(direct.address)
    added = [(name.lower(), value) for name, value in proxied.headers if name.lower() not in _QUESTION_HEADERS]
    told = (proxied.address, *(value for _, value in added if value is not None))
    if any(ours & _addresses(text) for text in told):
        return "transparent"
    expected = {name.lower() for name, _ in direct.headers}
    return "elite" if all(name in expected for name, _ in added) else "anonymous"


def _addresses(text: str) -> set[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Find the addresses in a text, with a port or without, in brackets or without."""
    found = set()
    for word in _ADDRESSES.findall(text):
        for spelling in (word.strip("."), _PORT.sub("", word)):
            with contextlib.suppress(ValueError):
                found.add(_plain(spelling))
    return found

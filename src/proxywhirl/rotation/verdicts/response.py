"""The evidence of a response, what rules look at, and the verdict of a sender without rules. Pure.

Slow facts are found out once, and only when a rule first asks for them.

Clients hand on bodies that they have unpacked, with the header that says they are packed. So gzip (RFC 1952) and zstd
(RFC 8878) are recognised by the beginning of a body, and br and deflate by trying. A coding that is unknown here, such
as br and zstd without the extra `bodies`, gives no text: only status and headers count.
"""

from __future__ import annotations

import html
import re
import sys
import zlib
from dataclasses import dataclass, field
from functools import cache, cached_property
from http import HTTPStatus
from importlib import import_module
from typing import Any

from proxywhirl.errors import Blame, UpstreamError
from proxywhirl.wire.retry_after import retry_after


@dataclass(frozen=True, slots=True)
class Evidence:
    """What came back through a proxy.

    Attributes:
        site: Where the request went (`Target.site`).
        method: Of the request.
        status: Of the final response.
        headers: Of the final response, names in lower case.
        body: The first bytes of the body, decoded from no coding; `b""` where none were read.
        length: Bytes of the whole body, None where that is not known.
        latency: Seconds to the head of the response.
        at: When the head came, in Unix seconds. None leaves out what is asked for as a moment of our clock.
    """

    site: str
    method: str
    status: int
    headers: tuple[tuple[bytes, bytes], ...] = field(default=(), repr=False)
    body: bytes = field(default=b"", repr=False)
    length: int | None = None
    latency: float | None = None
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """The party to blame, None where all is well. `rule` names why, `retry_after` is in seconds."""

    blame: Blame | None = None
    rule: str | None = None
    retry_after: float | None = None


NO_CONNECT = "no-connect"
"""This proxy opens no tunnels, to any site."""

SILENT = "silent"
"""The proxy was reached and no answer came in time: it may be the site that hangs."""

CUT = "cut"
"""The proxy was reached, the request was sent, and what came is no whole answer: it may be the page that does that."""

_NOT_OFFERED = frozenset({HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})


def sign_of(failure: UpstreamError) -> str | None:
    """Return the rule of a failure, None of one that has none."""
    if failure.silent:
        return SILENT
    if failure.cut:
        return CUT
    return NO_CONNECT if failure.refusal is not None and failure.refusal[0] in _NOT_OFFERED else None


_REFUSALS = frozenset(
    {
        HTTPStatus.FORBIDDEN,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,  # a gateway's words (RFC 9110 section 15.6): it may be the proxy or the site's own
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


def plain_verdict(evidence: Evidence) -> Verdict:
    """Blame the target through this proxy for what another proxy may get: 403, 429, 502, 503 and 504.

    `Retry-After` counts where it is a number of seconds (RFC 9110 section 10.2.3).
    """
    if evidence.status not in _REFUSALS:
        return Verdict()
    asked = dict(evidence.headers).get(b"retry-after", b"").strip()
    return Verdict(Blame.TARGET_THROUGH_PROXY, f"status-{evidence.status}", retry_after({b"retry-after": [asked]}))


_GZIP = b"\x1f\x8b"
_GZIP_BITS = zlib.MAX_WBITS | 16
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_MODULE = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
_ZSTD_WINDOW = 23  # log₂ of bytes: no more may be asked of who unpacks a response (RFC 9659 section 3)


def beginning(body: bytes, coding: bytes, limit: int) -> bytes:
    """Return at most `limit` bytes of the content; of a damaged or cut body as much as can be read.

    The memory is bounded by the coding: gzip and deflate unpack no more than `limit`, zstd keeps 8 MB
    meanwhile, and br unpacks up to 16 MB, its largest window (RFC 7932 section 9.1), which takes some 30 ms.

    Args:
        body: As it was sent, or already unpacked.
        coding: The last one that Content-Encoding names, in lower case.
        limit: Bytes, of what is read too: a body that unpacks to nothing without an end costs no more.
    """
    body = body[:limit]
    if body.startswith(_GZIP):
        return _inflated(body, _GZIP_BITS, limit)
    if body.startswith(_ZSTD):
        return _unpacked_zstd(body, limit)
    if coding == b"br":
        return _unpacked_brotli(body, limit) or body
    if coding == b"deflate":  # RFC 9110 section 8.4.1.2: some leave the wrapper out
        return _inflated(body, zlib.MAX_WBITS, limit) or _inflated(body, -zlib.MAX_WBITS, limit) or body
    return body


def _inflated(body: bytes, bits: int, limit: int) -> bytes:
    unpacker = zlib.decompressobj(bits)
    try:
        return unpacker.decompress(body, limit)
    except zlib.error:
        return b""


def _unpacked_brotli(body: bytes, limit: int) -> bytes:
    brotli = _extra("brotli")
    if brotli is None:
        return b""
    try:
        content: bytes = brotli.Decompressor().process(body, output_buffer_limit=limit)
    except brotli.error:
        return b""
    return content[:limit]  # it keeps to its limit by whole buffers


def _unpacked_zstd(body: bytes, limit: int) -> bytes:
    zstd = _extra(_ZSTD_MODULE)
    if zstd is None:
        return b""
    try:
        unpacker = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW})
        content: bytes = unpacker.decompress(body, max_length=limit)
    except zstd.ZstdError:
        return b""
    return content


@cache  # an import that fails is looked for in every directory of the path
def _extra(name: str) -> Any:
    """Return a module of an extra, or one that is not in every build; None where it is not there."""
    try:
        return import_module(name)
    except ImportError:
        return None


LOOKED_AT = 1 << 16
"""Bytes of a body in which wordings are looked for, unpacked: block pages are small, and this bounds the cost."""

LONGEST_TITLE = 512
"""Bytes of a title, before its tags and entities are read."""
_TAG = re.compile(rb"<[^<>]*>")

# Parts of a page and not pages: a script holds the very marks that it writes into a page, and pictures hold none.
_NO_PAGES = (b"image/", b"audio/", b"video/", b"font/", b"text/css", b"application/octet-stream", b"application/pdf")
_SCRIPT = (b"javascript", b"ecmascript", b"wasm")


class Response:
    """The evidence as rules look at it: texts in lower case, the body unpacked."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.headers: dict[bytes, list[bytes]] = {}
        for name, value in evidence.headers:
            self.headers.setdefault(name.lower(), []).append(value.strip().lower())

    @cached_property
    def text(self) -> bytes:
        """The first `LOOKED_AT` bytes of the body in lower case; nothing of what is no page."""
        kind = self._last(b"content-type")
        if not self.evidence.body or kind.startswith(_NO_PAGES) or any(word in kind for word in _SCRIPT):
            return b""
        coding = self._last(b"content-encoding").rpartition(b",")[2].strip()
        return beginning(self.evidence.body, coding, LOOKED_AT).lower()

    @cached_property
    def title(self) -> bytes:
        """The page's title, else its first heading, as it reads: without tags, with single spaces."""
        return self._inside(b"title") or self._inside(b"h1")

    @cached_property
    def place(self) -> tuple[str, str]:
        """Where a redirect leads: a host, `""` for the same one, and a path, `""` where it leads nowhere."""
        location = self._last(b"location").decode("latin-1")
        address = location.partition("#")[0].partition("?")[0]
        if not address:
            return "", ""
        scheme, separator, rest = address.partition("//")
        if not separator or not (scheme == "" or scheme in ("http:", "https:")):
            return "", address if address.startswith("/") else f"/{address}"
        authority, slash, path = rest.partition("/")
        host = authority.rpartition("@")[2]
        return host if host.endswith("]") else host.partition(":")[0], slash + path or "/"

    def _inside(self, tag: bytes) -> bytes:
        start = self.text.find(b"<" + tag)
        begin = self.text.find(b">", start) + 1 if start >= 0 else 0
        end = self.text.find(b"</" + tag, begin) if begin else -1
        if end < 0:
            return b""
        inside = _TAG.sub(b" ", self.text[begin : min(end, begin + LONGEST_TITLE)])
        if b"&" in inside:
            inside = " ".join(html.unescape(inside.decode("utf-8", "replace")).lower().split()).encode(
                "utf-8", "replace"
            )
        return b" ".join(inside.split())

    def _last(self, name: bytes) -> bytes:
        values = self.headers.get(name)
        return values[-1] if values else b""

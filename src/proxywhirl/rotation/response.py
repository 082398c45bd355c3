"""What rules ask of a response. Whatever takes time is found out once, and only when a rule first asks for it."""

from __future__ import annotations

import html
import re
from functools import cached_property

from proxywhirl.rotation.evidence import Evidence
from proxywhirl.rotation.unpacking import beginning

__all__ = ["LONGEST_TITLE", "LOOKED_AT", "Response"]

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
        """Where the response leads: a host, `""` for the same one, and a path, `""` where it leads nowhere."""
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

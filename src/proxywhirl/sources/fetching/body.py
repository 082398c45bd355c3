"""Collect what a source sends, unpacked, in memory as long as it is small."""

from __future__ import annotations

import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from proxywhirl.errors import SourceError
from proxywhirl.sources.fetching.inflate import Inflater

_IN_MEMORY = 1 << 20  # bytes: a larger list waits on the disk
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Validators:
    """What a source said of its version, to ask only for a newer one (RFC 9110 section 8.8)."""

    etag: str | None = None
    last_modified: str | None = None

    def headers(self) -> dict[str, str]:
        """Return the headers of a conditional request; none where nothing is known."""
        named = {"If-None-Match": self.etag, "If-Modified-Since": self.last_modified}
        return {name: value for name, value in named.items() if value}


NOTHING_KNOWN = Validators()


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a source gave: `content` is unpacked, from its beginning; None where nothing has changed. Close it."""

    content: IO[bytes] | None
    validators: Validators
    size: int = 0

    def close(self) -> None:
        """Let the content go. Idempotent."""
        if self.content is not None:
            self.content.close()


class Body:
    """A body as far as it has come. A context manager that lets it go where an error ends it.

    Args:
        encoding: What the sender says that it is, one of `inflate.ENCODINGS`.
        limit: Bytes that are allowed, packed or unpacked.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self._inflater = Inflater(encoding, limit)
        self._content = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # closed at the exit, or by who takes it

    def take(self, piece: bytes) -> None:
        """Add the next piece.

        Raises:
            SourceError: it is damaged, or more than is allowed.
        """
        self._content.writelines(self._inflater.feed(piece))

    def whole(self, validators: Validators) -> Fetched:
        """Return the body, which has come to its end.

        Raises:
            SourceError: it is cut off.
        """
        self._content.writelines(self._inflater.finish())
        size = self._content.tell()
        self._content.seek(0)
        return Fetched(self._content, validators, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._content.close()


def read_file(path: Path, limit: int) -> Fetched:
    """Copy a file, which may change while it is being read, and may be packed with gzip.

    Raises:
        SourceError: it cannot be read, or is more than `limit` bytes.
    """
    try:
        if stat.S_ISREG(path.stat().st_mode):  # a pipe or a device might never end
            with path.open("rb") as stream, Body("", limit) as body:
                while piece := stream.read(_CHUNK):
                    body.take(piece)
                return body.whole(NOTHING_KNOWN)
    except OSError as exc:
        raise SourceError(f"{path} cannot be read: {exc.strerror}") from exc
    raise SourceError(f"{path} is no file")

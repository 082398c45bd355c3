"""What one client's connection asks of the world, as plain values.

Two rules hold:

- Every command that can wait carries its own patience in seconds, and an answer says when it ran out.
- A failure upstream is thrown into the generator as an `UpstreamError`, a client that went away as `ClientGone`;
  nothing else is thrown.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeVar

from proxywhirl.models import Outcome, Target
from proxywhirl.rotation.retries.pursuit import Choose, Publish, Wait


class ClientGone(Exception):
    """The client closed, reset or no longer reads its connection: a signal inside the gateway."""


class Ending(Enum):
    """How the client's connection ends: `CLOSE` in order, `ABORT` as what can only be a failure."""

    CLOSE = auto()
    ABORT = auto()


@dataclass(frozen=True, slots=True)
class ReadClient:
    """Answer: bytes, `b""` at the end of the stream, None when `patience` ran out.

    `idle` says that the client owes nothing: a gateway that shuts down answers `b""` at once.
    """

    patience: float
    idle: bool = False


@dataclass(frozen=True, slots=True)
class WriteClient:
    """Answer: None, when the client's connection has room again; `ClientGone` when `patience` ran out."""

    data: bytes
    patience: float


@dataclass(frozen=True, slots=True)
class Dial:
    """Connect through the chosen proxy, to `target` or, where it is None, to the proxy alone.

    Answer: the `ProxyURL` with its credential. Thrown: `UpstreamError`, `ProxyGone`.
    """

    target: Target | None
    patience: float


@dataclass(frozen=True, slots=True)
class WriteUpstream:
    """Hand `data` (which may hold a credential) to the upstream's buffer. Answer: None, at once.

    A broken connection is not told here: what the upstream still has to say comes first.
    """

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReadUpstream:
    """Answer: bytes, `b""` at the end of the stream, None when `patience` ran out."""

    patience: float


@dataclass(frozen=True, slots=True)
class ReadEither:
    """Read from the side that speaks first; the client only once the upstream's buffer has room (back-pressure).

    Answer: `FromUpstream` (preferred), `FromClient` or, when `patience` ran out, `Nothing`.
    """

    patience: float


@dataclass(frozen=True, slots=True)
class FromClient:
    """Bytes of the client, `b""` at the end of its stream."""

    data: bytes


@dataclass(frozen=True, slots=True)
class FromUpstream:
    """Bytes of the upstream, `b""` at the end of its stream."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Nothing:
    """Nobody spoke; `blocked` says that the upstream did not even take what it was sent."""

    blocked: bool


Heard = FromClient | FromUpstream | Nothing


@dataclass(frozen=True, slots=True)
class Relay:
    """Carry bytes both ways until both sides ended or nothing moved for `patience` seconds.

    Answer: the counts (bytes up, bytes down).
    """

    patience: float


@dataclass(frozen=True, slots=True)
class Release:
    """Close the upstream's connection and give the lease back, with a report unless `outcome` is None.

    Answer: of a report what the pool knows of the page, (`Lease.targets_own`, `Lease.page_served`), else None.
    """

    outcome: Outcome | None


Command = (
    ReadClient
    | WriteClient
    | Choose
    | Wait
    | Dial
    | WriteUpstream
    | ReadUpstream
    | ReadEither
    | Relay
    | Release
    | Publish
)

T = TypeVar("T")
# The answer's type follows from the command; each `yield` names it where it is used.
Steps = Generator[Command, Any, T]

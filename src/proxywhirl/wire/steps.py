"""The commands that a handshake gives to its driver.

A handshake is a generator that looks as if it blocked: it yields a step, the driver carries it out
and sends back the bytes received (`b""` after a `Send`), and the generator returns its result. The
same steps serve both sides of every protocol, so a test is a transcript of them.

Rules: a handshake never sees a socket, and asks for no byte beyond its own end, since what follows
belongs to the tunnel. `ReceiveSome` is for a conversation that nothing follows.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """Write `data`, all of it, then resume with `b""`. No repr shows it, since it may hold a credential."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ReceiveExactly:
    """Resume with exactly `count` bytes."""

    count: int


@dataclass(frozen=True, slots=True)
class ReceiveUntil:
    """Resume with the bytes up to and including `delimiter`: at most `limit` of them, 64 KiB or less."""

    delimiter: bytes
    limit: int


@dataclass(frozen=True, slots=True)
class ReceiveSome:
    """Resume with what has arrived, at least one byte and at most `limit`; with `b""` when the other side has ended."""

    limit: int


Step: TypeAlias = Send | ReceiveExactly | ReceiveUntil | ReceiveSome
Handshake: TypeAlias = Generator[Step, bytes, T]

Verify: TypeAlias = Callable[[str | None, str | None], bool]
"""What a server side asks about the username and password offered (None: nothing was offered)."""


@dataclass(frozen=True, slots=True)
class Requested:
    """What a client asked a proxy for; `host` is a name or an address without brackets."""

    host: str
    port: int
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

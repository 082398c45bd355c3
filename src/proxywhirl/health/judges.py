"""The judges of a prober, and which of them can be relied on: a bad one would make every proxy look dead.

Each is asked directly, as a proxy would ask it. Where one judges and another of its scheme does not, only the first is
sent to; where none answers this machine, all are: the way out may lead through proxies alone.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import Iterator, Sequence
from enum import Enum

from proxywhirl.clock import Clock
from proxywhirl.errors import UpstreamError
from proxywhirl.models import Target
from proxywhirl.net.connection import READ_LIMIT, Connection
from proxywhirl.wire.judge import Judge, question

_log = logging.getLogger(__name__)

VERDICT_LASTS = 2.0  # seconds: what fails meanwhile may be laid at a proxy once
TIMEOUT = 3.0


class Standing(Enum):
    """What a failure through a proxy is worth."""

    GOOD = "good"  # those who were asked are reliable
    WORSE = "worse"  # one of them turned bad lately: nobody can tell who was asked
    NONE = "none"  # nobody of a scheme answers this machine: its network is down, or all of them are


class Panel:
    """Judges, of whom those are given out that answer. Belongs to one event loop; `tls` verifies those with https://."""

    def __init__(self, judges: Sequence[Judge], *, tls: ssl.SSLContext, clock: Clock, rng: random.Random) -> None:
        self._judges = tuple(judges)
        self._tls = tls
        self._clock = clock
        self._rng = rng
        self._out: dict[Judge, str] = {}
        self._standing = Standing.GOOD
        self._until = 0.0
        self._asking = asyncio.Lock()

    def __iter__(self) -> Iterator[Judge]:
        bad = self._schemes_without_any()
        return iter([judge for judge in self._judges if judge not in self._out or judge.target.scheme in bad])

    def __len__(self) -> int:
        return len(self._judges)

    async def examine(self) -> Standing:
        """Ask every judge whether it is one, unless that was done seconds ago; what changed is logged."""
        async with self._asking:
            if self._clock.monotonic() >= self._until and self._judges:
                answers = await asyncio.gather(*map(self._ask, self._judges))
                self._take(dict(zip(self._judges, answers, strict=True)))
                self._until = self._clock.monotonic() + VERDICT_LASTS
            return self._standing

    def _take(self, answers: dict[Judge, str | None]) -> None:
        before, self._out = self._out, {judge: why for judge, why in answers.items() if why is not None}
        for judge in self._out.keys() - before.keys():
            _log.warning("the judge %s is not relied on: %s", judge.url, self._out[judge])
        for judge in before.keys() - self._out.keys():
            _log.warning("the judge %s answers again", judge.url)
        if self._schemes_without_any():
            self._standing = Standing.NONE
        else:
            self._standing = Standing.WORSE if self._out.keys() - before.keys() else Standing.GOOD

    def _schemes_without_any(self) -> set[str]:
        """Return the schemes all judges of which are out."""
        schemes = {judge.target.scheme for judge in self._judges}
        return schemes - {judge.target.scheme for judge in self._judges if judge not in self._out}

    async def _ask(self, judge: Judge) -> str | None:
        """Return what is wrong with a judge, None where nothing is."""
        tls = self._tls if judge.target.scheme == "https" else None
        connection: Connection | None = None
        try:
            async with asyncio.timeout(TIMEOUT):
                connection = await _connect(judge.target, tls)
                await connection.drive(question(judge, f"{self._rng.getrandbits(64):016x}", absolute=False))
        except ssl.SSLCertVerificationError as exc:
            return f"its certificate is not trusted here: {exc.verify_message}"
        except TimeoutError:
            return f"it did not answer this machine itself within {TIMEOUT:g} s"
        except UpstreamError as exc:
            return f"asked by this machine itself, it {exc}"
        except (OSError, EOFError, asyncio.LimitOverrunError, UnicodeError) as exc:
            return f"it does not answer this machine itself: {exc}"
        finally:
            if connection is not None:
                connection.abort()
        return None


async def reaches(target: Target, tls: ssl.SSLContext) -> bool:
    """Whether a target can be connected to directly, from here, with TLS where that is its scheme; nothing is sent."""
    try:
        async with asyncio.timeout(TIMEOUT):
            connection = await _connect(target, tls if target.scheme == "https" else None)
    except (OSError, UnicodeError):
        return False
    connection.abort()
    return True


async def _connect(target: Target, tls: ssl.SSLContext | None) -> Connection:
    name = target.host if tls is not None else None
    streams = await asyncio.open_connection(target.host, target.port, ssl=tls, server_hostname=name, limit=READ_LIMIT)
    return Connection(*streams)

"""Telling our own outage from a pool of proxies that died at once: then nobody is punished."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence

from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.health.levels import ProbeResult

__all__ = ["Outage", "reaches"]

_log = logging.getLogger(__name__)

VERDICT_LASTS = 5.0  # seconds; less than what a cable takes to be plugged in again
CHECK_TIMEOUT = 3.0


class Outage:
    """Sifts results by whether this machine's network was up when they came.

    `is_online` is the direct check; it is made only where the last results are failures without exception, and its
    verdict lasts for seconds.
    """

    def __init__(self, is_online: Callable[[], Awaitable[bool]], *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._is_online = is_online
        self._clock = clock
        self._verdict: bool | None = None
        self._until = 0.0

    async def sift(self, results: Sequence[ProbeResult]) -> tuple[list[ProbeResult], list[ProbeResult]]:
        """Divide results, in the order in which they came, into those that count and those that teach nothing."""
        last_success = max((place for place, result in enumerate(results) if result.ok), default=-1)
        tail = results[last_success + 1 :]
        if not tail or await self._online():
            return list(results), []
        return list(results[: last_success + 1]), list(tail)

    async def _online(self) -> bool:
        now = self._clock.monotonic()
        if self._verdict is None or now >= self._until:
            before, self._verdict = self._verdict, await self._is_online()
            self._until = self._clock.monotonic() + VERDICT_LASTS
            if not self._verdict and before is not False:
                _log.warning(
                    "no proxy is blamed: what they were asked for cannot be reached from here either; "
                    "this machine's network is down, or the judge is, or its certificate is not trusted here"
                )
            elif self._verdict and before is False:
                _log.warning("what proxies are asked for can be reached from here again")
        return self._verdict


async def reaches(host: str, port: int, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a server can be connected to directly, from here, with TLS where a context is given; nothing is sent."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT):
            _, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=host if tls else None)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True

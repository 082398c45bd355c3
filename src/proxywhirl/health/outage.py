"""Telling our own outage, or a judge's, from a pool of proxies that died at once: then nobody is punished."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

from proxywhirl.health.levels import ProbeResult
from proxywhirl.health.panel import Standing

__all__ = ["Outage"]

_log = logging.getLogger(__name__)


class Outage:
    """Sifts results by whether those who were asked could be relied on when they came.

    `examine` looks at them directly; it is called where there are failures, and until all is well again.
    """

    def __init__(self, examine: Callable[[], Awaitable[Standing]]) -> None:
        self._examine = examine
        self._last = Standing.GOOD

    async def prepare(self) -> None:
        """Look at them before the first result."""
        self._tell(await self._examine())

    async def sift(self, results: Sequence[ProbeResult]) -> tuple[list[ProbeResult], list[ProbeResult]]:
        """Divide results, in the order in which they came, into those that count and those that teach nothing.

        Where one of several judges turned bad no failure counts; where nobody answers us, none after the last success:
        until then a judge did answer, if only through proxies.
        """
        if self._last is Standing.GOOD and all(result.ok for result in results):
            return list(results), []
        standing = await self._examine()
        self._tell(standing)
        if standing is Standing.GOOD:
            return list(results), []
        last_success = max((place for place, result in enumerate(results) if result.ok), default=-1)
        spared = 0 if standing is Standing.WORSE else last_success + 1
        counted = [result for place, result in enumerate(results) if result.ok or place < spared]
        return counted, [result for place, result in enumerate(results) if not result.ok and place >= spared]

    def _tell(self, standing: Standing) -> None:
        before, self._last = self._last, standing
        if standing is Standing.NONE and before is not Standing.NONE:
            _log.warning(
                "no proxy is blamed for failing: what they are asked for does not answer this machine itself either; "
                "its network is down, or what is asked for is"
            )
        elif before is Standing.NONE and standing is not Standing.NONE:
            _log.warning("what proxies are asked for answers again")

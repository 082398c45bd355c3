"""Telling our own outage, or a judge's, from a pool of proxies that died at once: then nobody is punished."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from proxywhirl.health.judges import Standing

_log = logging.getLogger(__name__)


class Seen(Protocol):
    """What a proxy was seen to do."""

    @property
    def ok(self) -> bool:
        """Whether it did what it was asked for."""
        ...


S = TypeVar("S", bound=Seen)


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

    async def sift(self, results: Sequence[S]) -> tuple[list[S], list[S]]:
        """Divide results, in the order in which they came, into those that count and those that teach nothing.

        Where one of several judges turned bad no failure counts; where nobody answers us, none after the last success:
        until then a judge did answer, if only through proxies. Where somebody answers again, none before the first.
        """
        if self._last is Standing.GOOD and all(result.ok for result in results):
            return list(results), []
        before, standing = self._last, await self._examine()
        self._tell(standing)
        successes = [place for place, result in enumerate(results) if result.ok]
        first = 0
        last = len(results)
        if standing is not Standing.GOOD:
            last = 0 if standing is Standing.WORSE else max(successes, default=0)
        elif before is Standing.NONE:
            first = min(successes, default=last)
        counted = [result for place, result in enumerate(results) if result.ok or first <= place < last]
        return counted, [result for place, result in enumerate(results) if not result.ok and not first <= place < last]

    def _tell(self, standing: Standing) -> None:
        before, self._last = self._last, standing
        if standing is Standing.NONE and before is not Standing.NONE:
            _log.warning(
                "no proxy is blamed for failing: what they are asked for does not answer this machine itself either; "
                "its network is down, or what is asked for is"
            )
        elif before is Standing.NONE and standing is not Standing.NONE:
            _log.warning("what proxies are asked for answers again")

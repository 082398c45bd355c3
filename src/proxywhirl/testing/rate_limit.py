"""A site that counts how often each proxy asks, and refuses the one that asks too often."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from proxywhirl.clock import Clock


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How often one proxy may ask, and what it gets beyond that. With 0 requests the site is down for everybody.

    Args:
        requests: So many of a proxy are served within `seconds`; who is refused is not counted.
        seconds: The length of the window.
        status: Of the refusal, such as 429, 403 or 503; 200 with a `page` is a block page.
        retry_after: Seconds that the refusal asks to wait (`Retry-After`), None to ask for nothing.
        page: The refusal's body.
        headers: More headers of the refusal, such as the coding that the page is in.
        chunked: Send the page in chunks and without its length.
    """

    requests: int
    seconds: float = 60.0
    status: int = 429
    retry_after: int | None = None
    page: bytes = b"You ask too often.\n"
    headers: tuple[tuple[str, str], ...] = ()
    chunked: bool = False

    @property
    def fields(self) -> tuple[tuple[str, str], ...]:
        """The headers of a refusal."""
        asked = () if self.retry_after is None else (("Retry-After", str(self.retry_after)),)
        return (*asked, *self.headers)


@dataclass(slots=True, eq=False)
class Counts:
    """When each proxy (None: no proxy of the fleet) was served."""

    clock: Clock
    served: dict[str | None, deque[float]] = field(default_factory=dict)

    def admits(self, proxy: str | None, limit: RateLimit) -> bool:
        """Tell whether a proxy may ask now, and count it if so."""
        now = self.clock.monotonic()
        times = self.served.setdefault(proxy, deque())
        while times and times[0] <= now - limit.seconds:
            times.popleft()
        if len(times) >= limit.requests:
            return False
        times.append(now)
        return True

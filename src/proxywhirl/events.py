"""What happened, as frozen values, and a synchronous bus that carries them.

A subscriber runs inside the publisher's call: it must be quick and must not wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from proxywhirl.models import Outcome, Proxy, Target

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AttemptFailed:
    """A request could not be served through a proxy; `final` is false when another one is tried."""

    proxy: Proxy
    target: Target
    outcome: Outcome
    final: bool


@dataclass(frozen=True, slots=True)
class RequestFinished:
    """A request was answered; `proxy` is None where none could serve it. `seconds` is the whole time."""

    target: Target
    proxy: Proxy | None
    ok: bool
    attempts: int
    seconds: float
    status: int | None = None


@dataclass(frozen=True, slots=True)
class SessionMoved:
    """A soft session has another proxy from now on; `moved_from` is the key of the one that it had, `why` says why."""

    target: Target
    proxy: Proxy
    moved_from: str
    why: str


Event = AttemptFailed | RequestFinished | SessionMoved
Subscriber = Callable[[Event], None]


class EventBus:
    """Deliver each event to every subscriber, in the order of subscription."""

    def __init__(self) -> None:
        self._subscribers: tuple[Subscriber, ...] = ()

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber; the returned function takes it away again."""
        self._subscribers = (*self._subscribers, subscriber)

        def unsubscribe() -> None:
            self._subscribers = tuple(s for s in self._subscribers if s is not subscriber)

        return unsubscribe

    def publish(self, event: Event) -> None:
        """Hand the event to every subscriber; one that raises is logged and does not stop the others."""
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:  # noqa: BLE001  # a subscriber is foreign code: its defect must not fail a request
                _log.exception("an event subscriber failed on %s", type(event).__name__)

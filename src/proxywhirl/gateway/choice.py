"""Choosing the proxy for an attempt, and waiting for one where that makes sense (pure)."""

from __future__ import annotations

from proxywhirl.clock import Clock
from proxywhirl.events import SessionMoved
from proxywhirl.gateway.commands import Choose, Moved, NoChoice, Publish, Steps, Wait
from proxywhirl.gateway.request import Request
from proxywhirl.models import Proxy
from proxywhirl.rotation.retry import Retries

__all__ = ["choose"]


def choose(request: Request, retries: Retries, clock: Clock, *, patient: bool) -> Steps[Proxy | NoChoice]:
    """Choose a proxy that was not tried in this round; where there is none now, wait for it if `patient`."""
    while True:
        target, wish = request.destination.target, request.asked.wish
        answer: Proxy | Moved | NoChoice = yield Choose(target, frozenset(retries.tried), wish)
        if isinstance(answer, Moved):
            request.moved_from = request.moved_from or answer.moved_from
            yield Publish(SessionMoved(target, answer.proxy, answer.moved_from, answer.why))
            return answer.proxy
        if isinstance(answer, Proxy) or not (patient and answer.waits):
            return answer
        seconds = retries.pause(clock.monotonic(), free_in=answer.free_in)
        if seconds is None:
            return answer
        yield Wait(seconds)

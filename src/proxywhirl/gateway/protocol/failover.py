"""Failover: try one proxy after another until one serves the request (pure).

Rules: each proxy at most once in a round; never another one after the client may have seen a byte of the answer, nor
where `rotation.retry` says stop; never a direct connection. Where no attempt is left, the client gets the last response
that the target gave, as it came, and only where there was none an error of the gateway.

Choosing the proxy for an attempt, and waiting for one where that makes sense (pure).
"""

from __future__ import annotations

import math

from proxywhirl.clock import Clock
from proxywhirl.errors import AccountRefused, ProxyGone, UpstreamError
from proxywhirl.events import AttemptFailed, RequestFinished, SessionMoved
from proxywhirl.gateway.protocol.attempt import Attempt
from proxywhirl.gateway.protocol.commands import Choose, ClientGone, Moved, NoChoice, Publish, Release, Steps, Wait
from proxywhirl.gateway.protocol.exchange import Exchange
from proxywhirl.gateway.protocol.limits import Limits
from proxywhirl.gateway.protocol.messages import Refusal
from proxywhirl.gateway.protocol.request import ClientBroke, Request
from proxywhirl.gateway.protocol.response import Reply
from proxywhirl.gateway.protocol.tunnel import Tunnel
from proxywhirl.models import Proxy
from proxywhirl.rotation.retries.retry import Retries, Stop
from proxywhirl.rotation.retries.send_policy import Conduct


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


_NO_PROXY = "ProxyWhirl has no proxy to send this request through, and never connects directly.\n{}."


class Forwarding:
    """The attempts at one request."""

    def __init__(self, request: Request, limits: Limits, clock: Clock, conduct: Conduct) -> None:
        self._request = request
        self._limits = limits
        self._clock = clock
        self._judge = conduct.judge
        self._retries = conduct.begin(request.method, until=request.deadline, unsafe=request.asked.unsafe)
        self._failure: UpstreamError | None = None
        self._held: tuple[Attempt, Reply] | None = None

    def steps(self) -> Steps[Refusal | None]:
        """Serve the request; return what to answer where no proxy could, None where it was answered.

        A response that broke after its first byte also gives a `Refusal`; it cannot be sent any more.
        """
        chosen: Proxy | NoChoice | Stop = yield from self._another()
        while isinstance(chosen, Proxy):
            attempt = self._attempt(chosen)
            try:
                reply = yield from attempt.steps()
            except ProxyGone:
                yield Release(None)
                self._retries.tried.add(chosen.key)
                chosen = yield from self._another()
            except UpstreamError as exc:
                self._failure = exc
                chosen = yield from self._after(attempt)
            except (ClientGone, ClientBroke):
                yield Release(None)
                yield self._finished(attempt, ok=False)
                raise
            else:
                if reply is None:
                    yield from self._end(attempt)
                    return None
                self._failure, self._held = None, (attempt, reply)
                chosen = yield from self._after(attempt)
        if self._held is not None:
            yield from self._hand_on(*self._held)
            return None
        yield self._finished(None, ok=False)
        return self._refusal(chosen)

    def _attempt(self, proxy: Proxy) -> Attempt:
        if self._request.head.method == b"CONNECT":
            return Tunnel(self._request, proxy, self._limits, self._clock)
        repeatable = self._retries.repeatable(sent=True)
        return Exchange(self._request, proxy, self._limits, self._clock, judge=self._judge, repeatable=repeatable)

    def _after(self, attempt: Attempt) -> Steps[Proxy | NoChoice | Stop]:
        """Report an attempt that did not serve and choose the next proxy, if the request may go to one."""
        self._retries.attempted(attempt.proxy.key)
        outcome = attempt.outcome(self._failure)
        yield Release(outcome)
        # A 407 says that the proxy passed nothing on.
        sent = attempt.sent and not isinstance(self._failure, AccountRefused)
        chosen: Proxy | NoChoice | Stop | None = self._retries.stop(
            self._clock.monotonic(),
            sent=sent,
            blame=outcome.blame,
            replayable=not self._request.answered and self._request.body.replayable,
        )
        if chosen is None:
            chosen = yield from self._another()
        final = not isinstance(chosen, Proxy)
        yield Publish(AttemptFailed(attempt.proxy, self._request.destination.target, outcome, final=final))
        return chosen

    def _another(self) -> Steps[Proxy | NoChoice]:
        """Choose a further proxy; who has a response in hand does not wait for a better one."""
        chosen = yield from choose(self._request, self._retries, self._clock, patient=self._held is None)
        if isinstance(chosen, NoChoice):
            self._retries.forgo()
        return chosen

    def _end(self, attempt: Attempt) -> Steps[None]:
        """Report an attempt whose response the client has."""
        self._retries.attempted(attempt.proxy.key)
        outcome = attempt.outcome()
        yield Release(outcome)
        if not outcome.ok:
            yield Publish(AttemptFailed(attempt.proxy, self._request.destination.target, outcome, final=True))
        yield self._finished(attempt, ok=outcome.ok)

    def _hand_on(self, attempt: Attempt, reply: Reply) -> Steps[None]:
        try:
            yield from reply.pass_on(self._limits.idle)
        except ClientGone:
            yield self._finished(attempt, ok=False)
            raise
        yield self._finished(attempt, ok=False)

    @property
    def _late(self) -> bool:
        return self._clock.monotonic() >= self._request.deadline

    def _finished(self, attempt: Attempt | None, *, ok: bool) -> Publish:
        return Publish(
            RequestFinished(
                target=self._request.destination.target,
                proxy=attempt.proxy if attempt else None,
                ok=ok,
                attempts=self._retries.attempts,
                seconds=self._clock.monotonic() - self._request.began,
                status=attempt.status if attempt else None,
            )
        )

    def _refusal(self, stop: NoChoice | Stop) -> Refusal:
        why, wait, resting = stop.value if isinstance(stop, Stop) else stop.why, None, False
        if isinstance(stop, NoChoice):
            wait, resting = stop.free_in, stop.free_in is not None and not stop.waits
        told = tuple(self._request.tidings)
        later = told if wait is None else (*told, (b"Retry-After", str(max(1, math.ceil(wait))).encode()))
        if self._failure is None:
            return Refusal(503, _NO_PROXY.format(why), later)
        attempts = self._retries.attempts
        tried = "1 proxy" if attempts == 1 else f"{attempts} proxies"
        late = f", and {self._limits.total:g} s had passed" if self._late else ""
        text = (
            f"No proxy could serve this request: {tried} tried{late}.\n"
            f"The last failure: {self._failure}.\nNo further one is tried: {why}."
        )
        if resting:
            return Refusal(503, text, later)
        return Refusal(504 if self._late else 502, text, told)

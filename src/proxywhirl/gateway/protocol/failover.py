"""Failover: try one proxy after another until one serves the request (pure).

`rotation.retries.pursuit` says what is next. The gateway's own rules: never another proxy after the client may have
seen a byte of the answer; never a direct connection. Where no attempt is left, the client gets the last response of the
target, as it came, or without any an error of the gateway.
"""

from __future__ import annotations

import math

from proxywhirl.errors import AccountRefused, ProxyGone, UpstreamError
from proxywhirl.events import RequestFinished
from proxywhirl.gateway.protocol.attempt import Attempt, Exchange, Tunnel
from proxywhirl.gateway.protocol.commands import ClientGone, Release, Steps
from proxywhirl.gateway.protocol.messages import MOVED_FIELD, Refusal
from proxywhirl.gateway.protocol.request import ClientBroke, Request
from proxywhirl.models import Proxy
from proxywhirl.rotation.retries.pursuit import Failed, NoChoice, Publish, Pursuit, Served, Stop, Try
from proxywhirl.rotation.retries.send_policy import SendPolicy

_NO_PROXY = "ProxyWhirl has no proxy to send this request through, and never connects directly.\n{}."


class Failover:
    """The attempts at one request."""

    def __init__(self, request: Request, policy: SendPolicy) -> None:
        self._request = request
        self._classify = policy.classify
        target, asked = request.destination.target, request.asked
        self._pursuit = Pursuit(
            policy, target, asked.wish, request.method, request.deadline, unsafe=asked.unsafe, clock=request.clock
        )
        self._failure: UpstreamError | None = None
        self._served: Attempt | None = None
        self._held: Exchange | None = None

    def steps(self) -> Steps[Refusal | None]:
        """Serve the request; return what to answer where no proxy could, None where it was answered.

        A response that broke after its first byte also gives a `Refusal`; it cannot be sent any more.
        """
        pursuing = self._pursuit.steps()
        answer: object = None
        while True:
            try:
                command = pursuing.send(answer)
            except StopIteration as end:
                why: NoChoice | Stop | None = end.value
                break
            answer = (yield from self._try(command.proxy)) if isinstance(command, Try) else (yield command)
        if why is None:
            served = self._served
            yield self._finished(served, ok=served is not None and served.record.verdict.blame is None)
            return None
        if self._held is None:
            yield self._finished(None, ok=False)
            return self._refusal(why)
        try:
            yield from self._held.hand_on()
        except ClientGone:
            yield self._finished(self._held, ok=False)
            raise
        yield self._finished(self._held, ok=False)
        return None

    def _try(self, proxy: Proxy) -> Steps[Served | Failed | None]:
        request = self._request
        if self._pursuit.moved_from is not None:
            request.own_fields = ((MOVED_FIELD, self._pursuit.moved_from.encode()),)
        attempt: Attempt
        if request.method == "CONNECT":
            attempt = Tunnel(request, proxy)
        else:
            attempt = Exchange(request, proxy, self._classify, repeatable=self._pursuit.repeatable)
        failure = None
        try:
            served = yield from attempt.steps()
        except ProxyGone:
            yield Release(None)
            return None
        except UpstreamError as exc:
            served, failure = False, exc
        except (ClientGone, ClientBroke):
            yield Release(None)
            yield self._finished(attempt, ok=False)
            raise
        outcome = attempt.outcome(failure)
        known: tuple[bool, bool] | None = yield Release(outcome)
        targets_own, page_served = known or (False, False)
        if served:
            self._served = attempt
            return Served(outcome)
        self._failure = failure
        if failure is None and isinstance(attempt, Exchange):
            self._held = attempt
        return Failed(
            outcome,
            held=failure is None,
            sent=attempt.sent and not isinstance(failure, AccountRefused),  # a 407: the proxy passed nothing on
            replayable=not request.answered and request.body.replayable,
            targets_own=targets_own,
            page_served=page_served,
        )

    def _finished(self, attempt: Attempt | None, *, ok: bool) -> Publish:
        request = self._request
        return Publish(
            RequestFinished(
                target=request.destination.target,
                proxy=attempt.proxy if attempt else None,
                ok=ok,
                attempts=self._pursuit.attempts,
                seconds=request.clock.monotonic() - request.began,
                status=attempt.record.status if attempt else None,
            )
        )

    def _refusal(self, stop: NoChoice | Stop) -> Refusal:
        request, attempts = self._request, self._pursuit.attempts
        why, wait, resting = stop.value if isinstance(stop, Stop) else stop.why, None, False
        if isinstance(stop, NoChoice):
            wait, resting = stop.free_in, stop.resting
        told = request.own_fields
        later = told if wait is None else (*told, (b"Retry-After", str(max(1, math.ceil(wait))).encode()))
        if self._failure is None:
            return Refusal(503, _NO_PROXY.format(why), later)
        is_late = request.clock.monotonic() >= request.deadline
        tried = "1 proxy" if attempts == 1 else f"{attempts} proxies"
        late = f", and {request.options.total_timeout:g} s had passed" if is_late else ""
        text = (
            f"No proxy could serve this request: {tried} tried{late}.\n"
            f"The last failure: {self._failure}.\nNo further one is tried: {why}."
        )
        if resting:
            return Refusal(503, text, later)
        return Refusal(504 if is_late else 502, text, told)

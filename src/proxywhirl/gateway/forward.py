"""Failover: try one proxy after another until one serves the request (pure).

Rules: each proxy at most once for a request; never another one after the client may have seen a byte of
the answer, nor after what was sent cannot be sent again; never a direct connection.
"""

from __future__ import annotations

from proxywhirl.clock import Clock
from proxywhirl.errors import ProxyGone, UpstreamError
from proxywhirl.events import AttemptFailed, RequestFinished
from proxywhirl.gateway.attempt import Attempt
from proxywhirl.gateway.commands import Choose, ClientGone, Publish, Release, Steps
from proxywhirl.gateway.exchange import Exchange
from proxywhirl.gateway.limits import Limits
from proxywhirl.gateway.messages import Refusal
from proxywhirl.gateway.request import ClientBroke, Request
from proxywhirl.gateway.tunnel import Tunnel
from proxywhirl.models import Proxy
from proxywhirl.rotation.retry import may_retry

__all__ = ["Forwarding"]

_NO_PROXY = (
    "ProxyWhirl has no proxy to send this request through, and never connects directly.\n"
    "Add some: proxywhirl import FILE, or proxywhirl add URL."
)


class Forwarding:
    """The attempts at one request."""

    def __init__(self, request: Request, limits: Limits, clock: Clock) -> None:
        self._request = request
        self._limits = limits
        self._clock = clock
        self._tried: set[str] = set()
        self._attempts = 0

    def steps(self) -> Steps[Refusal | None]:
        """Serve the request; return what to answer where no proxy could, None where it was answered.

        A response that broke after its first byte also gives a `Refusal`; it cannot be sent any more.
        """
        proxy: Proxy | None = yield Choose(frozenset())
        failure: UpstreamError | None = None
        while proxy is not None:
            self._tried.add(proxy.key)
            attempt = (Tunnel if self._request.head.method == b"CONNECT" else Exchange)(
                self._request, proxy, self._limits, self._clock
            )
            try:
                yield from attempt.steps()
            except ProxyGone:
                yield Release(None)
                proxy = yield Choose(frozenset(self._tried))
            except UpstreamError as exc:
                failure = exc
                proxy = yield from self._after(attempt, exc)
            except (ClientGone, ClientBroke):
                yield Release(None)
                yield self._finished(attempt, ok=False)
                raise
            else:
                self._attempts += 1
                yield Release(attempt.outcome())
                yield self._finished(attempt, ok=True)
                return None
        yield self._finished(None, ok=False)
        return self._refusal(failure)

    def _after(self, attempt: Attempt, failure: UpstreamError) -> Steps[Proxy | None]:
        """Report a failed attempt and choose the next proxy, if the request may go to one."""
        self._attempts += 1
        outcome = attempt.outcome(failure)
        yield Release(outcome)
        successor: Proxy | None = None
        if self._may_try_again(attempt) and not self._late:
            successor = yield Choose(frozenset(self._tried))
        target = self._request.destination.target
        yield Publish(AttemptFailed(attempt.proxy, target, outcome, final=successor is None))
        return successor

    def _may_try_again(self, attempt: Attempt) -> bool:
        request = self._request
        return not request.answered and request.body.replayable and may_retry(request.method, sent=attempt.sent)

    @property
    def _late(self) -> bool:
        return self._clock.monotonic() >= self._request.deadline

    def _finished(self, attempt: Attempt | None, *, ok: bool) -> Publish:
        return Publish(
            RequestFinished(
                target=self._request.destination.target,
                proxy=attempt.proxy if attempt else None,
                ok=ok,
                attempts=self._attempts,
                seconds=self._clock.monotonic() - self._request.began,
                status=attempt.status if attempt else None,
            )
        )

    def _refusal(self, failure: UpstreamError | None) -> Refusal:
        if failure is None:
            return Refusal(503, _NO_PROXY)
        tried = "1 proxy" if self._attempts == 1 else f"{self._attempts} proxies"
        late = f", and {self._limits.total:g} s had passed" if self._late else ""
        return Refusal(
            504 if self._late else 502,
            f"No proxy could serve this request: {tried} tried{late}.\nThe last failure: {failure}.",
        )

"""What the failure of an attempt means: who is to blame, and which of httpx2's errors tells it.

A failure's text is ours: what a proxy sends back may echo the credential that it was sent, so the words
of a protocol error are neither quoted nor chained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import httpcore2
import httpx2

from proxywhirl.errors import AccountRefused, Blame, UpstreamError
from proxywhirl.models import Proxy
from proxywhirl.rotation.verdicts.without_rules import SILENT, sign_of
from proxywhirl.vendors.decoding import decode_failure

NETWORK_ERRORS = (
    UpstreamError,
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.ProxyError,
    httpcore2.TimeoutException,
    httpcore2.UnsupportedProtocol,
    TimeoutError,
)
"""What an attempt may raise because of the network; all else is the caller's."""

_CALLERS_FAULT = (httpcore2.LocalProtocolError, httpcore2.UnsupportedProtocol)
_TIMEOUTS = (httpcore2.TimeoutException, TimeoutError)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed: what to raise, whom to blame, and whether the request may have been acted on.

    `final` where no other proxy could help, since the request itself is wrong; `stale` where a connection
    that was kept had been closed meanwhile, which says nothing about the proxy: it may be tried again. `rule` is
    what it has in common with others, or what a vendor said of it, and so is `retry_after` (seconds).
    """

    kind: type[httpx2.TransportError]
    text: str
    blame: Blame
    sent: bool
    cause: BaseException | None
    final: bool = False
    stale: bool = False
    rule: str | None = None
    retry_after: float | None = None

    def error(self, proxies: int) -> httpx2.TransportError:
        """Build the error that ends a request for which so many proxies were tried; raise it from `cause`."""
        before = "" if proxies <= 1 else f"{proxies} proxies were tried; the last: "
        return self.kind(f"{before}{self.text}")


def diagnose(exc: Exception, proxy: Proxy, *, sent: bool, reused: bool, tunnel_tls: bool) -> Failure:
    """Find out who is to blame.

    Args:
        exc: One of `NETWORK_ERRORS`.
        proxy: The proxy of the attempt.
        sent: Whether any byte of the request may have left.
        reused: Whether the connection had served another request before.
        tunnel_tls: Whether the proxy only moved the TLS records of the target.
    """
    if isinstance(exc, UpstreamError):
        reached = sent and not isinstance(exc, AccountRefused)
        failure = Failure(_kind(exc), str(exc), exc.blame, reached, exc, rule=sign_of(exc))
        verdict = decode_failure(proxy.attributes.provider, exc)
        if verdict is None or verdict.blame is None:
            return failure
        text = f"{failure.text} ({verdict.rule})"
        return replace(failure, text=text, blame=verdict.blame, rule=verdict.rule, retry_after=verdict.retry_after)
    if isinstance(exc, _CALLERS_FAULT):
        kind = getattr(httpx2, type(exc).__name__)
        return Failure(kind, str(exc), Blame.US, sent, exc, final=True)
    if isinstance(exc, _TIMEOUTS):
        kind = getattr(httpx2, type(exc).__name__, httpx2.ReadTimeout if sent else httpx2.ConnectTimeout)
        return Failure(
            kind, f"{proxy.url} gave no answer in time", Blame.PROXY, sent, exc, rule=SILENT if sent else None
        )
    blame = Blame.TARGET_THROUGH_PROXY if tunnel_tls else Blame.PROXY
    if reused:
        blame = Blame.US  # either side may close an idle connection at any moment; to reuse it was our risk
    kind = getattr(httpx2, type(exc).__name__)
    if isinstance(exc, httpcore2.ProtocolError):
        text = f"{proxy.url} closed the connection early or sent no valid HTTP"
        return Failure(kind, text, blame, sent, None, stale=reused)
    return Failure(kind, f"{proxy.url} broke the connection", blame, sent, exc, stale=reused)


def _kind(exc: UpstreamError) -> type[httpx2.TransportError]:
    if isinstance(exc, AccountRefused):
        return httpx2.ProxyError
    timed_out = isinstance(exc.__cause__, TimeoutError)
    return httpx2.ConnectTimeout if timed_out else httpx2.ConnectError

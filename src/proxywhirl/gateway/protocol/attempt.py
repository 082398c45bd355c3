"""One try at serving a request through one proxy: what exchange and tunnel have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

from proxywhirl.clock import Clock
from proxywhirl.errors import UpstreamError
from proxywhirl.gateway.protocol.commands import Steps
from proxywhirl.gateway.protocol.limits import Limits
from proxywhirl.gateway.protocol.request import Request
from proxywhirl.gateway.protocol.response import Reply
from proxywhirl.models import Outcome, Proxy
from proxywhirl.rotation.verdicts.response import Verdict
from proxywhirl.rotation.verdicts.without_rules import sign_of
from proxywhirl.vendors.decoding import decode_failure

_ERROR_LENGTH = 200  # characters: an outcome's text is for a table or a log line


class Attempt(ABC):
    """State of an attempt.

    `sent`: a byte of the request may have left; `status`: of the final response; `verdict`: who is to blame for that.
    """

    def __init__(self, request: Request, proxy: Proxy, limits: Limits, clock: Clock) -> None:
        self.request = request
        self.proxy = proxy
        self.limits = limits
        self.clock = clock
        self.sent = False
        self.status: int | None = None
        self.verdict = Verdict()
        self.bytes_up = 0
        self.bytes_down = 0
        self._began = clock.monotonic()
        self._until = self._began + limits.attempt
        self._latency: float | None = None

    @abstractmethod
    def steps(self) -> Steps[Reply | None]:
        """Serve the request and return None, or a reply that another proxy may better; raise what stood in the way."""

    def outcome(self, failure: UpstreamError | None = None) -> Outcome:
        """Tell what became of the attempt, for the lease; where a vendor said who is to blame, its word goes."""
        verdict, blame = self.verdict, self.verdict.blame
        if failure is not None:
            verdict = decode_failure(self.proxy.attributes.provider, failure) or Verdict(
                failure.blame, sign_of(failure)
            )
            blame = verdict.blame or failure.blame
        return Outcome(
            ok=blame is None,
            blame=blame,
            latency=self._latency,
            status=self.status,
            error=None if failure is None else str(failure)[:_ERROR_LENGTH],
            rule=verdict.rule,
            retry_after=verdict.retry_after,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
        )

    def _answered(self) -> None:
        """Note how long the proxy took to begin its answer."""
        self._latency = self.clock.monotonic() - self._began

    def _renew(self) -> None:
        """Give the attempt its whole time again, since a body is under way: that is progress, not waiting."""
        self._until = self.clock.monotonic() + self.limits.attempt
        self.request.deadline = max(self.request.deadline, self._until)

    def _patience(self) -> float:
        """Seconds left to this attempt."""
        return max(0.0, min(self._until, self.request.deadline) - self.clock.monotonic())

"""The send policy: how a sender pursues its requests and judges responses; the gateway and the clients share it.

A sender has a number of attempts for one request and a budget of retries for all. Without a budget, a target that is
down gets as many times its load as there are attempts, just when it can bear the least. With one of a fifth it never
gets more than six for five, whatever each request would like. A floor lets a program that sends little retry at all.

Pure but for the budget's clock.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from proxywhirl.backoff import Backoff
from proxywhirl.clock import SYSTEM_CLOCK, Clock
from proxywhirl.errors import Blame
from proxywhirl.models import Outcome
from proxywhirl.rotation.verdicts.response import SILENT, Evidence, Verdict, plain_verdict
from proxywhirl.validation import require

Classify = Callable[[Evidence], Verdict]
"""From a response to the party to blame; pure, quick, and raises nothing."""

IDEMPOTENT_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""RFC 9110 section 9.2.2. Methods are case-sensitive (section 9.1): `get` is an unknown method."""

HELD_RESPONSE = 64 * 1024
"""Bytes of a response that are held back at the most. One that declares no more is read whole before the client gets
its first byte, so that one which is cut short can still be had through another proxy."""

ROUND_BACKOFF = Backoff(2.0, 300.0, growth=3.0)
"""The waits between rounds of one request: all of its proxies have failed."""

_OF_GATEWAYS = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})
_REPEATED = frozenset({Blame.PROXY, Blame.ACCOUNT, Blame.TARGET_THROUGH_PROXY})
_SLICES = 10  # pieces of the budget's window: what leaves it does so a piece at a time


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How far a request is pursued.

    Attributes:
        attempts: How many are made at one request at the most, the first included.
        rounds: How often each proxy may be tried for one request.
        unsafe: Whether methods that are not idempotent are sent again too, though they may have had their effect.

    Raises:
        TypeError: A value is of another kind.
        ValueError: `attempts` or `rounds` is less than 1.
    """

    attempts: int = 20
    rounds: int = 1
    unsafe: bool = False

    def __post_init__(self) -> None:
        """Refuse what would mean no attempt at all."""
        for name in ("attempts", "rounds"):
            require(name, getattr(self, name), int, "a whole number")
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        require("unsafe", self.unsafe, bool, "True or False")


@dataclass(slots=True)
class _Slice:
    number: int = -1
    requests: int = 0
    retries: int = 0


class RetryBudget:
    """Allows retries up to a share of the requests within a window, or to a floor. Thread-safe; each call is O(1).

    Args:
        share: Retries for each request, 0.2 for a fifth.
        floor: Retries that are allowed in each window however few the requests.
        window: Seconds that are looked back on.
        clock: Its monotonic time moves the window.

    Raises:
        ValueError: `share` or `floor` is below 0, or `window` is not above it.
    """

    def __init__(
        self, *, share: float = 0.2, floor: int = 10, window: float = 10.0, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        if not share >= 0 or not floor >= 0 or not window > 0:
            raise ValueError(f"share and floor must be 0 or more and window above 0, not {share}, {floor}, {window}")
        self._share = share
        self._floor = floor
        self._clock = clock
        self._width = window / _SLICES
        self._ring = [_Slice() for _ in range(_SLICES)]
        self._lock = threading.Lock()

    def note_request(self) -> None:
        """Count a request, its first attempt."""
        with self._lock:
            self._now().requests += 1

    def take(self) -> bool:
        """Count a retry where the budget allows one more, and tell whether it does."""
        with self._lock:
            current = self._now()
            retries, requests = self._counted(current)
            if retries + 1 > max(self._floor, self._share * requests):
                return False
            current.retries += 1
            return True

    def give_back(self) -> None:
        """Uncount a retry that was allowed and not made."""
        with self._lock:
            current = self._now()
            current.retries = max(0, current.retries - 1)

    def spent(self) -> tuple[int, int]:
        """Return the retries and the requests of the window."""
        with self._lock:
            return self._counted(self._now())

    def _now(self) -> _Slice:
        """Return the piece of now, empty where the window has moved on to it."""
        number = int(self._clock.monotonic() / self._width)
        current = self._ring[number % _SLICES]
        if current.number != number:
            current.number, current.requests, current.retries = number, 0, 0
        return current

    def _counted(self, current: _Slice) -> tuple[int, int]:
        pieces = [piece for piece in self._ring if piece.number > current.number - _SLICES]
        return sum(piece.retries for piece in pieces), sum(piece.requests for piece in pieces)


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """Senders that share one share its budget.

    Attributes:
        policy: How far a request is pursued.
        budget: How many retries there may be.
        classify: Who is to blame for a response.
        rng: Draws the jitter of waits.
    """

    policy: RetryPolicy = field(default_factory=RetryPolicy)
    budget: RetryBudget = field(default_factory=RetryBudget)
    classify: Classify = plain_verdict
    rng: random.Random = field(default_factory=random.Random, repr=False)


def is_repeated(verdict: Verdict) -> bool:
    """Tell whether another proxy may get a better response: not where all is well, or the target itself failed."""
    return verdict.blame in _REPEATED


def as_forwarded(verdict: Verdict, status: int) -> Verdict:
    """Weaken a verdict on what a proxy forwarded outside of a tunnel: it is a gateway too (RFC 9110 section 15.6.3).

    That the target failed by 502, 503 or 504 may be the proxy's own word, so that another one is tried. Where it was
    the target's, several proxies fail alike.
    """
    if verdict.blame is Blame.TARGET and status in _OF_GATEWAYS:
        return replace(verdict, blame=Blame.TARGET_THROUGH_PROXY)
    return verdict


class AttemptRecord:
    """The record of one attempt: the evidence for its verdict, and the outcome to report.

    `latency` is in seconds to the head of the response, or to the tunnel. Of the response's body the first bytes are
    kept, as they came: a page in a content coding stays in it. `reached` once the target was (see `Outcome`).
    """

    def __init__(self, site: str, method: str, clock: Clock) -> None:
        self.verdict = Verdict()
        self.status: int | None = None
        self.latency: float | None = None
        self.bytes_up = self.bytes_down = 0
        self.reached = False
        self._site = site
        self._method = method
        self._clock = clock
        self._began = clock.monotonic()
        self._at: float | None = None
        self._headers: tuple[tuple[bytes, bytes], ...] = ()
        self._first = bytearray()

    def answered(self, status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Note the head of the final response, names in lower case."""
        self.latency, self._at = self._clock.monotonic() - self._began, self._clock.now()
        self.status, self._headers = status, tuple(headers)
        self.reached = True

    def received(self, data: bytes) -> None:
        """Note a piece of the response's body."""
        self.bytes_down += len(data)
        self._first += data[: HELD_RESPONSE - len(self._first)]

    def evidence(self, length: int | None) -> Evidence:
        """Return the evidence so far; `length` is that of the whole body, None where not known."""
        return Evidence(
            site=self._site,
            method=self._method,
            status=self.status or 0,
            headers=self._headers,
            body=bytes(self._first),
            length=length,
            latency=self.latency,
            at=self._at,
        )

    def outcome(self, told: Verdict, error: str | None = None) -> Outcome:
        """Return the outcome to report: who is to blame, for the response or for a failure.

        The latency of an attempt that stayed silent is how long it was waited for.
        """
        silent = self.latency is None and told.rule == SILENT
        return Outcome(
            ok=told.blame is None,
            blame=told.blame,
            latency=self._clock.monotonic() - self._began if silent else self.latency,
            status=self.status,
            error=error,
            rule=told.rule,
            retry_after=told.retry_after,
            bytes_up=self.bytes_up,
            bytes_down=self.bytes_down,
            reached=self.reached and told.blame is not None,
        )

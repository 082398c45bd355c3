"""The values that every package shares: plain, frozen, without I/O.

A `Proxy` here never holds a credential; those stay in the cache and are fetched by key when a
connection is made.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, Self, get_args
from zlib import crc32

from proxywhirl.errors import Blame, ProxyURLError
from proxywhirl.hosts import split_authority
from proxywhirl.urls import ProxyURL, default_port
from proxywhirl.validation import LARGEST, require, require_count, require_moment, require_within

Anonymity = Literal["transparent", "anonymous", "elite"]

_COUNTRY = re.compile(r"[A-Z]{2}")
ANONYMITIES: tuple[Anonymity, ...] = get_args(Anonymity)  # each hides more than the one before
_FINITE = sys.float_info.max


class HealthStatus(str, Enum):
    """How well a proxy works.

    >>> HealthStatus("healthy") is HealthStatus.HEALTHY
    True
    """

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"
    DEAD = "dead"

    def or_worse(self, other: HealthStatus) -> HealthStatus:
        """Return the worse of two; one that is unknown is no worse than a healthy one.

        >>> HealthStatus.DEGRADED.or_worse(HealthStatus.DEAD), HealthStatus.UNHEALTHY.or_worse(HealthStatus.UNKNOWN)
        (<HealthStatus.DEAD: 'dead'>, <HealthStatus.UNHEALTHY: 'unhealthy'>)
        """
        return max(self, other, key=_ILLNESS.__getitem__)


_ILLNESS = {status: max(place, 1) for place, status in enumerate(HealthStatus)}


def _told(description: str) -> dict[str, str]:
    """Return a description where pydantic looks for it, which this module does without."""
    return {"description": description}


@dataclass(frozen=True, slots=True)
class Attributes:
    """What is known of a proxy beside its address; every field is optional.

    `country` is an ISO 3166-1 alpha-2 code, `asn` a number without its "AS", `price_per_gb` a
    price for 10⁹ bytes in the user's currency, `weight` a share of traffic (0 = never, infinity = all).

    Raises:
        TypeError: a field is of another kind.
        ValueError: a country or an anonymity is none, or a number is less than 0, too large, none, or an endless price.

    >>> Attributes(country="de", tags=("fast",)).country
    'DE'
    """

    label: str | None = field(default=None, metadata=_told("What tells sessions of one endpoint apart."))
    country: str | None = field(default=None, metadata=_told("The exit's country as an ISO 3166-1 alpha-2 code."))
    region: str | None = field(default=None, metadata=_told("The exit's region."))
    city: str | None = field(default=None, metadata=_told("The exit's city."))
    asn: int | None = field(default=None, metadata=_told("The number of the exit's network, without its AS."))
    anonymity: Anonymity | None = field(default=None, metadata=_told("What a target can tell of whom it serves."))
    tags: tuple[str, ...] = field(default=(), metadata=_told("Words of the user's own, to filter by."))
    weight: float | None = field(default=None, metadata=_told("A share of traffic; 0 for none at all."))
    price_per_gb: float | None = field(default=None, metadata=_told("What 10⁹ bytes cost, in the user's currency."))
    provider: str | None = field(default=None, metadata=_told("The vendor that the proxy is rented from."))

    def named(self) -> dict[str, Any]:
        """Return the fields that say something, by name."""
        values = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: value for name, value in values if value is not None and value != ()}

    def __post_init__(self) -> None:
        """Bring the country to upper case and check kinds and ranges."""
        _require_texts(self, "label", "region", "city", "provider", "anonymity")
        if self.country is not None:
            require("country", self.country, str, "a two-letter code such as DE, or None")
            country = self.country.strip().upper()
            if not _COUNTRY.fullmatch(country):
                raise ValueError(f"country must be a two-letter code such as DE, not {self.country!r}")
            object.__setattr__(self, "country", country)
        if self.tags != ():
            given: object = self.tags
            if isinstance(given, str | bytes):
                raise TypeError("tags must be several, not one text: put it in brackets")
            require("tags", given, Iterable, "several texts")
            object.__setattr__(self, "tags", tuple(self.tags))  # a list is taken too
            for tag in self.tags:
                require("each of tags", tag, str, "a text")
        if self.anonymity is not None and self.anonymity not in ANONYMITIES:
            raise ValueError(f"anonymity must be one of {', '.join(ANONYMITIES)}, not {self.anonymity!r}")
        if self.asn is not None:
            require_count("asn", self.asn)
        if self.weight is not None and self.weight != math.inf:
            require_within("weight", self.weight, 0.0, _FINITE, "0 or more", kind="a number or None")
        _require_amounts(self, "0 or more and finite", "a number or None", "price_per_gb")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy as the pool and the gateway know it: an identity and what is known, no credential.

    `label` tells sessions of one endpoint apart where the identity has a username.
    """

    key: str
    scheme: str
    host: str
    port: int
    label: str | None = None
    source: str = ""
    status: HealthStatus = HealthStatus.UNKNOWN
    attributes: Attributes = field(default_factory=Attributes)

    @classmethod
    def of(
        cls,
        url: ProxyURL,
        *,
        source: str = "",
        status: HealthStatus = HealthStatus.UNKNOWN,
        attributes: Attributes | None = None,
    ) -> Self:
        """Build the value for a parsed URL, leaving its credential behind."""
        known = attributes or Attributes()
        label = known.label or url.label
        return cls(url.key, url.scheme, url.host, url.port, label, source, status, known)

    @property
    def url(self) -> str:
        """The endpoint as `scheme://host:port`, never with a credential."""
        return f"{self.scheme}://{self.host}:{self.port}"

    def __str__(self) -> str:
        """Return the endpoint and, where there is one, the label."""
        return f"{self.url} ({self.label})" if self.label else self.url


Sketch = tuple[str, str]
"""A `Proxy` in the least memory: its URL, and a text of all else that many proxies share.

A plain tuple of plain values: the garbage collector looks at it once, so that a pool of a million costs no pauses.
Who makes sketches makes values of them too (`cache.portray`); to others the text means nothing.
"""


_END_OF_AUTHORITY = re.compile("[/?]")


def page_of(method: str, path: str) -> int:
    """Return the hash of a page, of 32 bits: pages that are taken for one another by chance are no harm.

    >>> page_of("GET", "") == page_of("GET", "/"), page_of("GET", "/a?n=1") == page_of("GET", "/a?n=2")
    (True, False)

    Args:
        method: Of the request.
        path: With its query, as it is sent; an empty path is `/`.
    """
    if not path.startswith("/"):
        path = f"/{path}"
    return crc32(f"{method} {path}".encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: `scheme` is http or https, `host` is without brackets.

    `page` tells pages of one site apart: a hash of method, path and query. It is None in a tunnel, where none is seen.
    It is evidence and no part of where the request goes: targets that differ in it alone are equal.

    >>> Target.parse("https://example.com/path")
    Target(scheme='https', host='example.com', port=443)
    """

    scheme: str
    host: str
    port: int
    page: int | None = field(default=None, compare=False, repr=False, kw_only=True)

    @classmethod
    def parse(cls, url: str, *, method: str = "GET") -> Self:
        """Take scheme, host, port and page from an absolute http or https URL.

        Raises:
            ProxyURLError: `url` is not an absolute http or https URL.
        """
        scheme, separator, rest = url.partition("://")
        scheme = scheme.lower()
        if not separator or scheme not in ("http", "https"):
            raise ProxyURLError("a target must be an absolute http:// or https:// URL")
        rest = rest.partition("#")[0]
        authority = _END_OF_AUTHORITY.split(rest, maxsplit=1)[0]
        host, port = split_authority(authority.rpartition("@")[2], default_port(scheme))
        return cls(scheme, host, port, page=page_of(method, rest[len(authority) :]))

    @property
    def authority(self) -> str:
        """`host:port`, with an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def site(self) -> str:
        """What bans and other verdicts hold for: the host, and the port where it is not its scheme's own.

        >>> Target.parse("https://example.com/").site, Target.parse("http://127.0.0.1:8080/").site
        ('example.com', '127.0.0.1:8080')
        """
        return self.host if self.port == default_port(self.scheme) else self.authority


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one use of a proxy. `latency` is in seconds, `bytes_*` count payload bytes.

    `rule` names what a verdict was found by, such as a ban rule; failures of the same rule are alike. `retry_after`
    is for how many seconds the target asked to be left alone. `reached` says of a failure that the proxy did its part:
    a tunnel to the target was open, or an answer of it had begun.

    Raises:
        TypeError: a field is of another kind.
        ValueError: a number is less than 0, or not finite.
    """

    ok: bool
    blame: Blame | None = field(default=None, kw_only=True)
    latency: float | None = field(default=None, kw_only=True)
    status: int | None = field(default=None, kw_only=True)
    error: str | None = field(default=None, kw_only=True)
    rule: str | None = field(default=None, kw_only=True)
    retry_after: float | None = field(default=None, kw_only=True)
    bytes_up: int = field(default=0, kw_only=True)
    bytes_down: int = field(default=0, kw_only=True)
    reached: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        """Refuse values that would be learnt wrongly, and for long; most are seen to be well at once."""
        if not (
            type(self.ok) is type(self.reached) is bool
            and (self.latency is None or (type(self.latency) is float and 0.0 <= self.latency <= _FINITE))
            and (self.blame is None or type(self.blame) is Blame)
            and (self.status is None or (type(self.status) is int and 0 <= self.status <= LARGEST))
            and type(self.bytes_up) is type(self.bytes_down) is int
            and 0 <= self.bytes_up | self.bytes_down <= LARGEST
            and (self.error is None or type(self.error) is str)
            and (self.rule is None or type(self.rule) is str)
            and self.retry_after is None
        ):
            self._check()

    def _check(self) -> None:
        require("ok", self.ok, bool, "True or False")
        require("reached", self.reached, bool, "True or False")
        if self.blame is not None:
            require("blame", self.blame, Blame, "a Blame, such as Blame.PROXY, or None")
        if self.status is not None:
            require_count("status", self.status, kind="a number or None")
        seconds = "0 seconds or more and finite", "a number of seconds or None"
        _require_amounts(self, *seconds, "latency", "retry_after")
        _require_texts(self, "error", "rule")
        require_count("bytes_up", self.bytes_up, kind="a number of bytes")
        require_count("bytes_down", self.bytes_down, kind="a number of bytes")

    @property
    def counts_against_proxy(self) -> bool:
        """Whether the proxy or its account failed; a failure without blame is the proxy's."""
        return not self.ok and self.blame in (None, Blame.PROXY, Blame.ACCOUNT)


@dataclass(frozen=True, slots=True)
class CheckTimes:
    """A page of what changed in a store, as a monitor reads it: when each key is to be checked, and which are gone.

    `due` is in Unix seconds, 0 where a proxy was never checked. With `reset`, forget all that was known before; with
    `more`, another page follows, which `revision` asks for.
    """

    revision: int
    due: dict[str, float]
    removed: list[str]
    reset: bool = False
    more: bool = False


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """One verdict on a proxy's health, as the cache records it. Times are Unix seconds.

    >>> HealthCheck(True, HealthStatus.HEALTHY, at=1.0, next_check=float("inf"))
    Traceback (most recent call last):
    ValueError: next_check must be a time in Unix seconds, of the years 1 to 9999, not inf

    Raises:
        TypeError: a field is of another kind.
        ValueError: a time is of no year from 1 to 9999, or `recovery_attempt` is less than 0 or of more than 63 bits.
    """

    ok: bool
    status: HealthStatus
    at: float
    next_check: float | None = None
    recovery_attempt: int = 0
    error: str | None = None

    def __post_init__(self) -> None:
        """Refuse values that no store could hold: they would be lost after they were acknowledged."""
        require("ok", self.ok, bool, "True or False")
        require("status", self.status, HealthStatus, "a HealthStatus, such as HealthStatus.HEALTHY")
        require_moment("at", self.at)
        if self.next_check is not None:
            require_moment("next_check", self.next_check)
        require_count("recovery_attempt", self.recovery_attempt)
        _require_texts(self, "error")


Assess = Callable[[HealthStatus, int, int, bool], HealthCheck]
"""From a status, successes in a row, failures in a row, and whether any check succeeded, to the next health check."""


def _require_texts(value: object, *names: str) -> None:
    for name in names:
        if (text := getattr(value, name)) is not None and type(text) is not str:
            require(name, text, str, "a text or None")


def _require_amounts(value: object, what: str, kind: str, *names: str) -> None:
    for name in names:
        if (number := getattr(value, name)) is not None:
            require_within(name, number, 0.0, _FINITE, what, kind=kind)

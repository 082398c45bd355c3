"""What a rule is: conditions on a response, all of which must hold, and who is to blame then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self

from proxywhirl.errors import Blame
from proxywhirl.rotation.verdicts.patterns import Pattern, Wording
from proxywhirl.rotation.verdicts.response import Response

NO_BODY = "HEAD"
"""The method whose response has no body; its length is that of what GET would have got (RFC 9110 section 9.3.2)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a redirect leads: a host with those below it, a path with those below it, or both.

    >>> Place.of("example.com/sorry").is_at("www.example.com", "/sorry/index")
    True
    """

    host: str
    path: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Read `host`, `host/path` or `/path`."""
        host, slash, path = text.lower().partition("/")
        return cls(host, (slash + path).rstrip("/"))

    def is_at(self, host: str, path: str) -> bool:
        """Tell whether a host and path are there; a path goes on behind `/`, or with the ending of a file."""
        if self.host and host != self.host and not host.endswith(f".{self.host}"):
            return False
        return path == self.path or path.startswith((f"{self.path}/", f"{self.path}."))

    def __str__(self) -> str:
        return self.host + self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. A condition that is left empty asks for nothing, of several texts one must be found.

    Attributes:
        name: Names it in verdicts, bans and logs.
        blame: Who is to blame where it holds; None says that the response is as it should be.
        about: What it finds, in a sentence.
        domains: The hosts that it is for, with those below them; none for all.
        statuses: Of the response.
        methods: Of the request.
        headers: Names in lower case, and what one of their values holds.
        redirects: Where the response leads to.
        titles: What the page's title is, or its first heading where it has no title.
        bodies: What stands in the first `LOOKED_AT` bytes of the body.
        patterns: What matches there.
        shorter_than: Bytes of the whole body; holds of no body whose length is not known, and of no HEAD.
        faster_than: Seconds to the head of the response.
        retry_after: Seconds to wait where the response itself names none.
        enabled: Whether it is looked at.
        built_in: Whether it came with the package.
    """

    name: str
    blame: Blame | None
    about: str = ""
    domains: tuple[str, ...] = ()
    statuses: frozenset[int] = frozenset()
    methods: frozenset[str] = frozenset()
    headers: tuple[tuple[bytes, tuple[Wording, ...]], ...] = ()
    redirects: tuple[Place, ...] = ()
    titles: tuple[Wording, ...] = ()
    bodies: tuple[Wording, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    shorter_than: int | None = None
    faster_than: float | None = None
    retry_after: float | None = None
    enabled: bool = True
    built_in: bool = field(default=False, compare=False)

    def may_fit(self, status: int) -> bool:
        """Tell whether it can hold of a response with that status."""
        return self.enabled and (not self.statuses or status in self.statuses)

    def fits(self, response: Response) -> bool:
        """Tell whether every condition holds; those that cost the least are asked first. The domain is not asked."""
        evidence = response.evidence
        return (
            self.may_fit(evidence.status)
            and (not self.methods or evidence.method in self.methods)
            and (self.faster_than is None or _under(evidence.latency, self.faster_than))
            and (self.shorter_than is None or _is_short(response, self.shorter_than))
            and all(_is_there(response, name, wordings) for name, wordings in self.headers)
            and (not self.redirects or any(place.is_at(*response.place) for place in self.redirects))
            and (not self.titles or any(wording.is_all_of(response.title) for wording in self.titles))
            and (not self.bodies or any(wording.is_in(response.text) for wording in self.bodies))
            and (not self.patterns or any(pattern.is_in(response.text) for pattern in self.patterns))
        )


def _under(value: float | None, bound: float) -> bool:
    return value is not None and value < bound


def _is_short(response: Response, bound: int) -> bool:
    return response.evidence.method != NO_BODY and _under(response.evidence.length, bound)


def _is_there(response: Response, name: bytes, wordings: tuple[Wording, ...]) -> bool:
    values = response.headers.get(name, ())
    return any(wording.is_in(value) for value in values for wording in wordings)

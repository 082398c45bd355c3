"""Rules: conditions on a response that must all hold, and the party to blame then. Pure.

The first rule that holds decides. The rules of a domain come before those that are for every site, and those of a
longer domain before those of a shorter one; otherwise they are asked in the order in which they were given. Where none
holds, all is well.

No rule and no page can make a search go on for long. A `Wording` is no regular expression: it is found by a few
searches from left to right. A `Pattern` is one of RE2's, which knows no look-around and no back-reference: it is
searched in time that grows with the text alone. Source: RE2's page "Syntax", https://github.com/google/re2/wiki/Syntax.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from proxywhirl.errors import Blame, SettingsError
from proxywhirl.rotation.verdicts.response import Evidence, Response, Verdict
from proxywhirl.wire.retry_after import wait_asked

NO_BODY = "HEAD"
"""The method whose response has no body; its length is that of what GET would have got (RFC 9110 section 9.3.2)."""


@dataclass(frozen=True, slots=True)
class Wording:
    """A text to look for; `parts` are what stands between its stars, in lower case.

    >>> Wording.of("Access*DENIED").is_in(b"<p>access is denied</p>")
    True
    """

    text: str
    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        """Take a text apart; it is looked for in UTF-8."""
        return cls(text, tuple(text.encode().lower().split(b"*")))

    @property
    def says_nothing(self) -> bool:
        """Whether it would be found in anything."""
        return not any(self.parts)

    def is_in(self, lowered: bytes) -> bool:
        """Tell whether it stands anywhere in a text that is in lower case: one search for each part."""
        place = 0
        for part in self.parts:
            place = lowered.find(part, place)
            if place < 0:
                return False
            place += len(part)
        return True

    def is_all_of(self, lowered: bytes) -> bool:
        """Tell whether it is the whole of a text that is in lower case."""
        first, *others = self.parts
        if not lowered.startswith(first):  # nearly every comparison ends here
            return False
        if not others:
            return len(lowered) == len(first)
        *middle, last = others
        place, end = len(first), len(lowered) - len(last)
        if end < place or not lowered.endswith(last):
            return False
        for part in middle:
            place = lowered.find(part, place, end)
            if place < 0:
                return False
            place += len(part)
        return True


NEEDS_EXTRA = "a regular expression needs the extra `patterns`: pip install 'proxywhirl[patterns]'"


@dataclass(frozen=True, slots=True)
class Pattern:
    """An expression to look for; case means nothing, and `.` is any byte."""

    text: str
    _compiled: Any = field(repr=False, compare=False)

    @classmethod
    def of(cls, text: str) -> Self:
        """Compile an expression.

        Raises:
            SettingsError: it is none; or RE2 is not installed, and the message says how to install it.
        """
        try:
            import re2  # noqa: PLC0415  # an extra
        except ImportError as exc:
            raise SettingsError(NEEDS_EXTRA) from exc
        options = re2.Options()
        options.case_sensitive = False
        options.dot_nl = True
        options.log_errors = False  # errors are raised
        try:
            return cls(text, re2.compile(text.encode(), options))
        except re2.error as exc:
            reason = exc.args[0].decode("utf-8", "replace")
            raise SettingsError(f"{text!r} is no regular expression of RE2: {reason}") from None

    def is_in(self, text: bytes) -> bool:
        """Tell whether it matches anywhere in a text; takes O(length)."""
        return self._compiled.search(text) is not None


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
        blame: The party to blame where it holds; None says that the response is as it should be.
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


_STATUSES = range(100, 1000)  # three digits, RFC 9110 section 15


class Classifier:
    """Judges responses by rules. Thread-safe: what it keeps depends on the rules alone.

    A verdict costs a few µs for each rule that is for the status, and at the most one search of `LOOKED_AT` bytes for
    each wording of them, whatever the page.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._of_domain: dict[str, list[Rule]] = {}
        for rule in self.rules:
            for domain in rule.domains:
                self._of_domain.setdefault(domain, []).append(rule)
        self._of_status: dict[int, tuple[Rule, ...]] = {}

    def verdict(self, evidence: Evidence) -> Verdict:
        """Find out the party to blame for a response."""
        response = Response(evidence)
        for rule in self._asked(evidence):
            if rule.fits(response):
                if rule.blame is None:
                    return Verdict(rule=rule.name)
                asked = wait_asked(response.headers, evidence.status, evidence.at)
                return Verdict(rule.blame, rule.name, rule.retry_after if asked is None else asked)
        return Verdict()

    def _asked(self, evidence: Evidence) -> Iterator[Rule]:
        if self._of_domain:
            for domain in _domains(evidence.site):
                yield from self._of_domain.get(domain, ())
        rules = self._of_status.get(evidence.status)
        if rules is None:
            rules = tuple(rule for rule in self.rules if not rule.domains and rule.may_fit(evidence.status))
            if evidence.status in _STATUSES:
                self._of_status[evidence.status] = rules
        yield from rules


def _domains(site: str) -> Iterator[str]:
    """Yield the host of a site and the domains that it is in, the longest first.

    >>> list(_domains("shop.example.com:8080"))
    ['shop.example.com', 'example.com', 'com']
    """
    if site.startswith("["):
        yield site[1:].partition("]")[0]
        return
    host = site if site.count(":") > 1 else site.partition(":")[0]
    while host:
        yield host
        host = host.partition(".")[2]

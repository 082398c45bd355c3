"""From what came back to the party to blame (pure).

The first rule that holds decides. The rules of a domain come before those that are for every site, and those of a
longer domain before those of a shorter one; otherwise they are asked in the order in which they were given. Where none
holds, all is well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proxywhirl.rotation.verdicts.response import Evidence, Response, Verdict
from proxywhirl.rotation.verdicts.retry_after import wait_asked
from proxywhirl.rotation.verdicts.rules import Rule

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
        """Find out who is to blame for a response."""
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

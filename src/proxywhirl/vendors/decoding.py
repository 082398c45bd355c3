"""What the answers of vendors' gateways mean: who is to blame (pure).

A header may echo the credential that was sent: nothing of it is shown but codes that stand in `providers.toml`.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxywhirl.errors import UpstreamError
from proxywhirl.rotation.retries.send_policy import Classify, as_forwarded
from proxywhirl.rotation.verdicts.response import Evidence, Verdict
from proxywhirl.vendors.provider import ErrorRule, providers
from proxywhirl.wire.retry_after import retry_after

Headers = Iterable[tuple[bytes, bytes]]


def decode(provider: str | None, status: int, headers: Headers, *, tunnel: bool = True) -> Verdict | None:
    """Return who is to blame for an answer of a vendor's gateway; None where the vendor says nothing of it.

    A refused tunnel is the vendor's in any case. Without a `tunnel` the answer is the vendor's where it carries the
    vendor's header, since a target may answer with any status. A target that sends such a header itself is taken for
    the vendor: in plain HTTP nobody can tell. Names of headers are compared without case. The verdict's rule is
    `provider:code`; `retry_after` comes from Retry-After in seconds (RFC 9110 section 10.2.3).

    >>> decode("brightdata", 407, [(b"x-brd-err-code", b"client_10020")])
    Verdict(blame=<Blame.ACCOUNT: 'account'>, rule='brightdata:client_10020', retry_after=None)
    """
    vendor = providers().get(provider) if provider else None
    if vendor is None:
        return None
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found.setdefault(name.lower(), value)
    for rule in vendor.errors:
        called = _holds(rule, status, found, tunnel=tunnel)
        if called is not None:
            return Verdict(
                rule.blame,
                f"{vendor.name}:{called}",
                retry_after({b"retry-after": [found.get(b"retry-after", b"").strip()]}),
            )
    return None


def classify_forwarded(provider: str | None, evidence: Evidence, classify: Classify) -> Verdict:
    """Classify a response outside of a tunnel; if its vendor says that it is the vendor's own, that counts."""
    said = decode(provider, evidence.status, evidence.headers, tunnel=False)
    return as_forwarded(classify(evidence), evidence.status) if said is None else said


def decode_failure(provider: str | None, failure: UpstreamError) -> Verdict | None:
    """Do as `decode` for the error that a refused tunnel became; None for any other error."""
    if provider is None or failure.refusal is None:
        return None
    return decode(provider, *failure.refusal)


def _holds(rule: ErrorRule, status: int, headers: dict[bytes, bytes], *, tunnel: bool) -> str | None:
    """Return what a rule calls an answer, None where it does not hold for it."""
    if rule.statuses and status not in rule.statuses:
        return None
    if not rule.headers:
        return rule.name if tunnel else None
    for header in rule.headers:
        value = headers.get(header)
        if value is None:
            continue
        text = value.decode("latin-1")
        if rule.codes is not None:
            match = rule.codes.search(text.replace("-", "_"))
            if match is not None:
                return rule.name or match[1]
        elif rule.says is not None and rule.says.search(text):
            return rule.name
    return None

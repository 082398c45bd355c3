"""A verdict by the status alone, for a sender that was given no rules. Pure.

What some failures have in common beyond their blame: the rules of outcomes that no response was judged for. Pure.
"""

from __future__ import annotations

from http import HTTPStatus

from proxywhirl.errors import Blame, UpstreamError
from proxywhirl.rotation.verdicts.response import Evidence, Verdict

NO_CONNECT = "no-connect"
"""This proxy opens no tunnels, to whatever site."""

SILENT = "silent"
"""The proxy was reached and no answer came in time: it may be the site that hangs."""

_NOT_OFFERED = frozenset({HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED})


def sign_of(failure: UpstreamError) -> str | None:
    """Return the rule of a failure, None of one that has none."""
    if failure.silent:
        return SILENT
    return NO_CONNECT if failure.refusal is not None and failure.refusal[0] in _NOT_OFFERED else None


_REFUSALS = frozenset(
    {
        HTTPStatus.FORBIDDEN,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,  # a gateway's words (RFC 9110 section 15.6): it may be the proxy or the site's own
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


def plain_verdict(evidence: Evidence) -> Verdict:
    """Blame the target through this proxy for what another proxy may get: 403, 429, 502, 503 and 504.

    `Retry-After` counts where it is a number of seconds (RFC 9110 section 10.2.3).
    """
    if evidence.status not in _REFUSALS:
        return Verdict()
    asked = dict(evidence.headers).get(b"retry-after", b"").strip()
    return Verdict(
        Blame.TARGET_THROUGH_PROXY,
        f"status-{evidence.status}",
        float(asked) if asked.isdigit() and len(asked) <= 9 else None,  # noqa: PLR2004 - three centuries
    )

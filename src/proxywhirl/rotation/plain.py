"""A verdict by the status alone, for a sender that was given no rules. Pure."""

from __future__ import annotations

from http import HTTPStatus

from proxywhirl.errors import Blame
from proxywhirl.rotation.evidence import Evidence, Verdict

__all__ = ["plain_verdict"]

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

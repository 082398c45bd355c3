"""What some failures have in common beyond their blame: the rules of outcomes that no response was judged for. Pure."""

from __future__ import annotations

from http import HTTPStatus

from proxywhirl.errors import UpstreamError

__all__ = ["NO_CONNECT", "SILENT", "sign_of"]

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

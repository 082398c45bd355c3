"""Translate what the network raises while a proxy is dialled into the error that blames the right party."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from contextlib import suppress
from ipaddress import ip_address

from proxywhirl.errors import LocalFailure, ProxyFailed, UpstreamError
from proxywhirl.urls import ProxyURL

FOREIGN = (OSError, EOFError, asyncio.LimitOverrunError, ValueError, OverflowError)
"""All that connecting to a proxy and speaking to it raises: the last two where its address is none."""

# What this machine lacks, whatever proxy is dialled: descriptors, memory, ports, a route, permission.
_OURS = frozenset(
    {
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,
        errno.ENETUNREACH,
        errno.ENETDOWN,
        errno.EAFNOSUPPORT,
        errno.EACCES,
        errno.EPERM,
    }
)


def translated(
    exc: OSError | EOFError | asyncio.LimitOverrunError | ValueError | OverflowError, proxy: ProxyURL, timeout: float
) -> UpstreamError:
    """Return the error to raise `from exc`, one of `FOREIGN`; `timeout` is how many seconds were allowed."""
    error: type[UpstreamError] = ProxyFailed
    match exc:
        case socket.gaierror(errno=socket.EAI_AGAIN):
            error, words = LocalFailure, "could not be looked up: this machine's name service does not answer"
        case socket.gaierror() | UnicodeError():
            words = "has no address: its name cannot be resolved"
        case ssl.SSLError():
            words = _tls_words(exc)
        case TimeoutError():
            words = f"did not answer within {timeout:g} s"
        case OSError(errno=code) if code in _OURS and not _is_nowhere(proxy.host):
            error, words = LocalFailure, f"could not be dialled from this machine: {os.strerror(code)}"
        case OSError(errno=code):  # asyncio joins the failures of several addresses into one without a number
            words = f"could not be connected to: {os.strerror(code) if code else 'none of its addresses answers'}"
        case OverflowError():
            words = "has no port that exists: they go from 1 to 65535"
        case ValueError():
            words = "has an address that cannot be dialled"
        case EOFError():
            words = "closed the connection during the handshake"
        case _:
            words = "answered more than a handshake may hold"
    return error(f"{proxy.canonical} {words}")


def _is_nowhere(host: str) -> bool:
    """Whether it is an address of many, or of none, to which no machine has a route."""
    with suppress(ValueError):
        address = ip_address(host.strip("[]"))
        return address.is_multicast or address.is_reserved
    return False


def _tls_words(exc: ssl.SSLError) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"has a certificate that is not trusted: {exc.verify_message}"
    return f"failed in TLS: {exc.reason or 'the connection was cut'}"

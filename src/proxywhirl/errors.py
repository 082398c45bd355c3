"""Every exception that ProxyWhirl raises on purpose.

The tree::

    ProxyWhirlError
    ├── ProxyURLError (ValueError)       a text has the shape of a proxy and is wrong
    ├── ListFormatError (ValueError)     a file or stream cannot be read as a list at all
    ├── SettingsError (ValueError)       a setting, option or environment variable is wrong
    ├── UnknownNameError (LookupError)   no strategy (tier, parser…) has that name
    ├── SourceError                      a source of proxies could not be fetched
    ├── PoolEmpty                        there is no proxy to send a request through
    ├── SiteResting                      the target failed through several proxies and is left alone for now
    ├── SessionLost                      the proxy of a session cannot serve it, and it may have no other
    ├── LeaseExpired                     an exclusive lease ended before it was renewed
    ├── ProxyGone                        a chosen proxy was removed before it was used
    ├── LeaseReported                    a lease was reported twice
    ├── BadHandshake                     a client that connected to us does not speak the protocol
    ├── GatewayError                     the gateway cannot start or was told something impossible
    ├── CacheError
    │   ├── TierError                    a tier could not do what it was asked
    │   ├── FormatVersionError           a file was written by a newer version
    │   └── DecryptionError              stored credentials cannot be read with the key at hand
    └── UpstreamError                    a request through a proxy failed; the type says who is to blame
        ├── ProxyFailed                  the proxy: refused, timed out, broke its protocol
        │   ├── ForgedAnswer             it answered in the place of whom it was asked for
        │   └── InterceptedTLS           it showed a certificate of its own in the tunnel
        ├── AccountRefused               the account at the proxy: 407, wrong or missing credentials
        ├── TargetUnreachable            the target through this proxy: another proxy may reach it
        ├── TargetFailed                 the target itself
        └── LocalFailure                 us: no route, no file descriptors, an impossible request

Messages say what happened, to which proxy or file, and what to do. They never hold a credential.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self


class Blame(StrEnum):
    """Who made a request fail; only the first two count against a proxy."""

    PROXY = "proxy"
    ACCOUNT = "account"
    TARGET_THROUGH_PROXY = "target-through-proxy"
    TARGET = "target"
    US = "us"


class ProxyWhirlError(Exception):
    """Root of the tree: catch it to catch everything that ProxyWhirl raises on purpose."""


class ProxyURLError(ProxyWhirlError, ValueError):
    """A text has the shape of a proxy and is wrong; the message is redacted."""


class ListFormatError(ProxyWhirlError, ValueError):
    """A file or stream cannot be read as a list of proxies or entries at all."""


class SettingsError(ProxyWhirlError, ValueError):
    """A setting, an option or an environment variable has an impossible value."""


class UnknownNameError(ProxyWhirlError, LookupError):
    """Nothing is registered under a name; the message lists the known names."""

    def __init__(self, kind: str, name: str, known: list[str]) -> None:
        super().__init__(f"unknown {kind} {name!r}; known: {', '.join(sorted(known))}")


class SourceError(ProxyWhirlError):
    """A source of proxies could not be fetched, or there is no proxy in what it gave.

    `passing` says that another attempt may succeed, `retry_after` (seconds) when the source wants to be asked again.
    """

    def __init__(self, message: str, *, passing: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.passing = passing
        self.retry_after = retry_after


class PoolEmpty(ProxyWhirlError):
    """There is no proxy to send a request through; nothing was sent.

    `retry_after` says in how many seconds one may be free again, None where waiting does not help.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SiteResting(ProxyWhirlError):
    """The target failed alike through several proxies: nothing is sent to it for `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SessionLost(ProxyWhirlError):
    """The proxy of a session cannot serve this request, and a hard session gets no other."""


class LeaseExpired(ProxyWhirlError):
    """An exclusive lease ended before it was renewed: another holder may have the proxy."""


class ProxyGone(ProxyWhirlError):
    """A chosen proxy was removed from the store before its credential was read; choose another."""


class LeaseReported(ProxyWhirlError):
    """A lease was reported a second time."""


class BadHandshake(ProxyWhirlError):
    """A client that connected to us does not speak the protocol, or asks for what we do not offer."""


class GatewayError(ProxyWhirlError):
    """The gateway cannot start, or was told something impossible."""


class CacheError(ProxyWhirlError):
    """Root of what the cache raises."""


class TierError(CacheError):
    """A tier could not do what it was asked; the manager leaves it out, of writes alone where it is `readable`."""

    def __init__(self, *words: object, readable: bool = False) -> None:
        super().__init__(*words)
        self.readable = readable


class FormatVersionError(CacheError):
    """A stored file has a format that this version does not know."""


class DecryptionError(CacheError):
    """Stored credentials cannot be read with the key at hand."""


class UpstreamError(ProxyWhirlError):
    """A request through a proxy failed. `blame` says who is at fault.

    `refusal` is the status and the headers with which the proxy refused a tunnel, None for any other failure. They may
    echo a credential: they are there to be decoded, never shown. `silent` says that the proxy was reached and no answer
    came in time.
    """

    blame: ClassVar[Blame] = Blame.PROXY
    refusal: tuple[int, tuple[tuple[bytes, bytes], ...]] | None = None
    silent = False

    def about(self, proxy: str) -> Self:
        """Return the same error with the proxy's URL before its words."""
        named = type(self)(f"{proxy} {self}")
        named.refusal, named.silent = self.refusal, self.silent
        return named


class ProxyFailed(UpstreamError):
    """The proxy refused, timed out or broke its protocol."""


class ForgedAnswer(ProxyFailed):
    """The proxy answered in the place of whom it was asked for: from a cache, or with a text of its own."""


class InterceptedTLS(ProxyFailed):
    """The tunnel shows a certificate that is not the target's: the proxy reads what is encrypted."""


class AccountRefused(UpstreamError):
    """The proxy does not accept the account: missing or wrong credentials, or a quota."""

    blame = Blame.ACCOUNT


class TargetUnreachable(UpstreamError):
    """The proxy works and cannot or will not reach this target; another one may."""

    blame = Blame.TARGET_THROUGH_PROXY


class TargetFailed(UpstreamError):
    """The target itself failed, whatever the proxy."""

    blame = Blame.TARGET


class LocalFailure(UpstreamError):
    """This machine or this request is at fault; no proxy is to blame."""

    blame = Blame.US

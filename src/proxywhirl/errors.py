"""Every exception that ProxyWhirl raises on purpose.

The tree::

    ProxyWhirlError
    ├── ProxyURLError, ListFormatError, SettingsError     each a ValueError too
    ├── UnknownNameError                                  a LookupError too
    ├── SourceError, BadHandshake, GatewayError
    ├── PoolEmpty, SiteResting, SessionLost               nothing was sent
    ├── ProxyGone, LeaseExpired, LeaseReported
    ├── CacheError
    │   ├── TierError
    │   │   └── TierBusyError, WrongPlaceError            another process is writing; another's file is there
    │   ├── UnstorableValue                               a ValueError too
    │   └── FormatVersionError, DecryptionError
    └── UpstreamError                                     a request through a proxy failed; its type names who failed
        ├── ProxyFailed
        │   └── ForgedAnswer, InterceptedTLS
        └── AccountRefused, TargetUnreachable, TargetFailed, LocalFailure

Messages say what happened, to which proxy or file, and what to do. They never hold a credential. The type of an
`UpstreamError` says who made the request fail (`Blame`).
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Self

_MANY = 20


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
    """Nothing is registered under a name; the message lists the known names.

    Of more than 20 it lists those that are nearly the same, and `listed_by`, the command that shows all.
    """

    def __init__(self, kind: str, name: str, known: list[str], *, listed_by: str | None = None) -> None:
        told = f"known: {', '.join(sorted(known))}"
        if listed_by is not None and len(known) > _MANY:
            import difflib  # noqa: PLC0415  # this is rare

            near = difflib.get_close_matches(name.lower(), known, n=5, cutoff=0.5)
            told = f"{listed_by} lists all {len(known)}"
            if near:
                told = f"nearest: {', '.join(near)}; {told}"
        super().__init__(f"unknown {kind} {name!r}; {told}")


class SourceError(ProxyWhirlError):
    """A source gave no proxies; `passing` says that another attempt may succeed, in `retry_after` seconds if named."""

    def __init__(self, message: str, *, passing: bool = False, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.passing = passing
        self.retry_after = retry_after


class PoolEmpty(ProxyWhirlError):
    """No proxy can serve; `retry_after` says in how many seconds one may, None where waiting does not help."""

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SiteResting(ProxyWhirlError):
    """The target failed alike through several proxies: for `retry_after` seconds no more than one request tries it."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SessionLost(ProxyWhirlError):
    """The proxy of a session cannot serve this request, and a hard session gets no other."""


class LeaseExpired(ProxyWhirlError):
    """An exclusive lease ended before it was renewed: another holder may have the proxy."""


class ProxyGone(ProxyWhirlError):
    """A chosen proxy is in the store no more, or cannot be read from it now; choose another."""


class LeaseReported(ProxyWhirlError):
    """A lease was reported a second time."""


class BadHandshake(ProxyWhirlError):
    """A client that connected to us does not speak the protocol, or asks for what we do not offer."""


class GatewayError(ProxyWhirlError):
    """The gateway cannot start, or was told something impossible."""


class CacheError(ProxyWhirlError):
    """Root of what the cache raises."""


class TierError(CacheError):
    """A tier could not do what it was asked; the manager leaves it out, of writes alone where it was writing."""


class TierBusyError(TierError):
    """Another process is writing to the tier: nothing is wrong with it, and the next try may go well."""


class UnstorableValue(CacheError, ValueError):
    """A value cannot be stored, and the tier is well: the text names it, and `key` the entry where it is one's."""

    key: str | None = None


class WrongPlaceError(TierError):
    """Another program's file is in a tier's place, or its entries were moved: the cache does not go on."""


class FormatVersionError(CacheError):
    """A stored file has a format that this version does not know."""


class DecryptionError(CacheError):
    """Stored credentials cannot be read with the key at hand."""


class UpstreamError(ProxyWhirlError):
    """A request through a proxy failed; a class names who is at fault as `blame=`.

    `refusal` is the status and the headers with which the proxy refused a tunnel, None for any other failure. They may
    echo a credential: they are there to be decoded, never shown. `silent` says that the proxy was reached and no answer
    came in time, `cut` that it was sent the request, and what came is no whole answer.
    """

    blame: ClassVar[Blame] = Blame.PROXY
    refusal: tuple[int, tuple[tuple[bytes, bytes], ...]] | None = None
    silent = False
    cut = False

    def __init_subclass__(cls, *, blame: Blame | None = None) -> None:
        """Keep who is to blame; a class that does not say so has the blame of its base."""
        super().__init_subclass__()
        if blame is not None:
            cls.blame = blame

    def about(self, proxy: str) -> Self:
        """Return the same error with the proxy's URL before its words."""
        named = type(self)(f"{proxy} {self}")
        named.refusal, named.silent, named.cut = self.refusal, self.silent, self.cut
        return named


class ProxyFailed(UpstreamError):
    """The proxy refused, timed out or broke its protocol."""


class ForgedAnswer(ProxyFailed):
    """The proxy answered in the target's place: from a cache, or with a text of its own."""


class InterceptedTLS(ProxyFailed):
    """The tunnel shows a certificate that is not the target's: the proxy reads what is encrypted."""


class AccountRefused(UpstreamError, blame=Blame.ACCOUNT):
    """The proxy does not accept the account: missing or wrong credentials (407), or a quota."""


class TargetUnreachable(UpstreamError, blame=Blame.TARGET_THROUGH_PROXY):
    """The proxy works and cannot or will not reach this target; another one may."""


class TargetFailed(UpstreamError, blame=Blame.TARGET):
    """The target itself failed, whatever the proxy."""


class LocalFailure(UpstreamError, blame=Blame.US):
    """This machine or this request is at fault (no route, no descriptors, an impossible request); no proxy is."""

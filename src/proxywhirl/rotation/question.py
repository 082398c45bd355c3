"""What a request asks of the pool, read once. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

from proxywhirl.models import Target
from proxywhirl.rotation.filters import NO_FILTER, Filter

__all__ = ["ANYTHING", "Question"]

_READ = 1024


@dataclass(slots=True, eq=False)  # frozen, it costs a microsecond for each request
class Question:
    """Where a request goes (`Target.site`, None: not said), whom it does not want, and what the proxy has to be.

    `tunnels` says that it has to open a tunnel.
    """

    site: str | None = None
    exclude: Collection[str] = ()
    wanted: Filter = NO_FILTER
    tunnels: bool = False

    @classmethod
    def of(cls, target: Target | str | None, exclude: Collection[str], wishes: Mapping[str, Any]) -> Self:
        """Read what `Pool.acquire` was asked.

        Raises:
            ProxyURLError: the target is a text and no absolute http or https URL.
            TypeError: `target` or `exclude` is of the wrong kind.
            ValueError: there is no such wish, or its value is impossible.
        """
        if exclude:
            _require_keys(exclude)
        else:
            exclude = ()
        site, tunnels = None, False
        if target is not None:
            if isinstance(target, str):
                target = _read_url(target)
            try:
                site, tunnels = target.site, target.scheme == "https"
            except AttributeError:  # to look for its type costs something where it is one
                raise TypeError(f"target must be a URL or a Target, not {type(target).__name__}") from None
        if not wishes:
            return cls(site, exclude, NO_FILTER, tunnels)
        told = tuple(wishes.items())
        try:
            wanted, connect = _read_wishes(told)
        except TypeError:  # a list among them cannot be remembered
            wanted, connect = _read_wishes.__wrapped__(told)
        return cls(site, exclude, wanted, tunnels or connect)


ANYTHING = Question()


def _require_keys(exclude: Any) -> None:
    """Refuse what holds no keys. Of many it looks at one: each request would pay for the others."""
    if isinstance(exclude, str | bytes) or not isinstance(exclude, Collection):
        raise TypeError("exclude must be a set or a list of keys, and not one or an iterator: put it in brackets")
    if not isinstance(one := next(iter(exclude)), str):
        raise TypeError(f"exclude holds keys of proxies, such as lease.proxy.key, not {type(one).__name__}")


@lru_cache(maxsize=_READ)
def _read_url(url: str) -> Target:
    return Target.parse(url)


@lru_cache(maxsize=_READ)
def _read_wishes(wishes: tuple[tuple[str, Any], ...]) -> tuple[Filter, bool]:
    named = dict(wishes)
    connect = named.pop("connect", False)
    if not isinstance(connect, bool):
        raise ValueError(f"connect must be True or False, not {connect!r}")  # noqa: TRY004  # as of the other wishes
    wanted = Filter.of(named)
    return (NO_FILTER if wanted == NO_FILTER else wanted), connect

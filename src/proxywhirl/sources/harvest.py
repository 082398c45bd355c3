"""Take the proxies out of a source's list."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

from proxywhirl.errors import ListFormatError, SettingsError, SourceError, UnknownNameError
from proxywhirl.models import Attributes
from proxywhirl.sources.fetching.bounds import is_public_host
from proxywhirl.sources.parsing.lines import CUT_OFF
from proxywhirl.sources.parsing.parse import parse_list
from proxywhirl.sources.parsing.records import Candidate, Rejected
from proxywhirl.sources.spec import Provenance, SourceSpec
from proxywhirl.urls import ProxyURL

_PAGE_MARKS = (b"<!doctype html", b"<html")
_SNIFFED = 512
_ASKED_EVERY = 1000  # lines


@dataclass(frozen=True, slots=True)
class Harvest:
    """The proxies of a list, each once, in its order; how many lines were wrong, and why the first of them was."""

    proxies: dict[str, tuple[ProxyURL, Attributes]]  # by key
    rejected: int
    reason: str | None


def harvest(stream: IO[bytes], spec: SourceSpec, *, too_long: Callable[[], bool] = lambda: False) -> Harvest:
    """Read a source's list. From a list that is not the user's own, only public addresses are taken.

    `stream` is seekable and at its beginning. `too_long` is asked now and again whether to give up.

    Raises:
        SourceError: it cannot be read to its end, or there is no proxy in it.
    """
    public_only = spec.provenance is not Provenance.USER
    proxies: dict[str, tuple[ProxyURL, Attributes]] = {}
    reason = None
    rejected = 0
    try:
        items = parse_list(stream, scheme=spec.scheme, format_name=spec.format, path=spec.path)
        for number, item in enumerate(items):
            if number % _ASKED_EVERY == 0 and too_long():
                raise SourceError(f"its list takes too long to read: after {number} lines the time was over")
            if isinstance(item, Rejected):
                wrong = item.reason
                if wrong == CUT_OFF:  # a list counts whole or not at all
                    raise SourceError(f"line {item.line}: {wrong}")
            elif not isinstance(item, Candidate):
                continue
            elif public_only and not is_public_host(item.url.host):
                wrong = f"{item.url.canonical} is not on the public internet"
            else:
                proxies.setdefault(item.url.key, (item.url, item.attributes))
                continue
            rejected += 1
            reason = reason or f"line {item.line}: {wrong}"
    except (ListFormatError, SettingsError, UnknownNameError) as exc:
        raise SourceError(str(exc)) from exc
    if not proxies:
        stream.seek(0)
        raise SourceError(_why(stream.read(_SNIFFED), rejected, reason))
    return Harvest(proxies, rejected, reason)


def _why(start: bytes, rejected: int, reason: str | None) -> str:
    if not start.strip():
        return "the list is empty"
    if start.lstrip().lower().startswith(_PAGE_MARKS):
        return "a web page came, and there is no proxy in it"
    if rejected:
        return f"there is no proxy in it; {reason}"
    return "there is no proxy in it"

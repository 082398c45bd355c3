"""What reading a list yields: one item for each proxy, each wrong line and each line that is no proxy."""

from __future__ import annotations

from dataclasses import dataclass

from proxywhirl.models import Attributes
from proxywhirl.urls import ProxyURL

__all__ = ["NOTHING_KNOWN", "Candidate", "Ignored", "Item", "Rejected"]

NOTHING_KNOWN = Attributes()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proxy that a list offers, what the list says of it, and the line (from 1) where it stands."""

    url: ProxyURL
    attributes: Attributes = NOTHING_KNOWN
    line: int = 0


@dataclass(frozen=True, slots=True)
class Rejected:
    """A line (from 1) that has the shape of a proxy and is wrong; `reason` is redacted."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A line (from 1) that is no proxy: blank, a comment, a heading, prose, a link."""

    line: int


Item = Candidate | Rejected | Ignored

"""Lists of proxies: recognise and read them. Nothing here opens a file or a connection."""

from __future__ import annotations

from proxywhirl.sources.parsing.parse import parse_list
from proxywhirl.sources.parsing.records import Candidate, Ignored, Item, Rejected

__all__ = ["Candidate", "Ignored", "Item", "Rejected", "parse_list"]

"""Proxies whose fields stand on a line each, as in YAML, INI files, XML and code.

A block is a run of lines `name: value`; it ends at a line of another form or where a name comes again. What
turns out not to be a proxy is handed back line by line.
"""

from __future__ import annotations

import re

from proxywhirl.sources.parsing.fields import ROLES, field_name

_FIELD = re.compile(
    r"""\s*(-\s+)?["']?([A-Za-z][\w-]*)["']?(?:\s*=\s*|\s*:\s+)(["']?)(.*?)\3[\s,;]*"""
    r"""|\s*()<([A-Za-z][\w-]*)>\s*()([^<>]*?)\s*</\6>\s*"""
)
_KNOWN = frozenset().union(*map(frozenset, ROLES.values()))
_SHAPE = re.compile(r"[0-9]+(?:\.[0-9]+){3}|:[0-9]")
_MOST_LINES = 64
_LONGEST_LINE = 1024  # characters


class Block:
    """The lines of one block, as far as they have come."""

    def __init__(self) -> None:
        self.fields: dict[str, object] = {}
        self.lines: list[tuple[int, str]] = []
        self.endpoint = 0  # the line that names the host

    def takes(self, number: int, line: str) -> bool:
        """Add a line that goes on with this block; False where it does not."""
        match = _FIELD.fullmatch(line) if len(line) <= _LONGEST_LINE else None
        if match is None or (match[1] and self.lines) or len(self.lines) >= _MOST_LINES:
            return False
        name, value = match[2] or match[6], match[4] if match[2] else match[8]
        compared = field_name(name)
        if compared in self.fields or not (self.lines or match[1] or compared in _KNOWN):
            return False
        if self.endpoint and compared in ROLES["url"] and _SHAPE.search(value):
            return False  # another proxy, under another name
        if not self.endpoint and (compared in ROLES["host"] or compared in ROLES["url"]):
            self.endpoint = number
        self.fields[compared] = value
        self.lines.append((number, line))
        return True

    @property
    def is_proxy(self) -> bool:
        """Whether several lines name an endpoint and its port, or an address without one."""
        if not self.endpoint or len(self.lines) == 1:
            return False
        texts = (str(self.fields.get(name, "")) for name in ROLES["host"] + ROLES["url"])
        return not self.fields.keys().isdisjoint(ROLES["port"]) or any(map(_SHAPE.search, texts))

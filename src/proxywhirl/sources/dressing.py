"""What stands around a proxy in a line of markup, code or configuration, and how it is taken off.

Only a line in which nothing is found as it stands is undressed: a password may hold any of these characters.
"""

from __future__ import annotations

import re

from proxywhirl.sources.fields import ROLES, field_name

__all__ = ["labelled", "undressed"]

_NO_TEXT = re.compile(  # tags, white space as code writes it, links
    r"</?[A-Za-z!][^<>]*>|\\[rnt]|https?://[^\s/?#@:]+/[^\s/\"'<>()][^\s\"'<>()]*", re.IGNORECASE
)
_BRACKETS = re.compile(r"(\[[0-9A-Fa-f]*:[0-9A-Fa-f:.]*\])|[\[\]]")
_ORNAMENTS = re.compile(
    "[\"'`(){}<>*~=\u00ab\u00bb\u2018-\u201f\u2039\u203a\u2190-\u2bff\u3008-\u3011\ufe0f\uff08\uff09\U0001f000-\U0001faff]"
)
_WIDE = str.maketrans("\uff1a\uff0c\uff1b\uff5c", ":,;|")
_NUMBERED_PORT = re.compile(r"port[\"']?\s*[:=>]\s*[\"']?[0-9]", re.IGNORECASE)
_PAIR = re.compile(
    r"""["']?\b([A-Za-z][A-Za-z_ -]{0,30}?)["']?\s*[:=>]\s*(?:"([^"]*)"|'([^']*)'|([^\s,;|&<>{}"'()]+))"""
)
_KNOWN = frozenset().union(*map(frozenset, ROLES.values()))


def undressed(text: str) -> str:
    """Return a text without markup, quotation marks, brackets and ornaments; blanks stand in their place."""
    text = _NO_TEXT.sub("\t", text).translate(_WIDE)
    return _ORNAMENTS.sub(" ", _BRACKETS.sub(lambda match: match[1] or " ", text))


def labelled(text: str) -> list[dict[str, object]]:
    """Return the records of a line that names its fields (`IP: 203.0.113.9 PORT: 8080`), none of any other line."""
    if not _NUMBERED_PORT.search(text):
        return []
    records: list[dict[str, object]] = [{}]
    for name, *values in _PAIR.findall(text):
        label = field_name(name)
        if label not in _KNOWN:
            label = field_name(name.rsplit(None, 1)[-1])
        if label in records[-1]:
            records.append({})
        if label in _KNOWN:
            records[-1][label] = next(filter(None, values), "")
    hosts = [record for record in records if not record.keys().isdisjoint(ROLES["host"])]
    return [] if all(record.keys().isdisjoint(ROLES["port"]) for record in hosts) else hosts

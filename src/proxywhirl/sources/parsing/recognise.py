"""Tell the format of a list by its beginning: names of files and types of media are often wrong."""

from __future__ import annotations

import re

from proxywhirl.errors import ListFormatError
from proxywhirl.sources.parsing.fields import field_name, names_endpoint
from proxywhirl.sources.parsing.jsonstream import decode_value
from proxywhirl.sources.parsing.wrapped import is_wrapped

ENOUGH = 4096  # characters to know a format by

_ARRAY = re.compile(r"""\[\s*(?:["\[{\]]|null\b)""")  # not [socks5], nor [2001:db8::1]:80
_OBJECT = re.compile(r"""\{\s*["}]""")
_PAGE = re.compile(
    r"(?:<\?xml[^>]*>\s*|<!--.*?-->\s*)*(?:<!doctype\s+html|<(?:html|head|body|table|thead|tbody|tr)[\s>])",
    re.IGNORECASE | re.DOTALL,
)
_DELIMITERS = ",;\t|"


def recognised(head: str) -> str:
    """Return the name of the format of a text that begins so."""
    start = head.lstrip()
    if start.startswith(("{", "[", '"')) and _is_json_lines(start):
        return "jsonl"
    if _ARRAY.match(start) or _OBJECT.match(start):
        return "json"
    if _PAGE.match(start):
        return "html"
    if header_delimiter(start):
        return "csv"
    return "base64" if is_wrapped(head) else "text"


def header_delimiter(head: str) -> str | None:
    """Return what separates the columns where the first line is a header, else None."""
    lines = (line.strip() for line in head.split("\n"))
    first = next((line for line in lines if line and not line.startswith("#")), "")
    for delimiter in _DELIMITERS:
        names = [field_name(name) for name in first.split(delimiter)]
        if len(names) > 1 and names_endpoint(names) and not re.search(r"[0-9]\.[0-9]|://", first):
            return delimiter
    return None


def _is_json_lines(start: str) -> bool:
    """Whether one of the first two lines is a whole value and the other begins like it."""
    lines = [line.strip() for line in start.split("\n") if line.strip()][:2]
    if len(lines) < 2 or lines[0][0] != lines[1][0]:  # noqa: PLR2004 - one line alone is a document
        return False
    check = all if lines[0][0] == '"' else any  # a quoted field begins like a JSON string
    return check(map(_is_whole, (lines[0].rstrip(","), lines[1])))


def _is_whole(line: str) -> bool:
    try:
        decode_value(line)
    except ListFormatError:
        return False
    return True

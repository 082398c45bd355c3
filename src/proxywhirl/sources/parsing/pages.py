"""Find the proxies in web pages: in the rows of tables, else in the lines of the text.

Pages are read by selectolax, which the extra `html` brings. Without it a page is read as text, which finds only proxies
that stand on one line.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING

from proxywhirl.errors import ListFormatError, SettingsError
from proxywhirl.hosts import IPV4
from proxywhirl.sources.parsing.decode import unwrapped
from proxywhirl.sources.parsing.lines import parse_line, parse_text
from proxywhirl.sources.parsing.records import (
    Candidate,
    Ignored,
    Item,
    ParseOptions,
    field_name,
    names_endpoint,
    parse_object,
)

if TYPE_CHECKING:
    from selectolax.lexbor import LexborHTMLParser, LexborNode

LARGEST_PAGE = 1 << 24  # characters: a page is held whole, together with its tree
EXTRA = "pip install 'proxywhirl[html]'"

_DEEPEST = 512
_TAG = re.compile(r"<(/?)([A-Za-z][A-Za-z0-9]*)")
_ENDED_BY_OTHERS = frozenset(  # void elements, and those whose end may be left out
    """
    area base body br col colgroup dd dt embed head hr html img input li link meta optgroup option p param source tbody
    td tfoot th thead tr track wbr
    """.split()  # noqa: SIM905 - words read better than a column of quotes
)
_APART = re.compile(rf"^[ \t]*({IPV4})[ \t]*\n\s*([0-9]{{1,5}})[ \t]*$", re.MULTILINE)  # in an element each
_WRITTEN = re.compile(r"""(?:atob|decode)\(\s*["']([A-Za-z0-9+/=]{4,1024})["']\s*\)""")

_log = logging.getLogger(__name__)


def parse_page(texts: Iterable[str], options: ParseOptions, *, insist: bool = True) -> Iterator[Item]:
    """Read a page: each row of a table is a record by the names in the header, or a line where there are none.

    Where no table holds a proxy, the text of the page is read line by line. A page that is nested beyond reason would
    take a parser of HTML for ever: it is read as text. An item has the line of its row, or of the text. `insist` says
    that the format was named, so that it must be readable.

    Raises:
        SettingsError: the extra `html` is missing, and `insist`.
        ListFormatError: the page is larger than `LARGEST_PAGE`.
    """
    if find_spec("selectolax") is None:
        if insist:
            raise SettingsError(f"the format html needs selectolax: {EXTRA}")
        _log.warning("a web page is read line by line: to read its tables, %s", EXTRA)
        yield from parse_text(texts, options)
        return
    from selectolax.lexbor import LexborHTMLParser  # noqa: PLC0415  # an extra

    source = _whole(texts)
    if _is_nested_beyond_reason(source):
        yield from parse_text([source, "\n"], options)
        return
    page = LexborHTMLParser(source)
    items = list(_tables(page, options.scheme))
    yield from items
    if not any(isinstance(item, Candidate) for item in items) and page.body is not None:
        yield from parse_text([_APART.sub(r"\1:\2", page.body.text(separator="\n")), "\n"], options)


def _is_nested_beyond_reason(source: str) -> bool:
    """Whether more elements are open at once than browsers allow; the cost of a parser grows with their square."""
    depth = 0
    for tag in _TAG.finditer(source):
        if tag[2].lower() not in _ENDED_BY_OTHERS:
            depth = max(0, depth - 1) if tag[1] else depth + 1
            if depth > _DEEPEST:
                return True
    return False


def _whole(texts: Iterable[str]) -> str:
    pieces: list[str] = []
    size = 0
    for text in texts:
        pieces.append(text)
        size += len(text)
        if size > LARGEST_PAGE:
            raise ListFormatError(f"a web page of more than {LARGEST_PAGE} characters: name a list of another format")
    return "".join(pieces)


def _tables(page: LexborHTMLParser, scheme: str) -> Iterator[Item]:
    number = 0
    for table in page.css("table"):
        if any(inner.mem_id != table.mem_id for inner in table.css("table")):
            continue  # a table that lays out the page: those in it come by themselves
        names: list[str] = []
        for row in table.css("tr"):
            number += 1
            cells = [_content(cell) for cell in row.css("th, td")]
            compared = [field_name(cell) for cell in cells]
            if names_endpoint(compared):
                names = compared
                yield Ignored(number)
            elif names:
                yield from parse_object(dict(zip(names, cells, strict=False)), number, scheme=scheme)
            else:
                yield from parse_line("\t".join(cells), number, scheme=scheme)


def _content(cell: LexborNode) -> str:
    """Return the text of a cell, or what a script in it writes; else a value that its attributes keep for a script."""
    text = " ".join(cell.text(separator=" ").split())
    written = _WRITTEN.search(text)
    if written:
        with suppress(ListFormatError):
            return b"".join(unwrapped([written[1]])).decode("latin-1").strip()
    if text:
        return text
    kept = (value for name, value in cell.attributes.items() if name.startswith("data-") and value)
    return next(kept, "")

"""Formats by name and by content: JSON under a path, web pages, base64, parsers of other packages."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import sys
import textwrap
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from proxywhirl.errors import ListFormatError, SettingsError, UnknownNameError
from proxywhirl.sources import Candidate, Rejected, parse_list
from proxywhirl.sources.parsing.parse import parser_names

PLAIN = "203.0.113.1:8080\n203.0.113.2:3128\nsocks5://203.0.113.3:1080\n"
FOUND = ["http://203.0.113.1:8080", "http://203.0.113.2:3128", "socks5://203.0.113.3:1080"]
ONE, TWO = ("203.0.113.1", 8080), ("203.0.113.2", 3128)
PAGE = """\
<!DOCTYPE html>
<html><head><title>Free proxies 9.9.9.9:99</title></head><body>
<p>Updated 10:20</p>
<table class="layout"><tr><td>
<table>
<thead><tr><th>IP Address</th><th>Port</th><th>Code</th><th>Anonymity</th><th>Https</th></tr></thead>
<tbody>
<tr><td>203.0.113.1</td><td>8080</td><td>DE</td><td>elite proxy</td><td>yes</td></tr>
<tr><td><b>203.0.113.2</b>
</td><td data-port="3128"></td><td>FR</td><td>anonymous</td><td>no</td></tr>
<tr><td>203.0.113.3</td><td>99999</td><td>FR</td><td>anonymous</td><td>no</td></tr>
</tbody></table>
</td></tr></table></body></html>
"""


def found(
    content: str | bytes, *, scheme: str = "http", format_name: str | None = None, path: str | None = None
) -> list[str]:
    """Return the proxies of a list."""
    stream = io.BytesIO(content if isinstance(content, bytes) else content.encode())
    items = parse_list(stream, scheme=scheme, format_name=format_name, path=path)
    return [item.url.canonical for item in items if isinstance(item, Candidate)]


def test_the_known_formats_are_these() -> None:
    """Each format has a name that it can be asked for by."""
    assert parser_names() == ["base64", "csv", "html", "json", "jsonl", "text"]


@pytest.mark.parametrize("name", ["text", "csv", None])
def test_a_plain_list_reads_the_same_by_name(name: str | None) -> None:
    """Text is text, whether it is called that, CSV without a header, or nothing."""
    assert found(PLAIN, format_name=name) == FOUND


def test_an_unknown_format_lists_the_known_ones() -> None:
    """The error tells what may be written instead, before anything is read."""
    with pytest.raises(UnknownNameError, match="base64, csv, html, json, jsonl, text"):
        parse_list(io.BytesIO(b""), format_name="xls")


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"meta": {"n": [1, [2]]}, "data": {"proxies": ["203.0.113.1:8080"]}}, "data.proxies"),
        ({"rows": [{"at": {"ip": "203.0.113.1", "port": 8080}}, {"no": 1}]}, "rows.at"),
        ([[{"list": ["203.0.113.1:8080"]}]], "list"),
        ({"text": "203.0.113.1:8080\n", "other": "198.51.100.1:1"}, "text"),
        ({"dead": ["198.51.100.1:1"], "alive": {"x": {"ip": "203.0.113.1", "port": "8080"}}}, "alive"),
    ],
)
@pytest.mark.parametrize("name", [None, "json"])
def test_a_path_says_where_in_a_document_the_proxies_stand(document: object, path: str, name: str | None) -> None:
    """What stands under the path is read, and nothing else; arrays on the way are gone through."""
    assert found(json.dumps(document), path=path, format_name=name) == ["http://203.0.113.1:8080"]


def test_a_path_passes_over_what_is_larger_than_memory_should_hold() -> None:
    """A member of megabytes beside the path costs nothing."""
    document = json.dumps({"huge": [["x" * 100] * 20_000], "data": ["203.0.113.1:8080"]})
    assert found(document, path="data") == ["http://203.0.113.1:8080"]


def test_a_path_that_leads_nowhere_says_so() -> None:
    """A wrong path is an error that names it, not an empty list."""
    with pytest.raises(ListFormatError, match=r"nothing under the path 'data\.list'"):
        found('{"data": {"proxies": []}}', path="data.list")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, '{"b": ' + "[" * 50_000])
def test_nesting_beyond_reason_is_an_error_of_the_list(text: str) -> None:
    """A document made to exhaust the stack does not."""
    with pytest.raises(ListFormatError):
        found(text, path="a.a")


@pytest.mark.parametrize("name", [None, "html"])
def test_the_rows_of_a_table_are_records_by_its_header(name: str | None) -> None:
    """Cells on lines of their own are put together, attributes stand for empty cells, wrong rows are told."""
    items = list(parse_list(io.BytesIO(PAGE.encode()), format_name=name))
    candidates = [item for item in items if isinstance(item, Candidate)]
    assert [item.url.canonical for item in candidates] == FOUND[:2]
    assert [(item.attributes.country, item.attributes.anonymity) for item in candidates] == [
        ("DE", "elite"),
        ("FR", "anonymous"),
    ]
    assert len([item for item in items if isinstance(item, Rejected)]) == 1


def test_a_page_without_a_table_is_read_by_its_text() -> None:
    """A list in a text area, with a heading above it, is found."""
    page = f"<html><body><h1>SOCKS4 proxies</h1><textarea>{PLAIN}</textarea></body></html>"
    assert found(page) == [url.replace("http", "socks4") for url in FOUND]


def test_a_table_without_a_header_is_read_by_its_rows() -> None:
    """Cells in a row are columns of a line."""
    assert found("<table><tr><td>203.0.113.1</td>\n<td>8080</td></tr></table>") == FOUND[:1]


def test_hosts_and_ports_in_elements_of_their_own_belong_together() -> None:
    """Pages without tables lay out their rows with blocks."""
    rows = "".join(f"<div><span>{host}</span> <div> {port} </div></div>" for host, port in (ONE, TWO))
    assert found(f"<!doctype html><body>{rows}<div>203.0.113.9</div><div>DE</div></body>") == FOUND[:2]


@pytest.mark.parametrize("function", ["Base64.decode", "atob"])
def test_what_a_script_writes_into_a_cell_is_read(function: str) -> None:
    """Some pages hide their addresses from those who do not look twice."""
    hidden = base64.b64encode(ONE[0].encode()).decode()
    cell = f"<td><script>document.write({function}('{hidden}'))</script></td>"
    table = f"<table><tr><th>IP</th><th>Port</th></tr><tr>{cell}<td>8080</td></tr></table>"
    assert found(table) == FOUND[:1]
    assert found(table.replace(hidden, "!")) == []


def test_a_list_in_a_document_may_be_wrapped() -> None:
    """A member of a JSON document that holds a file in base64 is read as that file."""
    document = {"name": "x", "content": base64.encodebytes(PLAIN.encode()).decode(), "encoding": "base64"}
    assert found(json.dumps(document)) == FOUND


@pytest.mark.parametrize("tag", ["<div>", "<table>", "<b>", "<table><tr><td>", "<svg>", "<ul><li>"])
def test_a_page_that_is_nested_beyond_reason_is_read_as_text(tag: str) -> None:
    """It is made to keep a parser busy for hours, so that no parser gets it."""
    assert found(f"<html>{tag * 300_000}\n{ONE[0]}:{ONE[1]}\n</html>") == FOUND[:1]


def test_elements_without_an_end_are_no_nesting() -> None:
    """Old pages end neither rows nor cells nor paragraphs."""
    rows = "".join(f"<tr><td>198.51.{n >> 8}.{n & 255}<td>8080<p><br>" for n in range(2000))
    assert len(found(f"<html><table><tr><th>IP<th>Port{rows}</table>")) == 2000


def test_a_page_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is held whole, so that it may not be of any size."""
    with pytest.raises(ListFormatError, match="a web page of more than"):
        found("<html>" + "x" * (1 << 24))


def test_without_the_extra_a_page_is_read_as_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What stands on one line is found, and a warning says what to install; by name it is an error."""

    def missing(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name == "selectolax" else importlib.util.find_spec(name, package)

    monkeypatch.setattr("proxywhirl.sources.parsing.pages.find_spec", missing)
    assert found("<html>\n<td>203.0.113.1</td><td>8080</td>\n</html>") == FOUND[:1]
    assert "proxywhirl[html]" in caplog.text
    with pytest.raises(SettingsError, match=re.escape("proxywhirl[html]")):
        found("<html></html>", format_name="html")


@pytest.mark.parametrize("name", [None, "base64"])
@pytest.mark.parametrize("width", [0, 76, 5])
@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("inside", [PLAIN, json.dumps(FOUND), PLAIN * 5000])
def test_a_list_in_base64_is_unwrapped(name: str | None, width: int, inside: str, *, padded: bool) -> None:
    """With line breaks or none, padding or none, whatever the format within."""
    wrapped = base64.urlsafe_b64encode(inside.encode()).decode().rstrip("" if padded else "=")
    text = "\n".join(textwrap.wrap(wrapped, width)) if width else wrapped
    assert found(text, format_name=name) == FOUND * (inside.count("\n") // 3 or 1)


@pytest.mark.parametrize("name", [None, "base64"])
def test_lines_that_are_wrapped_one_by_one_are_read(name: str | None) -> None:
    """Each line is a proxy of its own, though nothing in it says so."""
    lines = [base64.b64encode(line.encode()).decode().rstrip("=") for line in PLAIN.split()]
    assert found("\n".join(lines), format_name=name) == FOUND


def test_parts_with_padding_in_between_are_one_list() -> None:
    """Encoded pieces that were put one behind the other are all read."""
    parts = [base64.b64encode(line.encode()).decode() for line in PLAIN.splitlines(keepends=True)]
    assert "=" in parts[0]
    assert found("".join(parts)) == FOUND


def test_base64_in_base64_is_read_and_a_tower_of_it_refused() -> None:
    """Some wrap twice; without an end it would be a way to keep us busy."""
    content = PLAIN.encode()
    for _ in range(3):
        content = base64.b64encode(content)
    assert found(content) == FOUND
    with pytest.raises(ListFormatError, match="wrappings"):
        found(base64.b64encode(content))


@pytest.mark.parametrize("text", ["nothing to see here\n", "hello\n", "0123456789abcdef\n" * 9, "list of proxies"])
def test_prose_is_not_taken_for_base64(text: str) -> None:
    """Words have the alphabet of base64 and are none."""
    assert found(text) == []


@pytest.mark.parametrize("text", ["!!!!", "MjAzLjAuMTEzLjE6ODA4MA==MjAz!", "A"])
def test_what_is_called_base64_and_is_not_is_an_error(text: str) -> None:
    """Damage is named."""
    with pytest.raises(ListFormatError, match="not base64"):
        found(text, format_name="base64")


@pytest.fixture
def third_party(tmp_path: Path) -> Iterator[None]:
    """A package with a parser, and an entry point to nothing, as they are installed."""
    (tmp_path / "whirl_upside.py").write_text(
        "from proxywhirl.sources.parsing.lines import parse_text\n"
        "def read(texts, reading):\n"
        "    return parse_text([''.join(texts)[::-1]], reading)\n"
    )
    information = tmp_path / "whirl_upside-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: whirl-upside\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[proxywhirl.parsers]\nupside = whirl_upside:read\nbroken = whirl_upside:absent\ntext = whirl_upside:read\n"
    )
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    sys.modules.pop("whirl_upside", None)


def test_an_entry_point_offers_a_parser(third_party: None) -> None:
    """A parser of another package is found by its name, and takes over no built-in one."""
    assert found("0808:1.311.0.302", format_name="upside", scheme="socks4") == ["socks4://203.0.113.1:8080"]
    assert found(PLAIN, format_name="text") == FOUND
    assert {"broken", "upside"} <= set(parser_names())
    with pytest.raises(SettingsError, match="'broken' cannot be loaded from whirl_upside:absent"):
        found(PLAIN, format_name="broken")

"""Lists as they are found: pasted tables, markup, configuration, code, exports of vendors, dumps of checkers."""

from __future__ import annotations

import io
import json

import pytest

from proxywhirl.models import Attributes
from proxywhirl.sources import Candidate, Ignored, Item, Rejected, parse_list

A = "http://203.0.113.9:8080"
B = "http://203.0.113.10:80"
S4 = "socks4://203.0.113.9:1080"
S5 = "socks5://203.0.113.9:1080"
BOB = "http://bob:pw@203.0.113.9:8080"
BOB_S5 = "socks5://bob:pw@203.0.113.9:1080"


def read(text: str | bytes) -> list[Item]:
    """Read a whole list."""
    return list(parse_list(io.BytesIO(text if isinstance(text, bytes) else text.encode())))


def urls(text: str | bytes) -> list[str]:
    """Return the proxies of a list in which nothing is wrong."""
    items = read(text)
    assert not [item for item in items if isinstance(item, Rejected)]
    return [item.url.reveal() for item in items if isinstance(item, Candidate)]


LINES = {
    # what a list says beside the endpoint is no credential and hides none
    "203.0.113.9:8080:US:elite": [A],
    "203.0.113.9:1080:socks5:bob:pw": [BOB_S5],
    "203.0.113.9:1080:bob:pw:socks5": [BOB_S5],
    "203.0.113.9,1080,socks5,bob,pw": [BOB_S5],
    "203.0.113.9|1080|bob|pw|socks5": [BOB_S5],
    "203.0.113.9:8080\tbob\tpw": [BOB],
    "203.0.113.9:8080 bob:pw": [BOB],
    "bob:pw 203.0.113.9:8080": [BOB],
    "bob,pw,203.0.113.9,8080": [BOB],
    "203.0.113.9:8080 ping:120": [A],
    "203.0.113.9:8080 12:30": [A],
    "203.0.113.9 8080 2024-01-01 10:20:30": [A],
    "203.0.113.9,8080,120,99": [A],
    "Updated: 203.0.113.9:8080": [A],
    # the protocol, wherever it stands
    "[SOCKS5] 203.0.113.9:1080": [S5],
    "SOCKS5 - 203.0.113.9:1080": [S5],
    "203.0.113.9:1080 (socks4)": [S4],
    "203.0.113.9:1080@SOCKS5#United States": [S5],
    "203.0.113.9:1080->SOCKS5": [S5],
    "socks5 203.0.113.9:1080 socks4 203.0.113.9:1080": [S5, S4],
    "203.0.113.9:1080 socks5 203.0.113.9:1080 socks4": [S5, S4],
    "PROXY 203.0.113.9:8080; SOCKS5 203.0.113.9:1080; DIRECT": [A, S5],
    "curl --socks5 203.0.113.9:1080 http://example.com": [S5],
    # columns before the endpoint
    "US,203.0.113.9,8080,elite": [A],
    "2024-01-01 10:00:00,203.0.113.9,8080,http": [A],
    "203.0.113.9 : 8080": [A],
    "203.0.113.9: 8080": [A],
    "203.0.113.9\uff1a8080": [A],
    # what is glued behind it
    "203.0.113.9:8080-US": [A],
    "203.0.113.9:8080.": [A],
    "203.0.113.9:8080[US]": [A],
    # markup and ornaments
    "<tr><td>203.0.113.9</td><td>8080</td></tr>": [A],
    "203.0.113.9:8080<br>203.0.113.10:80<br/>": [A, B],
    "<li>203.0.113.9:8080</li>": [A],
    "* **203.0.113.9:8080**": [A],
    "\u201c203.0.113.9:8080\u201d": [A],
    "[203.0.113.9:8080]": [A],
    "\u274c203.0.113.9:8080": [A],
    '<proxy ip="203.0.113.9" port="1080" type="socks5"/>': [S5],
    "<proxy><ip>203.0.113.9</ip><port>8080</port></proxy>": [A],
    # configuration and code
    "http_proxy=http://bob:pw@203.0.113.9:8080": [BOB],
    'export ALL_PROXY="socks5://203.0.113.9:1080"': [S5],
    "$env:HTTP_PROXY='http://203.0.113.9:8080'": [A],
    "HTTPS_PROXY=http://proxy.example.com:3128": ["http://proxy.example.com:3128"],
    'proxy = "http://203.0.113.9:8080"': [A],
    "'http': 'http://203.0.113.9:8080',": [A],
    "'socks5': '203.0.113.9:1080',": [S5],
    "['203.0.113.9:8080', '203.0.113.10:80']": [A, B],
    "PROXIES = [('203.0.113.9', 8080), ('203.0.113.10', 80)]": [A, B],
    'var list = ["203.0.113.9:8080","203.0.113.10:80"];': [A, B],
    r"203.0.113.9:8080\n203.0.113.10:80\n": [A, B],
    # named fields
    "IP: 203.0.113.9 PORT: 8080": [A],
    "IP:203.0.113.9 Port:8080 Country:US": [A],
    "'\t'": [],
    "host=203.0.113.9 port=8080 user=bob password=pw": [BOB],
    "- {name: x, server: 203.0.113.9, port: 1080, type: socks5, username: bob, password: pw}": [BOB_S5],
    "[{'ip': '203.0.113.9', 'port': '8080'}, {'ip': '203.0.113.10', 'port': '80'}]": [A, B],
    # prose all the same
    "Node.js 18": [],
    "Server.local 8080 is down": [],
    "https://lists.example/list.txt?x=203.0.113.9:80": [],
    "see https://lists.example:8443/list.txt": [],
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_as_it_is_found_is_read(line: str) -> None:
    """Each line gives its proxies with their schemes and credentials, and no other, among any other lines."""
    assert urls(f"203.0.113.1:1\n{line}\n203.0.113.2:2") == [
        "http://203.0.113.1:1",
        *LINES[line],
        "http://203.0.113.2:2",
    ]


@pytest.mark.parametrize(
    "heading",
    [
        *(
            "=== SOCKS5 ===",
            "<h2>SOCKS5</h2>",
            "<!-- socks5 -->",
            "**SOCKS5**",
            "Socks 5:",
            "# SOCKS v5",
            "# socks5.txt",
        ),
        *("Protocol: SOCKS5", "# Type = socks5", "# SOCKS5 Proxies - updated 2024-01-01 10:20:30 UTC"),
    ],
)
def test_a_heading_of_any_shape_sets_the_scheme(heading: str) -> None:
    """Headings are known by their words, whatever rules them off."""
    assert urls(f"{heading}\n203.0.113.9:1080\n") == [S5]


def test_a_proxy_may_take_a_line_for_each_field() -> None:
    """YAML, INI, XML and code name a field on each line; a block without an endpoint stays what its lines are."""
    yaml = "proxies:\n- name: a\n  type: socks5\n  server: 203.0.113.9\n  port: 1080\n  username: bob\n  password: pw\n"
    assert urls(yaml + yaml.replace("socks5", "http").replace("1080", "8080")) == [BOB_S5, BOB]
    assert urls("[one]\nhost=203.0.113.9\nport=8080\n\n[two]\nhost=203.0.113.10\nport=80\n") == [A, B]
    assert urls("<proxy>\n <ip>203.0.113.9</ip>\n <port>8080</port>\n</proxy>\n") == [A]
    assert urls("list = [\n {\n  host: '203.0.113.9',\n  port: 8080,\n },\n]\n") == [A]
    assert urls('proxy: 203.0.113.9:8080\nurl: "http://203.0.113.10:80"\n') == [A, B]
    assert urls("Type: SOCKS5\n203.0.113.9:1080") == [S5]
    assert [type(item) for item in read("server: 203.0.113.9\nname: a\n")] == [Rejected, Ignored]


def test_named_fields_that_lack_a_port_are_rejected() -> None:
    """Of several records on a line the one that is cut short is an error, not lost."""
    items = read("{ip: 203.0.113.9, port: 8080}, {ip: 203.0.113.10, por")
    assert [type(item) for item in items] == [Candidate, Rejected]


def test_tables_of_markdown_and_repeated_headers_are_no_errors() -> None:
    """The line under a header, and the header again where files were put together, are ignored."""
    table = "| IP | Port | Type |\n|:---|---:|---|\n| 203.0.113.9 | 1080 | SOCKS5 |\n"
    assert urls(table + table) == [S5, S5]
    assert urls("ip,port\n203.0.113.9,8080.0\nip,port\n203.0.113.10,80\n") == [A, B]


def test_a_table_of_links_holds_no_proxies() -> None:
    """The address of a page is not taken for a proxy because its column is called url."""
    assert urls("url,scheme\nhttps://lists.example/a/list.txt,http\n") == []
    assert urls(json.dumps([{"url": "https://lists.example/a", "name": "x"}])) == []


JSON = {
    "ports by protocol": (
        {
            "results": [
                {
                    "username": "bob",
                    "password": "pw",
                    "proxy_address": "203.0.113.9",
                    "ports": {"http": 8080, "socks5": 1080},
                }
            ]
        },
        [BOB, BOB_S5],
    ),
    "fields of ports": ([{"ip": "203.0.113.9", "port_http": 8080, "socks_port": 1080}], [A, S5]),
    "flags": ([{"ip": "203.0.113.9", "port": 1080, "http": 0, "socks4": False, "socks5": "yes"}], [S5]),
    "objects of types": ([{"host": "203.0.113.9", "port": 1080, "types": [{"type": "SOCKS5", "level": ""}]}], [S5]),
    "nested endpoint": (
        [{"proxy": {"host": "203.0.113.9", "port": "8080.0"}, "auth": {"user": "bob", "pass": "pw"}}],
        [BOB],
    ),
    "keys that say more": ({"http_proxies": ["203.0.113.9:8080"], "SOCKS5 Proxies": ["203.0.113.9:1080"]}, [A, S5]),
    "addresses as keys": ({"203.0.113.9": 8080, "203.0.113.10": {"port": 80}}, [A, B]),
    "text in a string": ({"proxies": "203.0.113.9:8080\r\n203.0.113.10:80\n"}, [A, B]),
    "rows with gaps": ([["203.0.113.9", 8080, None, "US", True, 1.5]], [A]),
    "rows in rows": ([[["203.0.113.9", 8080], ["203.0.113.10", 80]]], [A, B]),
}


@pytest.mark.parametrize("name", JSON)
def test_json_of_vendors_and_checkers_is_read(name: str) -> None:
    """Endpoints, ports, protocols and credentials are found in the places where public APIs put them."""
    document, expected = JSON[name]
    assert urls(json.dumps(document)) == urls(json.dumps(document, indent=1)) == expected


def test_facts_in_nested_objects_are_understood() -> None:
    """A country may be an object with a code; what names no country, as a continent's code, is not taken for one."""
    where = {"continent": {"code": "NA"}, "country": {"iso_code": "US", "names": {"en": "United States"}}}
    records = [
        {"ip": "203.0.113.9", "port": 80, "geolocation": where, "asn": {"autonomous_system_number": 64512}},
        {"ip": "203.0.113.9", "port": 80, "geo": {"country": {"code": "DE", "name": "Germany"}, "city": "Unknown"}},
        {"ip": "203.0.113.9", "port": 80, "ip_data": {"countryCode": "FR"}},
        {"ip": "203.0.113.9", "port": 80, "continent": {"code": "NA"}},
    ]
    assert [item.attributes for item in read(json.dumps(records)) if isinstance(item, Candidate)] == [
        Attributes(country="US", asn=64512),
        Attributes(country="DE"),
        Attributes(country="FR"),
        Attributes(),
    ]


@pytest.mark.parametrize(
    "text",
    [
        '{"ip":"203.0.113.9","port":8080}\n\n\n{"ip":"203.0.113.10","port":80}\n',
        '{"ip":"203.0.113.9","port":8080},\n{"ip":"203.0.113.10","port":80},\n',
        '{"ip":"203.0.113.9","port":8080}{"ip":"203.0.113.10","port":80}',
        '{\n "ip":"203.0.113.9",\n "port":8080\n}\n{\n "ip":"203.0.113.10",\n "port":80\n}\n',
        '[\n "203.0.113.9:8080",\n "203.0.113.10:80",\n]\n',
        '// two proxies\n["203.0.113.9:8080", "203.0.113.10:80"]',
    ],
)
def test_loose_json_is_read(text: str) -> None:
    """Blank lines, commas at the ends, documents one after the other: nothing that can be meant is refused."""
    assert urls(text) == [A, B]


def test_a_wrong_entry_of_a_document_has_its_number() -> None:
    """A document without line ends is all on line 1, so the reason counts the entries."""
    _, wrong = read('["203.0.113.9:8080",{"ip":"203.0.113.9","port":0}]')
    assert isinstance(wrong, Rejected)
    assert wrong.line == 1
    assert wrong.reason.startswith("entry 2: the port")


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_read(encoding: str) -> None:
    """UTF-16 without a byte-order mark and UTF-32 with one are recognised."""
    assert urls("203.0.113.9:8080\r\n203.0.113.10:80\r\n".encode(encoding)) == [A, B]


@pytest.mark.parametrize("separator", [" ", ",", "; ", "<br>", "', '"])
def test_a_line_of_hundreds_gives_them_all(separator: str) -> None:
    """A line longer than a proxy can be is an error only where it is no list of them."""
    endpoints = [f"http://203.0.113.{number % 250}:{number + 1}" for number in range(900)]
    assert urls(separator.join(endpoints)) == endpoints
    assert urls(separator.join(endpoint.removeprefix("http://") for endpoint in endpoints)) == endpoints


def test_the_end_of_an_endless_line_is_not_dropped_silently() -> None:
    """Of a line beyond all bounds the beginning is read, and that the end was not is an error of that line."""
    items = read(" ".join(["203.0.113.9:8080"] * 10_000) + "\n203.0.113.10:80")
    *proxies, rest, last = items
    assert {item.url.reveal() for item in proxies if isinstance(item, Candidate)} == {A}
    assert len(proxies) > 3000
    assert isinstance(rest, Rejected)
    assert "its end was not read" in rest.reason
    assert last == Candidate(last.url, line=2) if isinstance(last, Candidate) else False

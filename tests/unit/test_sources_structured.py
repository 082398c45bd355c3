"""JSON, JSON Lines and CSV: recognised by content, streamed, read under the usual field names."""

from __future__ import annotations

import io
import json

import pytest

from proxywhirl.errors import ListFormatError, ProxyURLError
from proxywhirl.models import Attributes
from proxywhirl.sources import Candidate, Ignored, Item, Rejected, parse_list


def read(text: str, scheme: str = "http") -> list[Item]:
    """Read a whole list."""
    return list(parse_list(io.BytesIO(text.encode()), scheme=scheme))


def urls(text: str, scheme: str = "http") -> list[str]:
    """Return the proxies of a list in which nothing is wrong."""
    items = read(text, scheme)
    assert not [item for item in items if isinstance(item, Rejected)]
    return [item.url.reveal() for item in items if isinstance(item, Candidate)]


@pytest.mark.parametrize(
    "document",
    [
        ["203.0.113.9:80"],
        ["http://203.0.113.9:80", None, 5, "prose"],
        [{"ip": "203.0.113.9", "port": 80}],
        [{"host": "203.0.113.9", "port": "80"}],
        [{"IP Address": "203.0.113.9", "Port": 80.0}],
        [{"proxy": "203.0.113.9:80"}],
        [{"url": "http://203.0.113.9:80/"}],
        [{"address": "203.0.113.9:80", "port": 80}],
        [{"ip": "203.0.113.9", "port": 80, "url": "https://lists.example/details"}],
        [["203.0.113.9", 80, "http"]],
        {"data": [{"ip": "203.0.113.9", "port": 80}], "total": 1, "source": "https://lists.example"},
        {"result": {"proxies": ["203.0.113.9:80"]}},
        {"203.0.113.9:80": {"seen": 5}},
        {"http": ["203.0.113.9:80"], "countries": ["DE"]},
        {"http": "http://203.0.113.9:80"},
        {"ip": "203.0.113.9", "port": 80},
        {"host": "203.0.113.9", "port": 80, "protocols": ["https"], "https": True},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_every_shape_of_json_is_read(document: object, indent: int | None) -> None:
    """A proxy is found as string, object or row, in an array or under a key, compact or indented."""
    assert urls(json.dumps(document, indent=indent)) == ["http://203.0.113.9:80"]


@pytest.mark.parametrize(
    ("fields", "scheme"),
    [
        ({"protocol": "socks5"}, "socks5"),
        ({"type": "SOCKS4"}, "socks4"),
        ({"type": "elite"}, "socks5h"),
        ({"protocols": ["h2", "socks4", "http"]}, "socks4"),
        ({"scheme": "https"}, "http"),
        ({"protocol": "HTTP/HTTPS"}, "http"),
        ({"protocol": ""}, "socks5h"),
    ],
)
def test_a_protocol_field_sets_the_scheme(fields: dict[str, object], scheme: str) -> None:
    """The first known protocol is taken, HTTPS reads as http, and the default is for records without one."""
    assert urls(json.dumps([{"ip": "203.0.113.9", "port": 80, **fields}]), "socks5h") == [f"{scheme}://203.0.113.9:80"]


def test_facts_become_attributes() -> None:
    """The usual names of country, region, city, ASN and anonymity are understood, unusable values left out."""
    record: dict[str, object] = {"ip": "203.0.113.9", "port": 80, "protocol": "http"}
    facts: list[dict[str, object]] = [
        {
            "countryCode": "de",
            "regionName": "Bayern",
            "city": "München",
            "asn": "AS123 Example",
            "anonymityLevel": "elite",
        },
        {"geolocation": {"country": "ZA", "city": "Unknown"}, "anonymity": "high anonymous", "asn": 64512},
        {"country": "United States", "asn": "none", "anonymity": True, "city": 5, "provider": "acme"},
    ]
    items = read(json.dumps([record | fact for fact in facts]))
    assert [item.attributes for item in items if isinstance(item, Candidate)] == [
        Attributes(country="DE", region="Bayern", city="München", asn=123, anonymity="elite"),
        Attributes(country="ZA", anonymity="elite", asn=64512),
        Attributes(city="5", provider="acme"),
    ]


def test_credentials_in_fields_are_taken_as_they_are() -> None:
    """A username and password in fields are not decoded; those inside a URL are kept where no field tells them."""
    records = [
        {"server": "http://203.0.113.9:80", "username": "b@b", "password": " p%40:w"},
        {"ip": "203.0.113.9", "port": 80, "login": "bob", "pass": 12345},
        {"ip": "203.0.113.9", "port": 80, "proxy": "http://bob:pw@203.0.113.9:80"},
        {"ip": "2001:db8::1", "port": 80, "user": "bob"},
    ]
    assert urls(json.dumps(records)) == [
        "http://b%40b:%20p%2540%3Aw@203.0.113.9:80",
        "http://bob:12345@203.0.113.9:80",
        "http://bob:pw@203.0.113.9:80",
        "http://bob@[2001:db8::1]:80",
    ]


@pytest.mark.parametrize(
    "record",
    [
        {"ip": "999.1.1.1", "port": 80},
        {"ip": "203.0.113.9", "port": 0},
        {"ip": "203.0.113.9", "port": True},
        {"ip": "203.0.113.9"},
        {"ip": "203.0.113.9", "port": 80, "protocol": "vmess"},
        {"ip": "203.0.113.9", "port": 80, "username": "s3cret\n"},
        {"proxy": "203.0.113.9:80 203.0.113.8:80"},
    ],
)
def test_a_wrong_record_is_rejected_with_its_line(record: dict[str, object]) -> None:
    """A record whose endpoint, protocol or credential is wrong is rejected on its line; the next is read."""
    wrong, right = read(f'{{"data": [\n{json.dumps(record)},\n"203.0.113.9:80"]}}')
    assert isinstance(wrong, Rejected)
    assert wrong.line == 2
    assert "s3cret" not in wrong.reason
    assert isinstance(right, Candidate)
    assert right.line == 3


def test_json_lines_lose_only_the_damaged_line() -> None:
    """Each line is a value of its own, and a damaged one is rejected with its number."""
    items = read(
        '{"ip": "203.0.113.1", "po\n{"ip": "203.0.113.2", "port": 80}\n\n"203.0.113.3:80"\n'
        '{"status": "ok"}\n{"data": ["203.0.113.4:80"]}\n["203.0.113.5", 80]\n'
    )
    assert [(type(item), item.line) for item in items] == [
        (Rejected, 1),
        (Candidate, 2),
        (Ignored, 3),
        (Candidate, 4),
        (Ignored, 5),
        (Candidate, 6),
        (Candidate, 7),
    ]
    assert urls('"http:\\/\\/203.0.113.1:80"\n"203.0.113.2:80"') == ["http://203.0.113.1:80", "http://203.0.113.2:80"]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('["203.0.113.9:80",\n{"ip": "s3cret', "line 2, column 8"),
        ('["203.0.113.9:80",\n{ip: "s3cret"}]', "line 2, column 2"),
        ('["203.0.113.9:80"] x', "line 1, column 20"),
        ('["203.0.113.9:80"', "line 1, column 18"),
        ('["203.0.113.9:80", 1}', "line 1, column 21"),
        ('["203.0.113.9:80", ' + "[" * 100_000, "line 1"),
        ('["203.0.113.9:80", "' + "x" * 1_100_000 + '"]', "more than 1048576 characters"),
    ],
)
def test_damaged_json_says_where(text: str, where: str) -> None:
    """A JSON document that breaks off says line and column; what stands before the damage was yielded."""
    items = parse_list(io.BytesIO(text.encode()))
    assert isinstance(next(items), Candidate)
    with pytest.raises(ListFormatError, match=where) as caught:
        list(items)
    assert "s3cret" not in str(caught.value)


def test_csv_with_a_header_is_read_by_names() -> None:
    """The delimiter is found, quoted fields are unquoted, and each row stands for itself."""
    items = read(
        "# from a spreadsheet\n"
        "IP Address,Port,Protocol,Country Code,Username,Password\n"
        '203.0.113.1,80,HTTPS,DE,bob,"p,a""s@s"\n'
        "203.0.113.2,99999,http,DE,,\n"
        "\n"
        "2001:db8::1,1080,socks5,,,\n"
        '"203.0.113.3,80,http,,,\n'
        "203.0.113.4,80\n"
    )
    assert [(type(item), item.line) for item in items] == [
        (Ignored, 1),
        (Ignored, 2),
        (Candidate, 3),
        (Rejected, 4),
        (Ignored, 5),
        (Candidate, 6),
        (Candidate, 7),
        (Candidate, 8),
    ]
    first = items[2]
    assert isinstance(first, Candidate)
    assert first.url.reveal() == "http://bob:p%2Ca%22s%40s@203.0.113.1:80"
    assert first.attributes.country == "DE"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_of_any_delimiter_is_read(delimiter: str) -> None:
    """Comma, semicolon, tab and bar separate columns, with a header and without."""
    header = delimiter.join(["host", "port", "type"])
    row = delimiter.join(["203.0.113.9", "1080", "socks5"])
    assert urls(f"{header}\n{row}\n") == urls(f"{row}\n") == ["socks5://203.0.113.9:1080"]


@pytest.mark.parametrize("text", ["", "\n", "[]", "{}", '{"data": []}', "ip,port\n"])
def test_an_empty_list_holds_nothing(text: str) -> None:
    """A list without proxies is no error."""
    assert urls(text) == []


def test_a_compressed_list_is_refused_by_name() -> None:
    """Compressed bytes are refused with what to do; an unknown default scheme is refused before reading."""
    with pytest.raises(ListFormatError, match="gzip"):
        parse_list(io.BytesIO(b"\x1f\x8b\x08\x00"))
    with pytest.raises(ProxyURLError, match="unknown proxy scheme"):
        parse_list(io.BytesIO(b""), scheme="gopher")


@pytest.mark.parametrize("around", [b"[%s]", b'{"data": {"list": [%s]}, "total": 60000}'])
def test_a_large_document_is_streamed(around: bytes) -> None:
    """Proxies come while a document is read, which may be larger than any bound on what is held of it."""
    records = b",".join(b'{"ip": "203.0.%d.%d", "port": 80}' % divmod(n, 250) for n in range(60_000))
    stream = io.BytesIO(around % records)
    items = parse_list(stream)
    for number in range(30_000):
        assert isinstance(next(items), Candidate)
        assert stream.tell() < (number + 1) * 40 + 300_000
    assert sum(isinstance(item, Candidate) for item in items) == 30_000

"""Text lists: what each kind of line is, and what headings and columns tell."""

from __future__ import annotations

import io

import pytest

from proxywhirl.sources import Candidate, Ignored, Item, Rejected, parse_list

PROSE = [
    "",
    "   \t",
    "Proxy list (#400) updated at Fri, 24 Mar 23 07:58:01 +0300",
    "Socks proxy=https://lists.example/socks.txt",
    "Support by donations:",
    "BTC bc1q0hxnu4gmn5ru8j7g29tv2dq2ng5g0zhanl6t4t",
    "IP address:Port CountryCode-Anonymity(Noa/Anm/Hia)-SSL_support(S)-Google_passed(+)",
    "Free open HTTP/HTTPS(SSL) proxy list  - TXT format - updated hourly.",
    "Updated: 2024-01-01 10:20:30",
    "2024-01-01 10:20:30",
    "24.03.2023 07:58",
    "10:20",
    "10:20:30",
    "Total:28",
    "https://lists.example/x/list.txt",
    "See https://lists.example/ for more",
    "mail me@lists.example",
    "me@lists.example",
    "# 203.0.113.9:80 is dead",
    "// 203.0.113.9:80",
    ";203.0.113.9:80",
    "# use socks4 for torrents",
    "-----",
    "v1.2.3",
]
WRONG = {
    "203.0.113.9": "no port",
    "203.0.113.9 DE": "no port",
    "999.1.1.1:80": "IPv4",
    "1.2.3:80": "IPv4",
    "203.0.113.9:0": "port",
    "203.0.113.9:65536": "port",
    "203.0.113.9 65536 DE": "no port",
    "proxy.example.com:99999": "port",
    "ftp://203.0.113.9:21": "scheme",
    "vmess://eyJhIjoiYiJ9": "scheme",
    ":8080": "host is empty",
    "http://": "host is empty",
    "host:abc": "port",
    "bob:s3cret@203.0.113.9:x": "port",
    "bob:s3cret@proxy": "no port",
    "203.0.113.9:80:bob": "three fields",
    "[fe80::1%eth0]:80": "zone",
    "2001:db8::1:80": "brackets",
    "203.0.113.9:80\x00": "control",
    "x" * 10_000: r"\(10000 characters\)",
    "x" * 200_000: "too long",
}


def read(text: str | bytes, scheme: str = "http") -> list[Item]:
    """Read a whole list."""
    return list(parse_list(io.BytesIO(text if isinstance(text, bytes) else text.encode()), scheme=scheme))


def urls(text: str | bytes, scheme: str = "http") -> list[str]:
    """Return the proxies of a list in which nothing is wrong."""
    items = read(text, scheme)
    assert not [item for item in items if isinstance(item, Rejected)]
    return [item.url.reveal() for item in items if isinstance(item, Candidate)]


@pytest.mark.parametrize("line", PROSE)
def test_prose_is_ignored(line: str) -> None:
    """A line without the shape of an endpoint is ignored, and the lines around it are read."""
    assert [type(item) for item in read(f"203.0.113.1:80\n{line}\n203.0.113.2:80")] == [Candidate, Ignored, Candidate]


@pytest.mark.parametrize("line", WRONG, ids=lambda line: line[:20])
def test_a_wrong_line_is_rejected_with_its_number(line: str) -> None:
    """A line that has the shape and is wrong is rejected with its number and reason, without a credential."""
    first, wrong, last = read(f"203.0.113.1:80\n{line}\n203.0.113.2:80")
    assert isinstance(first, Candidate)
    assert isinstance(last, Candidate)
    assert isinstance(wrong, Rejected)
    assert wrong.line == 2
    with pytest.raises(ValueError, match=WRONG[line]):
        raise ValueError(wrong.reason)
    assert "s3cret" not in wrong.reason


@pytest.mark.parametrize(
    ("line", "url"),
    [
        ("- 203.0.113.9:80", "http://203.0.113.9:80"),
        ("* 203.0.113.9:80", "http://203.0.113.9:80"),
        ("12. 203.0.113.9:80", "http://203.0.113.9:80"),
        ("12) socks5://203.0.113.9:80", "socks5://203.0.113.9:80"),
        ("| 203.0.113.9 | 8080 | DE |", "http://203.0.113.9:8080"),
        ("| 3 | 203.0.113.9 | 8080 | DE |", "http://203.0.113.9:8080"),
        ("3,203.0.113.9,8080,DE", "http://203.0.113.9:8080"),
        ("DE 203.0.113.9:80 elite", "http://203.0.113.9:80"),
        ("[12:30] found 203.0.113.9:80", "http://203.0.113.9:80"),
        ("203.0.113.9:80:bob:pw", "http://bob:pw@203.0.113.9:80"),
        ("http://203.0.113.9:80/a/path", "http://203.0.113.9:80"),
        ("https://proxy.example.com", "https://proxy.example.com:443"),
        ("proxy:3128", "http://proxy:3128"),
        ("socks5-proxy:1080", "http://socks5-proxy:1080"),
        ("2001:db8::1 80", "http://[2001:db8::1]:80"),
        ("socks5 203.0.113.9 1080 bob pw", "socks5://bob:pw@203.0.113.9:1080"),
        ("203.0.113.9:80   \t\r", "http://203.0.113.9:80"),
    ],
)
def test_a_decorated_line_is_read(line: str, url: str) -> None:
    """Bullets, numbers, columns before the endpoint and white space do not hide a proxy."""
    assert urls(line) == [url]


def test_a_line_of_several_proxies_gives_them_all() -> None:
    """Nothing on a line is dropped silently: each proxy is read, each wrong one is rejected."""
    assert urls("203.0.113.1:80 203.0.113.2:81, bob:pw@203.0.113.3:82;[::1]:83") == [
        "http://203.0.113.1:80",
        "http://203.0.113.2:81",
        "http://bob:pw@203.0.113.3:82",
        "http://[::1]:83",
    ]
    assert [type(item) for item in read("999.1.1.1:80, 203.0.113.1:80")] == [Rejected, Candidate]


def test_headings_set_the_scheme_of_bare_lines_below() -> None:
    """A heading holds until the next one; a scheme in a line beats it, and it beats the caller's default."""
    text = """203.0.113.1:80
# HTTP Proxies (6642)
203.0.113.2:80

## HTTPS
203.0.113.3:80
[socks4]
203.0.113.4:80
http://203.0.113.5:80
SOCKS5:
203.0.113.6:80
[::1]:80
"""
    assert urls(text, scheme="socks5h") == [
        "socks5h://203.0.113.1:80",
        "http://203.0.113.2:80",
        "http://203.0.113.3:80",
        "socks4://203.0.113.4:80",
        "http://203.0.113.5:80",
        "socks5://203.0.113.6:80",
        "socks5://[::1]:80",
    ]


@pytest.mark.parametrize(
    "line",
    ["# HTTP and SOCKS5 proxies", "# use socks4 for torrents", "# from https://lists.example/socks4.txt", "Socks list"],
)
def test_what_is_no_heading_sets_nothing(line: str) -> None:
    """Two families, prose and links that mention a protocol leave the scheme as it is."""
    assert urls(f"# SOCKS5\n{line}\n203.0.113.1:80") == ["socks5://203.0.113.1:80"]


@pytest.mark.parametrize(
    ("columns", "country", "anonymity"),
    [
        ("CO-N-S! +", "CO", "transparent"),
        ("GH-H +", "GH", "elite"),
        ("GB-A! -", "GB", "anonymous"),
        ("DE elite", "DE", "elite"),
        ("\tUS\tUnited States\telite proxy\tno\tyes\t1 min ago", "US", "elite"),
        ("transparent OK", None, "transparent"),
        ("works", None, None),
    ],
)
def test_columns_tell_country_and_anonymity(columns: str, country: str | None, anonymity: str | None) -> None:
    """Flags and columns after an endpoint become attributes; other words are passed over."""
    (item,) = read(f"203.0.113.9:80 {columns}")
    assert isinstance(item, Candidate)
    assert (item.attributes.country, item.attributes.anonymity) == (country, anonymity)


@pytest.mark.parametrize(
    "data",
    [
        b"203.0.113.1:80\n203.0.113.2:80\n",
        b"203.0.113.1:80\r\n203.0.113.2:80",
        b"203.0.113.1:80\r203.0.113.2:80\r",
        b"\xef\xbb\xbf203.0.113.1:80\n\xef\xbb\xbf203.0.113.2:80",
        "203.0.113.1:80\n203.0.113.2:80".encode("utf-16"),
        b"\xfe\xff" + "203.0.113.1:80\n203.0.113.2:80".encode("utf-16-be"),
        b"203.0.113.1:80 M\xfcnchen\n203.0.113.2:80 \xff\xfe",
    ],
)
def test_any_encoding_and_line_end_is_read(data: bytes) -> None:
    """Byte-order marks, line ends of all systems and undecodable bytes cost no proxy."""
    assert urls(data) == ["http://203.0.113.1:80", "http://203.0.113.2:80"]


def test_lines_are_numbered_across_pieces() -> None:
    """Line numbers count from 1 through the whole stream, whatever the stream's pieces are."""

    class Drop(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            return super().read(7)

    data = b"".join(b"203.0.113.%d:80\n" % (n % 250) for n in range(5000))
    assert [item.line for item in parse_list(Drop(data)) if isinstance(item, Candidate)] == list(range(1, 5001))
    large = data * 10
    assert [item.line for item in read(large) if isinstance(item, Candidate)] == list(range(1, 50_001))

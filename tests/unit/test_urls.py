"""The spellings of one proxy, its canonical form, and what is said of a wrong one."""

from __future__ import annotations

import hashlib

import pytest

from proxywhirl.errors import ProxyURLError
from proxywhirl.hosts import canonical_host, split_authority
from proxywhirl.urls import default_port, parse, parse_first, protocol_scheme, redact

SPELLINGS = {
    "203.0.113.9:8080": "http://203.0.113.9:8080",
    "socks5://203.0.113.9:1080": "socks5://203.0.113.9:1080",
    "HTTPS://Proxy.Example.COM": "https://proxy.example.com:443",
    "socks4a://203.0.113.9": "socks4a://203.0.113.9:1080",
    "http://203.0.113.9": "http://203.0.113.9:80",
    "http://203.0.113.9:": "http://203.0.113.9:80",
    "//203.0.113.9:8080": "http://203.0.113.9:8080",
    "http://203.0.113.9:8080/": "http://203.0.113.9:8080",
    "http://203.0.113.9:8080/a/path?x=1#y": "http://203.0.113.9:8080",
    "proxy.example.com.:3128": "http://proxy.example.com:3128",
    "my_proxy:3128": "http://my_proxy:3128",
    # a credential before the endpoint
    "http://bob:s3cret@203.0.113.9:8080": "http://bob:s3cret@203.0.113.9:8080",
    "bob:s3cret@203.0.113.9:8080": "http://bob:s3cret@203.0.113.9:8080",
    "bob@203.0.113.9:8080": "http://bob@203.0.113.9:8080",
    "http://bob:@203.0.113.9:8080": "http://bob:@203.0.113.9:8080",
    "http://:s3cret@203.0.113.9:8080": "http://:s3cret@203.0.113.9:8080",
    "http://:@203.0.113.9:8080": "http://203.0.113.9:8080",
    "http://@203.0.113.9:8080": "http://203.0.113.9:8080",
    "http://bob:s3cret@proxy": "http://bob:s3cret@proxy:80",
    # special characters in a password, encoded and raw
    "bob:p%40%3A%2F%23@203.0.113.9:8080": "http://bob:p%40%3A%2F%23@203.0.113.9:8080",
    "bob:a@b:c/d?e#f%@203.0.113.9:8080": "http://bob:a%40b%3Ac%2Fd%3Fe%23f%25@203.0.113.9:8080",
    "http://bob:a@b:c/d@203.0.113.9:8080/path": "http://bob:a%40b%3Ac%2Fd@203.0.113.9:8080",
    "bob:%zz%ff%40@203.0.113.9:8080": "http://bob:%25zz%25ff%2540@203.0.113.9:8080",
    "bob:a,b;c|d@203.0.113.9:8080": "http://bob:a%2Cb%3Bc%7Cd@203.0.113.9:8080",
    "http://bob:x@host.example:80/a@b": "http://bob:x@host.example:80",
    # a credential among colons
    "203.0.113.9:8080:bob:s3cret": "http://bob:s3cret@203.0.113.9:8080",
    "bob:s3cret:203.0.113.9:8080": "http://bob:s3cret@203.0.113.9:8080",
    "socks5://203.0.113.9:1080:bob:s3cret": "socks5://bob:s3cret@203.0.113.9:1080",
    "203.0.113.9:8080:bob:a:b": "http://bob:a%3Ab@203.0.113.9:8080",
    "bob:a:b:203.0.113.9:8080": "http://bob:a%3Ab@203.0.113.9:8080",
    "203.0.113.9:8080:bob:p%40ss": "http://bob:p%2540ss@203.0.113.9:8080",
    "http://203.0.113.9:8080:bob:p@ss": "http://bob:p%40ss@203.0.113.9:8080",
    "203.0.113.9:8080:bob@example.com:pw": "http://bob%40example.com:pw@203.0.113.9:8080",
    "bob@example.com:pw:203.0.113.9:8080": "http://bob%40example.com:pw@203.0.113.9:8080",
    "bob:8000:203.0.113.9:8080": "http://bob:8000@203.0.113.9:8080",
    "203.0.113.9:8080:bob:8000": "http://bob:8000@203.0.113.9:8080",
    "localhost:8080:bob:pw": "http://bob:pw@localhost:8080",
    "bob:pw:localhost:8080": "http://bob:pw@localhost:8080",
    "203.0.113.9:8080@bob:s3cret": "http://bob:s3cret@203.0.113.9:8080",
    "203.0.113.9:1080:socks5": "socks5://203.0.113.9:1080",
    # columns
    "203.0.113.9 8080": "http://203.0.113.9:8080",
    "proxy.example.com\t8080": "http://proxy.example.com:8080",
    "203.0.113.9,8080": "http://203.0.113.9:8080",
    "203.0.113.9 ; 8080": "http://203.0.113.9:8080",
    "203.0.113.9|8080": "http://203.0.113.9:8080",
    "2001:db8::1 8080": "http://[2001:db8::1]:8080",
    "203.0.113.9,8080,bob,s3cret": "http://bob:s3cret@203.0.113.9:8080",
    "203.0.113.9,8080,US,elite": "http://203.0.113.9:8080",
    "203.0.113.9,8080,Germany,Berlin": "http://203.0.113.9:8080",
    "203.0.113.9\t1080\tSOCKS5\tDE": "socks5://203.0.113.9:1080",
    "203.0.113.9:8080 HTTPS": "http://203.0.113.9:8080",
    "https://203.0.113.9:8080 socks5": "https://203.0.113.9:8080",
    "socks5 203.0.113.9 1080 bob s3cret": "socks5://bob:s3cret@203.0.113.9:1080",
    "socks4 203.0.113.9:1080": "socks4://203.0.113.9:1080",
    "socks5:203.0.113.9:1080": "socks5://203.0.113.9:1080",
    "socks5:pw:203.0.113.9:1080": "http://socks5:pw@203.0.113.9:1080",
    "170.239.207.241:999 CO-N-S! +": "http://170.239.207.241:999",
    "203.0.113.9:8080 # works with socks5 too": "http://203.0.113.9:8080",
    # IPv6 and names of the world
    "[2001:DB8:0:0::1]:8080": "http://[2001:db8::1]:8080",
    "http://bob:pw@[::1]:8080": "http://bob:pw@[::1]:8080",
    "[::1]:8080:bob:pw": "http://bob:pw@[::1]:8080",
    "bob:pw:[::1]:8080": "http://bob:pw@[::1]:8080",
    "[::FFFF:203.0.113.9]:80": "http://[::ffff:203.0.113.9]:80",
    "[::ffff:cb00:7109]:80": "http://[::ffff:203.0.113.9]:80",
    "münchen.example:80": "http://xn--mnchen-3ya.example:80",
    "MÜNCHEN。example:80": "http://xn--mnchen-3ya.example:80",
    "\uff12\uff10\uff13.0.113.9:80": "http://203.0.113.9:80",
    # what stands around a line
    "\ufeff203.0.113.9:8080\r\n": "http://203.0.113.9:8080",
    "\u200b\xa0203.0.113.9:8080\u3000\u200d": "http://203.0.113.9:8080",
    '"203.0.113.9:8080",': "http://203.0.113.9:8080",
    "'203.0.113.9','8080','bob','pw'": "http://bob:pw@203.0.113.9:8080",
}


@pytest.mark.parametrize("text", SPELLINGS)
def test_a_spelling_has_one_reading(text: str) -> None:
    """Every spelling that lists use reads as the one canonical URL, which reads as itself."""
    url = parse(text)
    assert url.reveal() == SPELLINGS[text]
    assert parse(url.reveal()) == url


WRONG = {
    "": "host is empty",
    "   ": "host is empty",
    '"\t"': "host is empty",
    "http://": "host is empty",
    ":8080": "host is empty",
    "http://:8080": "host is empty",
    "http://bob:s3cret@": "host is empty",
    "203.0.113.9": "no port",
    "bob:s3cret@proxy": "no port",
    "203.0.113.9:0": "1 to 65535",
    "203.0.113.9:65536": "1 to 65535",
    "203.0.113.9:99999999": "1 to 65535",
    "203.0.113.9:-1": "1 to 65535",
    "203.0.113.9:٣": "1 to 65535",
    "proxy:s3cret": "1 to 65535",
    "http://bob:s3cret@203.0.113.9:99999": "1 to 65535",
    "999.1.1.1:80": "IPv4",
    "1.2.3:80": "IPv4",
    "1.2.3.4.5:80": "IPv4",
    "01.2.3.4:80": "IPv4",
    "2130706433:80": "IPv4",
    "0x7f.1:80": "IPv4",
    "[::1:80": "brackets",
    "[::1]80": "brackets",
    "2001:db8::1:80": "brackets",
    "[fe80::1%eth0]:80": "zone",
    "[::g]:80": "IPv6",
    "-proxy.example:80": "host name",
    "a..example:80": "host name",
    "pro xy.example:80": "port",
    f"{'a' * 64}.example:80": "host name",
    f"{'a.' * 140}example:80": "longer",
    "☃.example:80": "internationalised",
    "ftp://203.0.113.9:21": "scheme",
    "vmess://eyJhIjoiYiJ9": "scheme",
    "203.0.113.9:8080:bob": "three fields",
    "http://bob:%00@203.0.113.9:80": "control",
    "http://bob\x07:x@203.0.113.9:80": "control",
    "203.0.113.9:80\x00": "control",
    "http://b\ud800b:x@203.0.113.9:80": "control",
    "203.0.113.9:80\n203.0.113.8:80": "control",
    "203.0.113.9:80 203.0.113.8:80": "more than one",
    "203.0.113.9:80, bob:pw@203.0.113.8:80": "more than one",
    "x" * 10_000: "too long",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:30])
def test_what_is_no_proxy_is_refused_with_its_reason(text: str) -> None:
    """A wrong text is a ProxyURLError that says what is wrong, and no credential of it is told."""
    with pytest.raises(ProxyURLError, match=WRONG[text]) as caught:
        parse(text)
    assert "s3cret" not in str(caught.value)
    assert "bob" not in str(caught.value)
    assert caught.value.__cause__ is None, "a foreign message quotes the text"
    assert len(str(caught.value)) < 200


def test_the_given_scheme_is_that_of_a_text_without_one() -> None:
    """A bare endpoint takes the caller's scheme; a scheme in the text, or in a column, beats it."""
    assert parse("203.0.113.9:80", scheme="socks4").scheme == "socks4"
    assert parse("http://203.0.113.9:80", scheme="socks4").scheme == "http"
    assert parse("203.0.113.9:80 socks5", scheme="socks4").scheme == "socks5"
    with pytest.raises(ProxyURLError, match="unknown proxy scheme"):
        parse("203.0.113.9:80", scheme="gopher")


def test_the_rest_of_a_line_is_told() -> None:
    """The columns after a proxy and the rest from the next proxy on are handed back."""
    found = parse_first("203.0.113.9:80 DE elite, bob:pw@203.0.113.8:81 US")
    assert found.url.canonical == "http://203.0.113.9:80"
    assert found.columns.split() == ["DE", "elite,"]
    assert found.rest == "bob:pw@203.0.113.8:81 US"


def test_identity_is_scheme_endpoint_and_username() -> None:
    """The key depends on scheme, host, port and username alone, and is the documented hash."""
    url = parse("http://bob:one@203.0.113.9:80")
    assert url.key == parse("bob:two@203.0.113.9:80").key
    others = ("203.0.113.9:80", "eve:one@203.0.113.9:80", "https://bob:one@203.0.113.9:80", "bob:one@203.0.113.9:81")
    assert url.key not in {parse(other).key for other in others}
    assert parse("203.0.113.9:80").key == hashlib.sha256(b"http://203.0.113.9:80").hexdigest()[:16]


def test_only_reveal_tells_the_credential() -> None:
    """Neither repr, str, label nor the canonical URL hold the username or the password."""
    url = parse("socks5://bob:s3cret@203.0.113.9:80")
    shown = f"{url!r} {url} {url.canonical} {url.label} {url.key}"
    assert "bob" not in shown
    assert "s3cret" not in shown
    assert url.reveal() == "socks5://bob:s3cret@203.0.113.9:80"


def test_a_credential_can_be_added_as_it_is() -> None:
    """A credential from a field of its own is not decoded, an empty one is none, a control character is refused."""
    url = parse("203.0.113.9:80")
    assert url.with_credential("b%40b", "p:w").reveal() == "http://b%2540b:p%3Aw@203.0.113.9:80"
    assert url.with_credential("", "") == url
    assert url.with_credential(None, None) == url
    with pytest.raises(ProxyURLError, match="control"):
        url.with_credential("bob", "a\nb")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://bob:s3cret@203.0.113.9:99999", "http://***@203.0.113.9:99999"),
        ("203.0.113.9:0:bob:s3cret", "203.0.113.9:0***"),
        ("bob:s3cret:203.0.113.9:0", "***203.0.113.9:0"),
        ("203.0.113.9:1080@bob:s3cret", "***"),
        ("bob:12345678", "***"),
        ("socks5://[::g]:80", "socks5://***"),
        ("[::1]:0", "[::1]:0"),
        ("\x1b[31m999.1.1.1:80", "***"),
        ("x" * 10_000, "(10000 characters)"),
    ],
)
def test_redacted_text_holds_no_credential(text: str, shown: str) -> None:
    """Of a text only a known scheme, a numeric address and its port are shown, of a long one its length."""
    assert redact(text) == shown


def test_an_authority_is_split_into_host_and_port() -> None:
    """A host comes canonical and without brackets; the default stands in for a missing or empty port."""
    assert split_authority("Example.COM:8443", 443) == ("example.com", 8443)
    assert split_authority("example.com", 443) == ("example.com", 443)
    assert split_authority("example.com:", 443) == ("example.com", 443)
    assert split_authority("[2001:DB8::1]", 443) == ("2001:db8::1", 443)
    for wrong in ("", ":80", "example.com:x", "[::1", "[::1]x", "::1", "a b", "bob@example.com:80"):
        with pytest.raises(ProxyURLError):
            split_authority(wrong, 443)
    with pytest.raises(ProxyURLError):
        split_authority("example.com:")


def test_a_canonical_host_is_canonical() -> None:
    """Every spelling of a host gives one text."""
    assert canonical_host("[2001:0DB8::0001]") == canonical_host("2001:db8:0:0::1") == "2001:db8::1"
    assert canonical_host("straße.example.") == "xn--strae-oqa.example"
    assert canonical_host("XN--STRAE-OQA.example") == "xn--strae-oqa.example"


def test_schemes_have_their_ports_and_words() -> None:
    """A scheme knows its default port, and "HTTPS" as a word of a list means an HTTP proxy that tunnels."""
    assert [default_port(s) for s in ("http", "https", "socks4", "socks4a", "socks5", "socks5h")] == [
        80,
        443,
        1080,
        1080,
        1080,
        1080,
    ]
    with pytest.raises(ProxyURLError, match="known: http"):
        default_port("HTTP")
    assert protocol_scheme(" HTTPS ") == "http"
    assert protocol_scheme("Socks5") == "socks5"
    assert protocol_scheme("socks") is None

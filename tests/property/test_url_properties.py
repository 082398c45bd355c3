"""Properties of the URL parser that hold for every input."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from proxywhirl.errors import ProxyURLError
from proxywhirl.hosts import canonical_host, split_authority
from proxywhirl.urls import SCHEMES, ProxyURL, parse, parse_columns, parse_plain, redact

_PIECES = st.sampled_from(
    [*"@:/?#%[],;| \t.\"'\\", "http", "://", "socks5", "203.0.113.9", "::1", "[::1]", ":80", "a.example", "%40", "%ff"]
)
_NOISE = st.lists(_PIECES | st.text(max_size=4), max_size=14).map("".join) | st.text()
_SECRETS = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=20)
_LABELS = st.from_regex(r"[a-z]([a-z0-9_-]{0,20}[a-z0-9])?", fullmatch=True)
_HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{canonical_host(str(address))}]"),
    st.lists(_LABELS, min_size=1, max_size=4).map(".".join),
)
_URLS = st.builds(
    ProxyURL,
    scheme=st.sampled_from(sorted(SCHEMES)),
    host=_HOSTS,
    port=st.integers(1, 65535),
)


@given(_URLS, st.none() | _SECRETS, st.none() | _SECRETS)
def test_a_canonical_url_reads_as_itself(url: ProxyURL, username: str | None, password: str | None) -> None:
    """parse(p.reveal()) == p for every canonical p."""
    url = url.with_credential(username, password)
    assert parse(url.reveal()) == url


@given(_NOISE)
@example("\ud800:\ud800@203.0.113.9:80")
@example("socks5 " * 500)
@example("@" * 4000)
@example(":" * 4000)
@example("\uff41@" * 1300)
@example("ÿ." * 120 + ":80")
def test_no_text_raises_anything_else(text: str) -> None:
    """Any text is a proxy in canonical form or a ProxyURLError, which is short and printable."""
    message = ""
    try:
        url = parse(text)
    except ProxyURLError as exc:
        message = str(exc)
    else:
        assert parse(url.reveal()) == url
        assert len(url.key) == 16
    assert len(message) < 250
    assert message.isprintable()


_PLAIN_HOSTS = st.ip_addresses(v=4).map(str) | st.sampled_from(["proxy.example.com", "a.b", "gate-1.example"])
_PLAIN_NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,8}", fullmatch=True) | st.sampled_from(["80", "203.0.113.8", "socks5"])


@given(
    st.sampled_from(["{h}:{n}", "{h}:{n}/", "{u}:{p}@{h}:{n}", "{h}:{n}:{u}:{p}", "{u}:{p}@{h}:{n}:{p}:{u}"]),
    st.sampled_from(["", "http://", "socks5://"]),
    _PLAIN_HOSTS,
    st.integers(1, 65535),
    _PLAIN_NAMES,
    _PLAIN_NAMES,
)
def test_the_short_cut_reads_as_the_grammar(
    form: str, scheme: str, host: str, port: int, username: str, password: str
) -> None:
    """What is read in one step is what the whole grammar reads, here made to do so by a comment."""
    text = scheme + form.format(h=host, n=port, u=username, p=password)
    plain = parse_plain(text, "socks4")
    if plain:
        assert parse(f"{text} # grammar", scheme="socks4") == plain
    assert plain is None or form.count("{u}") < 2
    if form.count("{u}") == 0 or "@" in form.partition("{h}")[0]:
        assert (plain is None) == (form.count("{u}") > 1), "the forms of most lists need no more than one step"


@given(
    st.ip_addresses(v=4),
    st.integers(1, 65535),
    st.sampled_from([":", " ", ",", ";", "|", "\t", " , "]),
    st.sampled_from([" ", ",", ";", "|", "\t", " | ", "  "]),
    st.lists(
        st.sampled_from(["US", "elite", "socks5", "HTTPS", "+", "CO-N-S!", "bob", "x1", "12", "", "-"]), max_size=5
    ),
)
def test_the_short_cut_for_columns_reads_as_the_grammar(
    host: ipaddress.IPv4Address, port: int, joint: str, separator: str, columns: list[str]
) -> None:
    """A line of plain columns is what the whole grammar reads, here made to do so by a comment."""
    text = f"{host}{joint}{port}{separator}{separator.join(columns)}"
    found = parse_columns(text, "socks4")
    if found:
        assert parse(f"{text} # grammar", scheme="socks4") == found.url
    elif columns == ["US", "elite"]:
        raise AssertionError(text)


@given(_NOISE, st.none() | st.integers(1, 65535))
def test_no_authority_raises_anything_else(text: str, port: int | None) -> None:
    """Any text is an authority that reads as itself, or a ProxyURLError."""
    with suppress(ProxyURLError):
        host, number = split_authority(text, port)
        assert canonical_host(host) == host
        assert 1 <= number <= 65535


@given(st.text(st.characters(exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=20))
def test_a_raw_password_needs_no_encoding(password: str) -> None:
    """A password may hold any visible characters before the last `@`, unless they look percent-encoded."""
    url = parse(f"http://bob:{password.replace('%', '%25')}@203.0.113.9:8080")
    assert (url.username, url.password, url.host) == ("bob", password, "203.0.113.9")


@given(
    _URLS, st.integers(10**9, 10**12), st.sampled_from(["{s}://{u}:{p}@{h}:99999", "{h}:0:{u}:{p}", "{u}:{p}:{h}:x"])
)
def test_a_wrong_line_tells_no_secret(url: ProxyURL, number: int, form: str) -> None:
    """No form of a wrong proxy tells its username or password in the error."""
    secrets = {"u": f"user{number}", "p": str(number)}
    text = form.format(s=url.scheme, h=url.host, **secrets)
    assert str(number) not in redact(text)
    with suppress(ProxyURLError):
        parse(text)
        raise AssertionError(text)


@given(_NOISE)
def test_redacted_text_is_short_and_printable(text: str) -> None:
    """What redact leaves is at most 80 printable characters."""
    assert len(redact(text)) <= 80
    assert redact(text).isprintable()


@given(st.ip_addresses(v=6))
def test_an_ipv6_address_keeps_its_value(address: ipaddress.IPv6Address) -> None:
    """The canonical text of an IPv6 address is the same address."""
    assert ipaddress.IPv6Address(canonical_host(address.exploded)) == address

"""One vendor's line becomes sessions that are identities; the grammar that they are stored in."""

from __future__ import annotations

import pytest

from proxywhirl.errors import SettingsError, UnknownNameError
from proxywhirl.models import Attributes, Proxy
from proxywhirl.urls import ProxyURL, parse
from proxywhirl.vendors.grammar import Wish, read_duration
from proxywhirl.vendors.grammar import parse as read_wish
from proxywhirl.vendors.provider import providers
from proxywhirl.vendors.sessions import recognised, to_send, vendor_sessions

LINES = {
    "brightdata": "http://brd-customer-1-zone-z:pw@brd.superproxy.io:33335",
    "oxylabs": "http://bob:pw@pr.oxylabs.io:7777",
    "decodo": "http://bob:pw@gate.decodo.com:7000",
    "iproyal": "http://bob:pw@geo.iproyal.com:12321",
    "soax": "http://package-1:pw@proxy.soax.com:5000",
    "soax-rules": "http://network-res:pw@proxy.soax.com:1337",
    "netnut": "http://bob-res-any:pw@gw.netnut.net:5959",
    "geonode": "http://bob:pw@proxy.geonode.io:10000",
    "evomi": "socks5://bob:pw@rp.evomi.com:1002",
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_becomes_as_many_identities_and_credentials(name: str) -> None:
    """A thousand sessions of any vendor are a thousand keys, labels and credentials of one endpoint."""
    line = parse(LINES[name])
    made = vendor_sessions(line, 1000, wish=Wish(country="de"))
    assert len({url.key for url, _ in made}) == 1000
    assert len({known.label for _, known in made}) == 1000
    sent = {(to_send(url, known.provider).username, to_send(url, known.provider).password) for url, known in made}
    assert len(sent) == 1000
    assert {(url.canonical, known.provider, known.country) for url, known in made} == {(line.canonical, name, "DE")}


def test_every_vendor_has_its_line_here() -> None:
    """The table of lines is complete."""
    assert LINES.keys() == providers().keys()


def test_the_same_line_and_number_give_the_same_session() -> None:
    """Whatever the password and the count; another wish or account has other sessions."""
    line = parse(LINES["iproyal"])
    keys = [url.key for url, _ in vendor_sessions(line, 50)]
    rotated = line.with_credential("bob", "another")
    assert [url.key for url, _ in vendor_sessions(rotated, 20)] == keys[:20]
    names = {read_wish(url.username or "")[1].session for url, _ in vendor_sessions(line, 50)}
    for other, wish in ((line, Wish(country="de")), (line.with_credential("eve", "pw"), Wish())):
        assert names.isdisjoint(
            read_wish(url.username or "")[1].session for url, _ in vendor_sessions(other, 50, wish=wish)
        )


def test_the_names_of_sessions_stay_what_they_are() -> None:
    """They are identities in stores that exist: another way to make them would make all of them anew."""
    made = vendor_sessions(parse(LINES["iproyal"]), 3, wish=Wish(country="de", lifetime=600))
    assert [known.label for _, known in made] == ["iproyal de sck057kv", "iproyal de sdrwizbk", "iproyal de sezswr29"]


def test_a_label_tells_the_session_and_not_the_account() -> None:
    """It names vendor, place and session; a label of the user's goes before the session instead of the vendor."""
    line = parse("http://hidden-account:s3cret@pr.oxylabs.io:7777")
    ((url, known),) = vendor_sessions(line, 1, wish=Wish(country="de", city="berlin"))
    shown = str(Proxy.of(url, attributes=known))
    assert shown == f"http://pr.oxylabs.io:7777 (oxylabs de berlin {read_wish(url.username or '')[1].session})"
    assert "hidden" not in f"{shown}{url!r}"
    ((_, known),) = vendor_sessions(line, 1, known=Attributes(label="shop", tags=("paid",)))
    assert (known.label or "").startswith("shop s")
    assert known.tags == ("paid",)
    own = recognised(ProxyURL("http", "brd.superproxy.io", 33335, "b,session=cart-17,country=de", "pw"), Attributes())
    assert own.label == "brightdata de cart-17"


@pytest.mark.parametrize(
    ("line", "count", "wish", "words"),
    [
        ("http://geo.iproyal.com:12321", 5, Wish(), "the username of an account"),
        ("http://bob,session=abcdefgh:pw@geo.iproyal.com:12321", 5, Wish(), "no wish in it"),
        ("http://bob:pw@geo.iproyal.com:12321", 0, Wish(), "from 1 to 100,000"),
        ("http://bob:pw@geo.iproyal.com:12321", 100_001, Wish(), "from 1 to 100,000"),
        ("http://bob:pw@geo.iproyal.com:12321", 2, Wish(session="abcdefgh"), "leave the session out"),
        ("http://bob:pw@203.0.113.7:80", 2, Wish(), "name the provider, of brightdata, "),
        ("http://bob:pw@brd.superproxy.io:33335", 2, Wish(lifetime=600), "offers no lifetime"),
        ("socks4://bob:pw@geo.iproyal.com:32325", 2, Wish(), "which socks4 does not carry: say socks5"),
    ],
)
def test_a_line_that_gives_no_sessions_is_told_why(line: str, count: int, wish: Wish, words: str) -> None:
    """The error says what to do, and nothing of the credential."""
    with pytest.raises(SettingsError) as caught:
        vendor_sessions(parse(line), count, wish=wish)
    assert words in str(caught.value)
    assert "bob" not in str(caught.value)


def test_an_unknown_provider_lists_the_known_ones() -> None:
    """A typing error is told what there is."""
    with pytest.raises(UnknownNameError, match="iproyal, netnut"):
        vendor_sessions(parse(LINES["iproyal"]), 2, provider="iproyall")


def test_only_a_wish_for_a_known_vendor_is_compiled() -> None:
    """A native username, a proxy of no vendor and a provider that nobody knows are sent as they are."""
    native = parse("http://brd-customer-1-zone-z-session-7:pw@brd.superproxy.io:33335")
    assert to_send(native, "brightdata") is native
    other = parse("http://a%2Cb:pw@203.0.113.7:80")
    assert to_send(other, None) is other
    assert to_send(other, "Acme") is other
    assert recognised(other, Attributes()) == Attributes()


@pytest.mark.parametrize(
    ("username", "words"),
    [
        ("bob,colour=s3cret", "part 1 after the account's name is no wish"),
        ("bob,country=de,", "part 2 after"),
        ("bob,country=de,country=fr", "country is wished twice"),
        ("bob,country=s3cret", "two letters"),
        ("bob,city=s3cret!", "a city is written in words"),
        ("bob,lifetime=10", "90s, 10m or 1h"),
        ("bob,lifetime=0m", "90s, 10m or 1h"),
        ("bob,session=", "1 to 64 printable"),
        ("bob,session=a%0Ab", "1 to 64 printable"),
    ],
)
def test_a_username_that_is_no_wish_is_not_quoted(username: str, words: str) -> None:
    """The message says which part is wrong and what is right, and repeats nothing of it."""
    with pytest.raises(SettingsError) as caught:
        read_wish(username)
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert "bob" not in str(caught.value)


def test_a_wish_has_one_spelling() -> None:
    """Case and margins make no other identity."""
    assert Wish(country="DE", city=" New York ") == Wish(country="de", city="new york")
    assert read_duration("60m") == read_duration("1h") == 3600

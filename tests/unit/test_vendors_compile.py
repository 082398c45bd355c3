"""What is sent to each vendor's gateway, by the examples of its documentation; and what it cannot be sent."""

from __future__ import annotations

import pytest

from proxywhirl.errors import SettingsError, UnknownNameError
from proxywhirl.urls import parse
from proxywhirl.vendors.grammar import Wish
from proxywhirl.vendors.provider import guess, providers
from proxywhirl.vendors.sessions import compile_credential

HOURS = 3600


@pytest.mark.parametrize(
    ("provider", "account", "wish", "username", "password"),
    [
        (
            "brightdata",
            "brd-customer-hl_1-zone-res",
            Wish(session="mystring12345", country="us", region="ny"),
            "brd-customer-hl_1-zone-res-country-us-state-ny-session-mystring12345",
            "pw",
        ),
        (
            "brightdata",
            "brd-customer-1-zone-z",
            Wish(session="cart-17"),
            "brd-customer-1-zone-z-session-zx" + b"cart-17".hex(),
            "pw",
        ),
        (
            "brightdata",
            "brd-customer-1-zone-z",
            Wish(country="us", city="sanfrancisco"),
            "brd-customer-1-zone-z-country-us-city-sanfrancisco",
            "pw",
        ),
        (
            "oxylabs",
            "bob",
            Wish(country="us", city="new york", session="abcde12345", lifetime=300),
            "customer-bob-cc-US-city-new_york-sessid-abcde12345-sesstime-5",
            "pw",
        ),
        (
            "oxylabs",
            "customer-bob",
            Wish(country="us", region="california", city="los angeles"),
            "customer-bob-st-us_california-city-los_angeles",
            "pw",
        ),
        (
            "decodo",
            "bob",
            Wish(session="example1", lifetime=90 * 60),
            "user-bob-session-example1-sessionduration-90",
            "pw",
        ),
        (
            "decodo",
            "user-bob",
            Wish(country="us", region="california"),
            "user-bob-country-us-state-us_california",
            "pw",
        ),
        (
            "iproyal",
            "username123",
            Wish(country="br", session="sgn34f3e", lifetime=600),
            "username123",
            "pw_country-br_session-sgn34f3e_lifetime-10m",
        ),
        (
            "iproyal",
            "username123",
            Wish(session="sgn34f3e", lifetime=7 * 24 * HOURS),
            "username123",
            "pw_session-sgn34f3e_lifetime-7d",
        ),
        (
            "soax",
            "package-11111",
            Wish(country="us", city="new york", session="rand123456", lifetime=90),
            "package-11111-country-us-city-new+york-sessionid-rand123456-sessionlength-90",
            "pw",
        ),
        (
            "soax-rules",
            "network-res",
            Wish(country="us", city="los angeles", session="job42", lifetime=300),
            "network-res-country-us-city-los_angeles-session-job42-rotate-timed_300",
            "pw",
        ),
        ("netnut", "bob-res", Wish(country="nl", session="917244575"), "bob-res-nl-sid-917244575", "pw"),
        ("netnut", "bob-res", Wish(session="10000"), "bob-res-any-sid-10000", "pw"),
        (
            "netnut",
            "bob-stc",
            Wish(country="us", region="alabama", city="birmingham"),
            "bob-stc_sc-us_alabama_birmingham",
            "pw",
        ),
        ("netnut", "bob-res", Wish(country="gb"), "bob-res-uk", "pw"),
        (
            "geonode",
            "geonode_1",
            Wish(country="us", city="newyork", session="my_session_01", lifetime=HOURS),
            "geonode_1-country-US-city-newyork-session-my_session_01-lifetime-60",
            "pw",
        ),
        (
            "evomi",
            "testuser",
            Wish(country="us", city="new york", session="abc123", lifetime=HOURS),
            "testuser",
            "pw_country-US_city-new.york_session-abc123_lifetime-60",
        ),
        ("evomi", "testuser", Wish(region="southern cape"), "testuser", "pw_region-southern.cape"),
    ],
)
def test_a_vendor_reads_a_wish_as_it_documents(
    provider: str, account: str, wish: Wish, username: str, password: str
) -> None:
    """The wish stands where the vendor looks for it, in its order, units and spelling."""
    assert compile_credential(provider, (account, "pw"), wish) == (username, password)


@pytest.mark.parametrize(
    ("provider", "account", "wish", "words"),
    [
        ("brightdata", "brd", Wish(session="a", lifetime=600), "brightdata offers no lifetime"),
        ("netnut", "bob-res", Wish(session="99999", lifetime=600), "netnut offers no lifetime"),
        ("geonode", "bob", Wish(country="us", region="texas", city="austin"), "country and region; country and city"),
        ("oxylabs", "bob", Wish(city="berlin"), "takes no city alone"),
        ("oxylabs", "bob", Wish(lifetime=600), "takes no lifetime alone"),
        ("oxylabs", "bob", Wish(country="de", region="bayern"), "offers a region in us alone"),
        ("oxylabs", "bob", Wish(session="a", lifetime=90), "in whole minutes"),
        ("oxylabs", "bob", Wish(session="a", lifetime=25 * HOURS), "from 1m to 24h"),
        ("geonode", "bob", Wish(session="a", lifetime=120), "from 3m to 24h"),
        ("evomi", "bob", Wish(session="abcdef", lifetime=3 * HOURS), "from 1m to 2h"),
        ("iproyal", "bob", Wish(session="cart-17"), "exactly 8 letters and digits"),
        ("netnut", "bob-res", Wish(session="9999"), "a number from 10000 to 999999999"),
        ("netnut", "bob", Wish(country="nl"), "such as bob-res"),
        ("netnut", "bob-res", Wish(country="uk"), "writes uk for gb: say gb"),
        ("soax", "bob", Wish(country="nl"), "such as package-12345"),
        ("brightdata", "brd", Wish(country="us", city="new york"), "one word: say newyork"),
        ("brightdata", "brd-country-de", Wish(session="a"), "holds '-country-' already"),
    ],
)  # fmt: skip
def test_what_a_vendor_does_not_take_is_said(provider: str, account: str, wish: Wish, words: str) -> None:
    """Nothing of a wish is left out silently: the error names the vendor and what it takes."""
    with pytest.raises(SettingsError) as caught:
        compile_credential(provider, (account, "s3cret"), wish)
    assert words in str(caught.value)
    assert provider in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_password_with_a_wish_in_it_is_not_shown() -> None:
    """The password is named, not quoted."""
    with pytest.raises(SettingsError, match="the password holds '_session-' already") as caught:
        compile_credential("iproyal", ("bob", "s3cret_session-abcdefgh"), Wish(country="de"))
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SettingsError, match="give the account's"):
        compile_credential("evomi", ("bob", None), Wish(country="de"))


def test_an_unknown_vendor_is_told_the_known_ones() -> None:
    """The error lists all of them."""
    with pytest.raises(UnknownNameError) as caught:
        compile_credential("acme", ("bob", "pw"), Wish())
    assert all(name in str(caught.value) for name in providers())


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://u:p@brd.superproxy.io:33335", "brightdata"),
        ("http://u:p@zproxy.lum-superproxy.io:22225", "brightdata"),
        ("http://u:p@pr.oxylabs.io:7777", "oxylabs"),
        ("http://u:p@us-pr.oxylabs.io:10001", "oxylabs"),
        ("http://u:p@dc.oxylabs.io:8000", None),
        ("http://u:p@gate.smartproxy.com:7000", "decodo"),
        ("http://u:p@GEO.iproyal.com:12321", "iproyal"),
        ("http://u:p@proxy.soax.com:5000", "soax"),
        ("http://u:p@proxy.soax.com:1337", "soax-rules"),
        ("http://u:p@gw.ntnt.io:5959", "netnut"),
        ("http://u:p@us.proxy.geonode.io:10000", "geonode"),
        ("http://u:p@rp.evomi.com:1000", "evomi"),
        ("http://u:p@evomi.com.example:1000", None),
        ("http://u:p@127.0.0.1:1000", None),
    ],
)
def test_a_vendor_is_recognised_by_its_gateways(url: str, name: str | None) -> None:
    """Host and port tell; a host that only looks alike is nobody's."""
    line = parse(url)
    found = guess(line.host, line.port)
    assert (found.name if found else None) == name


def test_every_vendor_cites_its_documentation() -> None:
    """A page of the vendor stands with each, and each can be compiled for."""
    for vendor in providers().values():
        assert vendor.docs.startswith("https://")
        assert vendor.into in ("username", "password")
        assert "session" in vendor.offers
        assert ("lifetime" in vendor.offers) == (vendor.lifetimes is not None)

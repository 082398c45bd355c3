"""How a pool chooses, as one text: what may stand in it, and what is said of what may not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from proxywhirl.errors import ProxyWhirlError, SettingsError, UnknownNameError
from proxywhirl.models import Attributes, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.selection.filters import Filter
from proxywhirl.rotation.selection.pool_options import COMBINED, PoolOptions
from proxywhirl.rotation.strategies.registry import strategy_names
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.testing.clock import ManualClock


@pytest.mark.parametrize("name", [*strategy_names(), *COMBINED])
def test_every_name_is_a_recipe(name: str) -> None:
    """Each name alone makes a pool that serves."""
    with Pool.of(["http://192.0.2.1"], name).acquire("http://shop.example/") as lease:
        assert lease.proxy.host == "192.0.2.1"


def test_wishes_are_read_as_those_of_a_request() -> None:
    """Cases and spaces do not matter, several values stand with bars, numbers become numbers."""
    options = PoolOptions.read("composite: country=de|Fr , asn=3320,max_price=2.5, tags=Fast, chooser=least_used")
    assert options.base == Filter.of({"country": ["DE", "FR"], "asn": 3320, "max_price": 2.5, "tags": "fast"})
    assert options.factory is PoolOptions.read("least_used").factory


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "unknown strategy ''; known: bandit, .*composite, fastest, geo"),
        ("robin", "unknown strategy 'robin'; known: bandit, .*round_robin"),
        ("random:country=DE", "random takes no wishes; write composite:country=DE,chooser=random"),
        ("composite:", "after the colon come wishes such as country=DE|FR"),
        ("composite:country", "after the colon come wishes"),
        ("composite:country=", "after the colon come wishes"),
        ("geo:country=XX|", "after the colon come wishes"),
        ("geo:country=DE,country=FR", "each once"),
        ("geo:country=DE;region=x", "country must be a two-letter code such as DE"),
        ("geo:country=Germany", "country must be a two-letter code such as DE"),
        ("composite:colour=red", "there is no filter 'colour'; known: scheme, country"),
        ("composite:scheme=ftp", "scheme must be one of http, https, socks4"),
        ("composite:anonymity=high", "anonymity must be one of transparent, anonymous, elite"),
        ("composite:asn=AS3320", "asn must be a number without its AS"),
        ("composite:max_price=abc", "max_price must be one number of 0 or more, not 'abc'"),
        ("composite:max_price=1|2", "max_price must be one number of 0 or more, not '1|2'"),
        ("composite:max_price=-1", "max_price must be a number of 0 or more"),
        ("composite:max_price=nan", "max_price must be a number of 0 or more"),
        ("composite:chooser=unknown", "unknown strategy 'unknown'; known: bandit"),
        ("composite:chooser=random|bandit", "the chooser is one of bandit, cheapest"),
        ("composite:chooser=geo", "the chooser is one of bandit, cheapest"),
        ("composite:connect=true", "connect is for requests to ask"),
    ],
)
def test_a_wrong_text_says_what_is_right(text: str, words: str) -> None:
    """The error names the text, or the name in it, and what may stand there; it is one of ours."""
    with pytest.raises(ProxyWhirlError) as caught:
        PoolOptions.read(text)
    assert isinstance(caught.value, SettingsError | UnknownNameError)
    for part in words.split(".*"):
        assert part in str(caught.value)
    if isinstance(caught.value, SettingsError):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"country": "Germany"}, "two-letter code"),
        ({"country": 1.5}, "country must be a text"),
        ({"country": ["DE", None]}, "country must be a text"),
        ({"scheme": "ftp"}, "scheme must be one of"),
        ({"asn": 1.5}, "asn must be a number"),
        ({"asn": "3320"}, "asn must be a number"),
        ({"asn": True}, "asn must be a number"),
        ({"max_price": "2"}, "max_price must be a number"),
        ({"max_price": float("nan")}, "max_price must be a number"),
        ({"connect": "yes"}, "connect must be True or False"),
        ({"anonymity": ["anonymous", "elite"]}, "anonymity must be one of"),
        ({"colour": "red"}, "there is no filter 'colour'"),
    ],
)
def test_a_request_with_a_wrong_wish_is_refused(wishes: dict[str, Any], words: str) -> None:
    """A wish that nobody could fulfil is an error that says what it may be, not an empty pool."""
    with pytest.raises(ValueError, match=words):
        Pool.of(["http://192.0.2.1"]).acquire(**wishes)


@pytest.mark.parametrize("strategy", ["robin", "composite:max_price=abc"])
def test_the_settings_refuse_a_wrong_strategy_when_the_runtime_is_made(strategy: str) -> None:
    """A mistake in `pool.strategy` ends the start with one sentence of ours."""
    settings = Settings.load(None, overrides={"pool": {"strategy": strategy}})
    with pytest.raises((UnknownNameError, SettingsError), match=r"strategy.*(known:|one number)"):
        Runtime(settings)


def placed(key: str, country: str, region: str | None = None, asn: int | None = None) -> Proxy:
    """Make a proxy at a place."""
    return Proxy(key, "http", "192.0.2.1", 8080, attributes=Attributes(country=country, region=region, asn=asn))


def geo_pool(strategy: str) -> Pool:
    """Make a pool of proxies at three places."""
    pool = Pool(strategy, resolve=lambda _key: None, rng=random.Random(1), clock=ManualClock())
    pool.update(
        [placed("by", "DE", "Bavaria", 3320), placed("by2", "DE", "Bavaria", 1), placed("be", "DE", "Berlin", 2)]
    )
    pool.update([placed("fr", "FR", "Normandy", 3), placed("us", "US", "Ohio", 4)])
    return pool


def test_geo_gives_up_the_narrowest_wish_first_and_says_so() -> None:
    """The ASN, then the region, then the country; `lease.why` tells what nobody ready fulfils."""
    pool = geo_pool("geo:country=DE,region=bavaria,asn=3320,chooser=round_robin")
    served: list[str] = []
    told: list[str] = []
    for _ in range(4):
        with pool.acquire(exclude=served) as lease:
            told.append(str(lease.why))
            served.append(lease.proxy.key)
    assert served[:3] == ["by", "by2", "be"]
    assert served[3] in {"fr", "us"}
    assert told[0] == "geo, one of 5 ready, country=DE,region=bavaria,asn=3320"
    assert told[1] == (
        "nobody ready fulfils country=DE,region=bavaria,asn=3320; geo, one of 5 ready, country=DE,region=bavaria"
    )
    assert told[3] == "nobody ready fulfils country=DE,region=bavaria,asn=3320; geo, one of 5 ready"


def test_a_place_that_a_request_asks_for_stands_in_for_that_of_the_text() -> None:
    """With `geo:country=DE` a request for France gets a French proxy, and the wishes that are no place always hold."""
    pool = geo_pool("geo:country=DE")
    assert {pool.acquire(country="FR").proxy.key for _ in range(20)} == {"fr"}
    assert {pool.acquire().proxy.attributes.country for _ in range(20)} == {"DE"}
    assert pool.explain(scheme="socks5").proxy is None


def test_composite_filters_first_and_never_falls_back() -> None:
    """Nobody beside those that fit serves, alone or joined with what a request asks for."""
    pool = geo_pool("composite:country=DE|FR,chooser=round_robin")
    assert [pool.acquire().proxy.key for _ in range(5)] == ["by", "by2", "be", "fr", "by"]
    assert pool.acquire(country=["FR", "US"]).proxy.key == "fr"
    assert pool.explain(country="US").proxy is None


def test_sessions_keep_to_the_place() -> None:
    """A session of a pool with a place falls to somebody there; only where nobody is, elsewhere."""
    pool = geo_pool("geo:country=DE")
    for number in range(30):
        with pool.acquire(session=f"s{number}") as lease:
            assert lease.proxy.attributes.country == "DE"
        with pool.acquire(session=f"t{number}", exclude={"by", "by2", "be"}) as lease:
            assert lease.proxy.attributes.country != "DE"


def test_sticky_keeps_one_proxy_for_each_site() -> None:
    """Requests without a session have one for the site they go to; sites are spread over the proxies."""
    pool = Pool.of([f"http://192.0.2.{n}" for n in range(1, 20)], "sticky", rng=random.Random(1), clock=ManualClock())
    by_site = {n: {pool.acquire(f"http://s{n}.example/").proxy.key for _ in range(5)} for n in range(20)}
    assert all(len(keys) == 1 for keys in by_site.values())
    assert len({next(iter(keys)) for keys in by_site.values()}) > 5

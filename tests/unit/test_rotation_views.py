"""The filters that a pool keeps at hand: the one asked for least recently goes, whoever asks and how often."""

from __future__ import annotations

import random

import pytest

from proxywhirl.clock import SYSTEM_CLOCK
from proxywhirl.errors import Blame
from proxywhirl.models import Attributes, Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import ProxyStates
from proxywhirl.rotation.selection.filters import Filter
from proxywhirl.rotation.selection.views import MOST_VIEWS, Views
from proxywhirl.rotation.strategies.chance import RandomChoice
from proxywhirl.urls import parse


def test_a_filter_that_is_asked_for_all_the_time_is_never_made_anew() -> None:
    """However many others come once, and although it is found without being looked for."""
    states = ProxyStates(random.Random(1), SYSTEM_CLOCK, None)
    proxy = Proxy.of(parse("http://192.0.2.1:80"), attributes=Attributes(country="DE"))
    made: list[Filter] = []

    def ready(wanted: Filter) -> list[str]:
        made.append(wanted)
        return [proxy.key]

    views = Views(RandomChoice, states, ready)
    steady = Filter.of({"country": "DE"})
    for number in range(3 * MOST_VIEWS):
        for _ in range(3):
            assert views.get(steady) is views.get(Filter.of({"country": "DE"}))
        views.get(Filter.of({"asn": number}))
    assert made.count(steady) == 1
    assert len(made) == 3 * MOST_VIEWS + 1


@pytest.mark.parametrize("ok", [True, False])
def test_what_became_of_others_teaches_a_filter_nothing(ok: bool) -> None:
    """Neither the trouble of a price in one country, nor its end, is one in another country."""
    pool = Pool("cheapest", resolve=lambda _key: None, rng=random.Random(1))
    for number in range(40):
        country, price = ("DE", "FR")[number % 2], float(number // 2 % 2)
        attributes = Attributes(country=country, price_per_gb=price)
        pool.update([Proxy.of(parse(f"http://192.0.2.{number}:80"), attributes=attributes)])
    failure = Outcome(False, blame=Blame.PROXY)
    for country in ("DE", "FR"):
        pool.acquire(country=country).release()
    for _ in range(9):
        pool.acquire(country="FR" if ok else "DE", max_price=0).report(failure)
    for _ in range(30):
        if ok:
            pool.acquire(country="DE", max_price=0).report(Outcome(True, status=200))
    with pool.acquire(country="FR") as lease:
        assert lease.proxy.attributes.price_per_gb == (1.0 if ok else 0.0)

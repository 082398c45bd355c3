"""The filters that a pool keeps at hand: the one asked for least recently goes, whoever asks and how often."""

from __future__ import annotations

import random

from proxywhirl.clock import SYSTEM_CLOCK
from proxywhirl.models import Attributes, Proxy
from proxywhirl.rotation.filters import Filter
from proxywhirl.rotation.stock import Stock
from proxywhirl.rotation.strategies.chance import RandomChoice
from proxywhirl.rotation.views import MOST_VIEWS, Views
from proxywhirl.urls import parse


def test_a_filter_that_is_asked_for_all_the_time_is_never_made_anew() -> None:
    """However many others come once, and although it is found without being looked for."""
    stock = Stock(random.Random(1), SYSTEM_CLOCK, None)
    proxy = Proxy.of(parse("http://192.0.2.1:80"), attributes=Attributes(country="DE"))
    made: list[Filter] = []

    def ready(wanted: Filter) -> list[str]:
        made.append(wanted)
        return [proxy.key]

    views = Views(RandomChoice, stock, lambda _key: proxy, ready)
    steady = Filter.of({"country": "DE"})
    for number in range(3 * MOST_VIEWS):
        for _ in range(3):
            assert views.get(steady) is views.get(Filter.of({"country": "DE"}))
        views.get(Filter.of({"asn": number}))
    assert made.count(steady) == 1
    assert len(made) == 3 * MOST_VIEWS + 1

"""Groups of proxies that fail together: what proves it, who is barred then, and how the group comes back."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.models import Attributes, Proxy, Sketch
from proxywhirl.rotation.proxy_state import ProxyState
from proxywhirl.rotation.sites.bans import BanBook
from proxywhirl.rotation.sites.groups import (
    EVERYWHERE,
    GroupFailure,
    Groups,
    Members,
    SiteGroups,
    groups_of,
    in_words,
    is_group,
    sentence,
)
from proxywhirl.testing.clock import ManualClock

SHOP = "shop.example"
NETWORK = "203.0.113.0/24"


def proxy(key: str, host: str, **known: object) -> Proxy:
    """Make a proxy of a key and a host."""
    return Proxy(key, "http", host, 8080, attributes=Attributes(**known))  # type: ignore[arg-type]


A = [proxy(f"a{n}", f"203.0.113.{n}") for n in range(8)]
B = [proxy(f"b{n}", f"198.51.100.{n}") for n in range(8)]


@dataclass
class Ground:
    """A site, and groups of all proxies; time stands still."""

    proxies: list[Proxy] = field(default_factory=lambda: [*A, *B])
    clock: ManualClock = field(default_factory=ManualClock)
    site: str = SHOP

    def __post_init__(self) -> None:
        """Make the groups."""
        held: dict[str, ProxyState | Sketch] = {one.key: ProxyState(one.key, one) for one in self.proxies}
        self.book = BanBook(random.Random(1))
        known = {one.key: one for one in self.proxies}
        members, everywhere = Members(held, known.__getitem__), SiteGroups()
        self.groups = Groups(self.book, members, random.Random(1), self.clock, everywhere)
        self.at = everywhere if self.site == EVERYWHERE else SiteGroups()

    @property
    def now(self) -> float:
        """The time."""
        return self.clock.monotonic()

    def fail(
        self,
        key: str,
        page: int | None = None,
        sign: str = "403",
        odds: float | None = None,
        began: float | None = None,
    ) -> str:
        """Let a request fail, and return the group that is barred by it."""
        failure = GroupFailure(key, sign, page, self.now if began is None else began, odds)
        return self.groups.failed(self.at, self.site, failure, self.now)

    def serve(self, key: str, page: int | None = None, began: float | None = None) -> None:
        """Let a request be served."""
        self.groups.served(self.at, self.site, key, page, self.now, self.now if began is None else began)

    def barred(self) -> set[str]:
        """Return the keys that groups keep from the site."""
        table = self.groups.keeps_off(None if self.site == EVERYWHERE else self.at, self.now)
        return set() if table is None else {one.key for one in self.proxies if one.key in table}

    def bar_network(self) -> None:
        """Let the site ban the network of A."""
        for key in ("a0", "b0", "a1", "a2"):
            if key[0] == "b":
                self.serve(key)
            else:
                self.fail(key)
        assert self.barred() == {one.key for one in A}

    def until_trial(self) -> float:
        """Let the time of the network's bar pass, and return how long that was."""
        seconds = self.at.bars[NETWORK].until - self.now
        self.clock.advance(seconds)
        return seconds


@pytest.mark.parametrize(
    ("host", "known", "groups"),
    [
        ("203.0.113.7", {}, ("gateway 203.0.113.7", NETWORK)),
        ("[2001:db8:1:2::3]", {}, ("gateway [2001:db8:1:2::3]", "2001:db8:1::/48")),
        ("[::ffff:203.0.113.7]", {}, ("gateway [::ffff:203.0.113.7]", NETWORK)),
        ("gw.example", {"asn": 3320}, ("gateway gw.example", "AS3320")),
        ("127.0.0.1", {"provider": "Acme"}, ("gateway 127.0.0.1", "127.0.0.0/24", "provider Acme")),
    ],
)
def test_groups_follow_from_host_network_system_and_provider(
    host: str, known: dict[str, object], groups: tuple[str, ...]
) -> None:
    """The narrowest is first, and every text is recognised as a group's."""
    found = groups_of(proxy("k", host, **known))
    assert found == groups
    assert all(map(is_group, found))


def test_no_key_of_a_proxy_is_taken_for_a_group() -> None:
    """Keys are hexadecimal digits, and a star stands for every proxy."""
    assert not any(map(is_group, ("0123456789abcdef", "*", "a0")))


def test_a_bar_has_words() -> None:
    """A network is banned, a gateway is down."""
    assert sentence("2001:db8::/48", SHOP) == "network 2001:db8::/48 is banned at shop.example"
    assert sentence("AS3320", EVERYWHERE) == "network AS3320 is down"
    assert in_words("provider Acme") == "provider Acme"


def test_groups_of_a_sketch_are_those_of_its_proxy() -> None:
    """No value is made of the sketch: its address is read, and what it shares with others."""
    sketch = "http://[2001:db8:1::7]:8080", "shared"
    shared = proxy("", "host.invalid", asn=3320)
    members = Members({"k": sketch}, lambda _: shared)
    assert members.of("k") == groups_of(proxy("k", "[2001:db8:1::7]", asn=3320))
    assert members.of("gone") == ()


def test_three_members_that_fail_alike_bar_their_network() -> None:
    """It is barred at once, with all of its members; the other network is not."""
    ground = Ground()
    ground.fail("a0")
    ground.serve("b0")
    ground.fail("a1")
    assert ground.fail("a2") == NETWORK
    assert ground.barred() == {one.key for one in A}
    assert list(ground.book.held(ground.clock.now())) == [(NETWORK, SHOP)]


@pytest.mark.parametrize("spoilt", ["served", "sign", "late", "same", "page", "nobody", "before"])
def test_less_evidence_bars_nobody(spoilt: str) -> None:
    """A success of the group, another sign, a minute, one proxy alone, one page alone, or nobody served outside."""
    ground = Ground()
    if spoilt == "before":
        ground.serve("b0")
        ground.clock.advance(0.1)
    ground.fail("a0", page=1 if spoilt == "page" else None)
    if spoilt not in ("nobody", "before"):
        ground.serve("b0")
    if spoilt == "served":
        ground.serve("a5")
    if spoilt == "late":
        ground.clock.advance(61.0)
    ground.fail("a0" if spoilt == "same" else "a1", page=1 if spoilt == "page" else None)
    ground.fail("a2", sign="429" if spoilt == "sign" else "403", page=1 if spoilt == "page" else None)
    assert ground.barred() == set()


def test_who_is_served_outside_after_the_failures_confirms_the_next_one() -> None:
    """Until then it may have been our own network, or the site, that was away: a request that began before says no."""
    ground = Ground()
    for key in ("a0", "a1", "a2"):
        ground.fail(key)
    began = ground.now
    ground.clock.advance(1.0)
    ground.serve("b0")
    assert ground.fail("a3", began=began) == ""
    assert ground.fail("a4") == NETWORK


def test_a_page_that_fails_outside_too_is_no_evidence() -> None:
    """Pages that fail through all say nothing of the group; those that others were served do."""
    ground = Ground()
    for page, key in enumerate(("a0", "a1", "a2", "a3", "a4")):
        ground.fail(key, page=page)
        ground.fail("b0", page=page, sign="other")
        ground.serve("b1", page=100)
    assert ground.barred() == set()
    ground.at.rate = 0.1
    for key in ("a0", "a1", "a2", "a3", "a4"):
        ground.fail(key, page=7)
        ground.serve("b0", page=7)
    assert ground.barred() == {one.key for one in A}


def test_where_requests_fail_anyway_more_have_to_fail() -> None:
    """Where nine in ten fail, three in a row are no wonder."""
    ground = Ground()
    for _ in range(40):
        ground.fail("b7", sign="other")
    ground.fail("a0")
    ground.serve("b0")
    for key in ("a1", "a2", "a3"):
        assert ground.fail(key) == ""


def test_the_narrowest_group_that_explains_it_is_barred() -> None:
    """A gateway, and not its vendor, whose other gateway was not tried; if two gateways fail it is the vendor."""
    one = [proxy(f"a{n}", "gw.example", provider="Acme") for n in range(4)]
    two = [proxy(f"b{n}", f"gw{n}.example", provider="Acme") for n in range(4)]
    other = proxy("c0", "192.0.2.1")
    ground = Ground([*one, *two, other], site=EVERYWHERE)
    ground.fail("a0")
    ground.serve("c0")
    ground.fail("a1")
    assert ground.fail("a2") == "gateway gw.example"
    assert ground.barred() == {member.key for member in one}
    ground.fail("b0")
    ground.serve("c0")
    ground.fail("b1")
    assert ground.fail("b2") == "provider Acme"
    assert ground.barred() == {member.key for member in (*one, *two)}


def test_after_the_bar_one_member_tries() -> None:
    """While it is out the others stay barred; a failure prolongs the bar, a success ends it."""
    ground = Ground()
    ground.bar_network()
    waits = []
    for _ in range(4):
        waits.append(ground.until_trial())
        assert ground.barred() == set()
        ground.at.tries("a3", ground.groups.members.of("a3"), ground.now)
        assert ground.barred() == {one.key for one in A}
        ground.fail("a3", sign="429")
        assert ground.barred() == {one.key for one in A}
    assert all(1.1 < later / earlier < 1.9 for earlier, later in pairwise(waits))
    ground.until_trial()
    ground.at.tries("a4", ground.groups.members.of("a4"), ground.now)
    ground.serve("a4")
    assert ground.barred() == set()
    ground.clock.advance(1.0)
    assert ground.barred() == set()
    assert not ground.book.held(ground.clock.now())


def test_a_trial_that_tells_nothing_lets_another_one_try() -> None:
    """It is given back, or nothing is heard of it for half a minute."""
    ground = Ground()
    ground.bar_network()
    ground.until_trial()
    groups = ground.groups.members.of("a3")
    ground.at.tries("a3", groups, ground.now)
    assert ground.barred()
    ground.at.untried("a3", groups)
    assert not ground.barred()
    ground.at.tries("a3", groups, ground.now)
    ground.clock.advance(30.0)
    assert not ground.barred()


def test_a_success_of_a_use_from_before_the_bar_does_not_end_it() -> None:
    """It was under way when the site changed its mind; one from afterwards ends the bar before its time."""
    ground = Ground()
    began = ground.now
    ground.clock.advance(1.0)
    ground.bar_network()
    ground.serve("a5", began=began)
    assert ground.barred()
    ground.serve("a5")
    assert not ground.barred()


def test_where_most_fail_a_bar_is_taken_back() -> None:
    """If the others fail as often by the time of the trial, the group was no worse than they."""
    ground = Ground()
    ground.bar_network()
    for _ in range(40):
        ground.fail("b7", sign="other")
    ground.until_trial()
    ground.at.tries("a3", ground.groups.members.of("a3"), ground.now)
    ground.fail("a3")
    assert not ground.barred()


def test_a_bar_outlives_the_process() -> None:
    """What the book has of it bars the group elsewhere; lifted there, it is lifted here."""
    ground, other = Ground(), Ground()
    ground.bar_network()
    for pair, ban in ground.book.collect().items():
        other.groups.apply(other.at, pair[0], ban, other.now)
    assert other.barred() == {one.key for one in A}
    ground.serve("a0")
    for pair, ban in ground.book.collect().items():
        other.groups.apply(other.at, pair[0], ban, other.now)
    assert other.barred() == set()


def test_a_group_that_is_mixed_needs_more_evidence_than_one_that_serves() -> None:
    """If members were served after failures of others again and again, three failures are no wonder."""
    ground = Ground()
    for _ in range(12):
        ground.fail("a0")
        ground.serve("b0")
        ground.fail("a1")
        ground.serve("a7")
    ground.at.rate = 0.1
    for key in ("a0", "a1", "a2"):
        ground.fail(key)
        ground.serve("b0")
    assert not ground.barred()


STEP = st.tuples(st.sampled_from(["fail", "serve", "wait"]), st.integers(0, 7), st.none() | st.integers(0, 3))


@given(st.lists(STEP, max_size=60))
def test_a_group_that_is_the_whole_pool_is_never_barred(steps: list[tuple[str, int, int | None]]) -> None:
    """Whatever is reported: nobody is outside of it."""
    ground = Ground(A)
    for what, number, page in steps:
        if what == "wait":
            ground.clock.advance(float(number))
        else:
            getattr(ground, what)(f"a{number}", page)
    assert not ground.barred()


SIDED = st.tuples(st.sampled_from(["fail", "serve", "wait"]), st.sampled_from("ab"), st.integers(0, 7))


@given(st.lists(SIDED, max_size=80))
def test_a_bar_has_its_three_witnesses(steps: list[tuple[str, str, int]]) -> None:
    """A group that becomes barred had three members that failed within a minute, and none was served since."""
    ground = Ground()
    failed: dict[str, dict[str, float]] = {"a": {}, "b": {}}
    for what, side, number in steps:
        if what == "wait":
            ground.clock.advance(5.0 * number)
        elif what == "serve":
            failed[side].clear()
            ground.serve(f"{side}{number}")
        else:
            failed[side][f"{side}{number}"] = ground.now
            barred = ground.fail(f"{side}{number}")
            if barred:
                recent = [at for at in failed[side].values() if ground.now - at <= 60.0]
                assert len(recent) >= 3


def test_memory_is_bounded_whatever_fails() -> None:
    """Runs whose minute is over are forgotten as others begin."""
    many = [proxy(f"k{n}", f"10.{n >> 8}.{n & 255}.1") for n in range(3000)]
    ground = Ground(many)
    for one in many:
        ground.fail(one.key, page=hash(one.key))
        ground.clock.advance(1.0)
    assert len(ground.at.runs) < 200

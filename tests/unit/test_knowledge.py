"""What is learnt is kept, merged and told to others; a sick or damaged store fails exclusive leases alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, cast

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import SessionLost, TierError
from proxywhirl.knowledge import Knowledge
from proxywhirl.knowledge.records import (
    ban_key,
    ban_of,
    ban_text,
    hold_of,
    hold_text,
    merged,
    pair_of,
    session_of,
    session_text,
    site_of,
    site_text,
)
from proxywhirl.rotation.affinity.ledger import Assignment
from proxywhirl.rotation.sites.bans import Ban
from proxywhirl.rotation.sites.sharing import SiteRecord, SiteUser
from proxywhirl.state.store import Change, MemoryStore, Perishable, StateStore, Store, Written
from proxywhirl.testing import ManualClock

NOW = 1_800_000_000.0
SITE = "shop.example"

moments = st.floats(0, 4e9, allow_nan=False)
bans = st.builds(Ban, until=moments, strikes=st.integers(0, 50), rule=st.text(), forget_at=moments)


class Pool:
    """Learns and tells as a pool does: what it was taught is no news of its own."""

    def __init__(self) -> None:
        self.bans: dict[tuple[str, str], Ban] = {}
        self.sessions: dict[str, Assignment | None] = {}
        self.holds: dict[str, float] = {}
        self.taught: list[Mapping[tuple[str, str], Ban]] = []
        self.sites: dict[str, SiteRecord] = {}
        self.told_sites: dict[str, SiteRecord] = {}
        self._news: dict[tuple[str, str], Ban] = {}
        self._uses: dict[str, float] = {}

    def ban(self, key: str, until: float, *, strikes: int = 1, site: str = SITE, forget_at: float = NOW + 9e5) -> None:
        """Find out a ban, or lift one."""
        self.bans[key, site] = self._news[key, site] = Ban(until, strikes, "status-403", forget_at)

    def use(self, session: str, at: float) -> None:
        """Use a session."""
        self._uses[session] = at

    def collect_bans(self) -> dict[tuple[str, str], Ban]:
        """See `Learner`."""
        news, self._news = self._news, {}
        return news

    def collect_sites(self, name: str, *, last: bool) -> dict[str, SiteRecord]:
        """See `Learner`."""
        del name, last
        told, self.told_sites = self.told_sites, {}
        return told

    def learn_sites(self, records: Mapping[str, SiteRecord], name: str) -> None:
        """See `Learner`."""
        del name
        self.sites.update(records)

    def collect_uses(self) -> dict[str, float]:
        """See `Learner`."""
        uses, self._uses = self._uses, {}
        return uses

    def learn_bans(self, bans: Mapping[tuple[str, str], Ban]) -> None:
        """See `Learner`."""
        self.taught.append(bans)
        self.bans.update(bans)

    def learn_sessions(self, sessions: Mapping[str, Assignment | None]) -> None:
        """See `Learner`."""
        self.sessions.update(sessions)

    def learn_holds(self, holds: Mapping[str, float]) -> None:
        """See `Learner`."""
        self.holds.update(holds)


class SickStore(MemoryStore):
    """A store that can be switched off, and counts how often it was asked while it was."""

    def __init__(self) -> None:
        super().__init__()
        self.sick = False
        self.asked = 0

    def update(self, kind: str, keys: Iterable[str], change: Change) -> Written:
        """See `Store`."""
        self._fail()
        return super().update(kind, keys, change)

    def get_many(self, kind: str, keys: Iterable[str]) -> dict[str, str]:
        """See `Store`."""
        self._fail()
        return super().get_many(kind, keys)

    def changed(self) -> bool:
        """See `Store`."""
        self._fail()
        return super().changed()

    def _fail(self) -> None:
        if self.sick:
            self.asked += 1
            raise TierError("the disk is full")


@pytest.fixture
def clock() -> ManualClock:
    """Begin at a moment of this century."""
    return ManualClock(now=NOW)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name the file of a home."""
    return tmp_path / "db" / "state.db"


class Member:
    """A process on a home: its store, its knowledge and its pool."""

    def __init__(self, store: Store, clock: ManualClock, kept: int = 200_000) -> None:
        self.store = store
        self.knowledge = Knowledge(store, clock=clock, kept=kept)
        self.pool = pool = cast("Any", Pool())  # as much of one as is asked of it
        self.knowledge.follow(pool)

    def feed(self) -> None:
        """Save and follow, as the runtime does ten times a second."""
        self.knowledge.save(self.pool)
        self.knowledge.follow(self.pool)

    def bans(self) -> dict[tuple[str, str], Ban]:
        """What is written down."""
        return self.knowledge.bans()


def at(key: str, moment: float = NOW) -> Assignment:
    """Return the assignment of a session that is new."""
    return Assignment(key, moment, moment)


def test_a_ban_is_seen_by_another_process_and_survives(path: Path, clock: ManualClock) -> None:
    """What one saved the other follows, a third finds at its start, and its author is not told again."""
    with closing(StateStore(path)) as first, closing(StateStore(path)) as second:
        a, b = Member(first, clock), Member(second, clock)
        a.pool.ban("p1", NOW + 60)
        a.feed()
        b.feed()
        a.feed()
        assert b.pool.bans == {("p1", SITE): Ban(NOW + 60, 1, "status-403", NOW + 9e5)}
        assert a.pool.taught == []
    with closing(StateStore(path)) as third:
        assert Member(third, clock).pool.bans == b.pool.bans


def test_who_bans_the_same_pair_agrees_with_the_other(path: Path, clock: ManualClock) -> None:
    """The later end and the greater number of strikes stand, in the store and in both pools."""
    with closing(StateStore(path)) as first, closing(StateStore(path)) as second:
        a, b = Member(first, clock), Member(second, clock)
        a.pool.ban("p1", NOW + 60, strikes=3)
        b.pool.ban("p1", NOW + 90, strikes=1)
        for _ in range(2):
            a.feed()
            b.feed()
        expected = {("p1", SITE): Ban(NOW + 90, 3, "status-403", NOW + 9e5)}
        assert (a.pool.bans, b.pool.bans, a.bans()) == (expected, expected, expected)


def test_a_ban_that_the_pool_lifts_is_lifted_everywhere(path: Path, clock: ManualClock) -> None:
    """One whose end has passed when the pool tells of it replaces what others wrote, also where that ends later."""
    with closing(StateStore(path)) as first, closing(StateStore(path)) as second:
        a, b = Member(first, clock), Member(second, clock)
        a.pool.ban("p1", NOW + 60)
        a.feed()
        b.feed()
        b.pool.ban("p1", NOW - 1, strikes=0)
        b.feed()
        a.feed()
        assert a.pool.bans["p1", SITE].until == NOW - 1
        assert a.bans() == {}


def test_a_person_lifts_a_ban_in_every_process(path: Path, clock: ManualClock) -> None:
    """A lift is one more thing to follow, also for the process that it was made in."""
    with closing(StateStore(path)) as first, closing(StateStore(path)) as second:
        a, b = Member(first, clock), Member(second, clock)
        a.pool.ban("p1", NOW + 60)
        a.pool.ban("p2", NOW + 60)
        a.feed()
        b.feed()
        b.knowledge.lift([("p1", SITE)])
        a.feed()
        b.feed()
        for member in (a, b):
            assert member.pool.bans["p1", SITE].until <= clock.now()
            assert list(member.bans()) == [("p2", SITE)]


def test_bans_end_by_themselves_and_are_swept(clock: ManualClock) -> None:
    """One that is over is listed no more, and is deleted once it is not to be remembered."""
    member = Member(MemoryStore(), clock)
    member.pool.ban("p1", NOW + 60, forget_at=NOW + 600)
    member.pool.ban("p2", NOW + 60, forget_at=NOW + 6000)
    member.feed()
    clock.advance(100)
    member.feed()
    assert (member.bans(), len(member.store.items("ban"))) == ({}, 2)
    clock.advance(600)
    member.feed()
    assert list(member.store.items("ban")) == [ban_key(("p2", SITE))]
    again = Member(member.store, clock)
    assert list(again.pool.bans) == [("p2", SITE)]


def test_bans_are_bounded_and_that_is_said_once(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """Of too many those that are forgotten soonest go first."""
    member = Member(MemoryStore(), clock, kept=10)
    for round_ in range(2):
        for n in range(10):
            member.pool.ban(f"p{round_}-{n}", NOW + 600, forget_at=NOW + 1e5 + 10 * round_ + n)
        clock.advance(61)
        member.feed()
    assert {pair_of(key)[0] for key in member.store.items("ban")} == {f"p1-{n}" for n in range(10)}
    assert caplog.text.count("more than 10 bans are kept") == 1


def test_the_bans_of_proxies_that_are_gone_are_forgotten(clock: ManualClock) -> None:
    """Those that are written down, and those that wait to be; a proxy whose key begins alike keeps its own."""
    member = Member(MemoryStore(), clock)
    for key in ("p1", "p1@x", "p11", "p2"):
        member.pool.ban(key, NOW + 60)
    member.feed()
    member.pool.ban("p1", NOW + 90, site="other.example")
    member.knowledge.save(member.pool)
    member.knowledge.forget(["p1"])
    assert {key for key, _ in member.bans()} == {"p1@x", "p11", "p2"}


def test_damaged_records_cost_themselves_alone(
    path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What is no ban is left out, told once, and may be written anew."""
    with closing(StateStore(path)) as store:
        good = ban_text(Ban(NOW + 60, 1, "rule", NOW + 90))
        wrong = [
            "",
            "{",
            "[]",
            "[1,2,3]",
            '["a",1,"r",2]',
            '[NaN,1,"r",2]',
            '[1e999,1,"r",2]',
            '[1,1.5,"r",2]',
            "[1,true,3,4]",
        ]
        records: dict[str, str | Perishable] = {
            f"p{n}@{SITE}": Perishable(text, NOW + 90) for n, text in enumerate(wrong)
        }
        store.put_many("ban", {**records, "no site": good, f"good@{SITE}": Perishable(good, NOW + 90)})
        store.put_many("session", {"s": "[1,2"})
        member = Member(store, clock)
        assert list(member.pool.bans) == [("good", SITE)]
        assert caplog.text.count("damaged") == 1
        assert list(member.bans()) == [("good", SITE)]
        member.pool.ban("p0", NOW + 70)
        member.feed()
        assert set(member.bans()) == {("good", SITE), ("p0", SITE)}
        assert member.knowledge.assign("s", lambda known: known or at("p1")) == at("p1")


def test_what_is_known_is_kept_while_the_store_is_sick(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing fails, the store is asked with a back-off, the log says it once, and all is saved when it is well."""
    store = SickStore()
    member = Member(store, clock)
    store.sick = True
    for n in range(600):
        member.pool.ban(f"p{n}", NOW + 6000)
        member.feed()
        clock.advance(0.1)
    assert store.asked < 2 * 10
    assert caplog.text.count("the disk is full") == 2  # one who reads, one who writes
    store.sick = False
    clock.advance(31)
    member.feed()
    assert len(member.bans()) == 600
    assert "well again" in caplog.text


def test_a_file_of_a_newer_version_fails_nothing(path: Path, clock: ManualClock) -> None:
    """Whoever upgraded the program beside this one keeps it from sharing, and no more."""
    with closing(StateStore(path)) as store:
        member = Member(store, clock)
        path.rename(path.with_name("away.db"))
        with closing(apsw.Connection(str(path))) as newer:
            newer.execute("CREATE TABLE unknown (x)")
            newer.pragma("user_version", 99)
        member.pool.ban("p1", NOW + 60)
        member.feed()
        assert member.knowledge.assign("s", lambda known: known or at("p1")) == at("p1")


def test_what_waits_to_be_saved_is_bounded(clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """While the store is sick those bans go first that are forgotten soonest, and the log says so once."""
    store = SickStore()
    member = Member(store, clock, kept=10)
    store.sick = True
    for n in range(30):
        member.pool.ban(f"p{n}", NOW + 6000, forget_at=NOW + 6000 + n)
        member.feed()
    store.sick = False
    clock.advance(31)
    member.feed()
    assert {key for key, _ in member.bans()} == {f"p{n}" for n in range(20, 30)}
    assert caplog.text.count("more than 10 bans wait to be saved") == 1


def test_the_end_saves_whatever_the_store_was_before(clock: ManualClock) -> None:
    """A process that ends does not wait for the back-off to pass."""
    store = SickStore()
    member = Member(store, clock)
    store.sick = True
    member.pool.ban("p1", NOW + 60)
    member.feed()
    store.sick = False
    member.knowledge.save(member.pool, last=True)
    assert list(member.bans()) == [("p1", SITE)]


def test_a_session_has_one_proxy_in_all_processes(path: Path, clock: ManualClock) -> None:
    """Who comes second gets what the first was given."""
    with closing(StateStore(path)) as first, closing(StateStore(path)) as second:
        a, b = Member(first, clock), Member(second, clock)
        assert a.knowledge.assign("s", lambda known: known or at("p1")) == at("p1")
        assert b.knowledge.assign("s", lambda known: known or at("p2")) == at("p1")
        assert b.knowledge.assigned("s") == at("p1")
        assert b.knowledge.assigned("t") is None


def test_a_move_is_told_to_those_who_use_the_session(path: Path, clock: ManualClock) -> None:
    """Another process that was given the proxy learns of the new one; one that never asked does not."""
    with closing(StateStore(path)) as first, closing(StateStore(path)) as second, closing(StateStore(path)) as third:
        a, b, c = (Member(store, clock) for store in (first, second, third))
        for member in (a, b):
            member.knowledge.assign("s", lambda known: known or at("p1"))
        moved = Assignment("p2", NOW, NOW + 1, moves=1)
        assert a.knowledge.assign("s", lambda _: moved) == moved
        for member in (a, b, c):
            member.feed()
        assert (a.pool.sessions, b.pool.sessions, c.pool.sessions) == ({}, {"s": moved}, {})


def test_what_a_proposal_raises_changes_nothing(path: Path, clock: ManualClock) -> None:
    """A hard session that is lost stays with its proxy, and the error is the pool's."""

    def refuse(_: Assignment | None) -> Assignment:
        raise SessionLost("its proxy is gone")

    with closing(StateStore(path)) as store:
        member = Member(store, clock)
        member.knowledge.assign("s", lambda _: at("p1"))
        with pytest.raises(SessionLost):
            member.knowledge.assign("s", refuse)
        assert member.knowledge.sessions() == {"s": at("p1")}


def test_the_use_of_sessions_is_noted(clock: ManualClock) -> None:
    """When one was last used is written once a second, never set back, and nothing where it has ended."""
    member = Member(MemoryStore(), clock)
    for session in ("s", "t"):
        member.knowledge.assign(session, lambda _: at("p1"))
    member.knowledge.end("t")
    for used in (NOW + 5, NOW + 3):
        member.pool.use("s", used)
        member.pool.use("t", used)
        clock.advance(2)
        member.feed()
    assert member.knowledge.sessions() == {"s": Assignment("p1", NOW, NOW + 5)}


def test_a_session_that_is_ended_is_ended_everywhere(path: Path, clock: ManualClock) -> None:
    """Those who use it are told, and who asks next begins anew."""
    with closing(StateStore(path)) as first, closing(StateStore(path)) as second:
        a, b = Member(first, clock), Member(second, clock)
        a.knowledge.assign("s", lambda known: known or at("p1"))
        assert b.knowledge.end("s")
        assert not b.knowledge.end("s")
        a.feed()
        assert a.pool.sessions == {"s": None}
        assert b.knowledge.sessions() == {}
        assert a.knowledge.assign("s", lambda known: known or at("p2")) == at("p2")


def test_sessions_that_are_long_over_are_swept(clock: ManualClock) -> None:
    """A week after its last use a session is deleted, and so is the word that one was ended."""
    member = Member(MemoryStore(), clock)
    for session in ("s", "t", "u"):
        member.knowledge.assign(session, lambda _: at("p1"))
    member.knowledge.end("t")
    clock.advance(6 * 86_400)
    member.pool.use("u", clock.now())
    member.feed()
    clock.advance(2 * 86_400)
    member.feed()
    assert list(member.store.items("session")) == ["u"]


def test_sessions_go_on_while_the_store_is_sick(clock: ManualClock) -> None:
    """A session keeps what it had, a new one gets a proxy, and both are written down later."""
    store = SickStore()
    member = Member(store, clock)
    member.knowledge.assign("old", lambda _: at("p1"))
    store.sick = True
    assert member.knowledge.assign("old", lambda known: known or at("p2")) == at("p1")
    assert member.knowledge.assign("new", lambda known: known or at("p3")) == at("p3")
    assert member.knowledge.assign("new", lambda known: known or at("p4")) == at("p3")
    assert [member.knowledge.assigned(session) for session in ("old", "new", "none")] == [at("p1"), at("p3"), None]
    store.sick = False
    clock.advance(31)
    member.feed()
    assert member.knowledge.sessions() == {"old": at("p1"), "new": at("p3")}


def test_what_others_assigned_meanwhile_stands(clock: ManualClock) -> None:
    """Of two proxies for one session the one that was written down is told to who was cut off."""
    store = SickStore()
    a, b = Member(store, clock), Member(store, clock)
    store.sick = True
    a.knowledge.assign("s", lambda _: at("p1"))
    store.sick = False
    b.knowledge.assign("s", lambda known: known or at("p2"))
    clock.advance(31)
    a.feed()
    assert a.pool.sessions == {"s": at("p2")}


def test_a_hold_is_one_holders_until_its_end(path: Path, clock: ManualClock) -> None:
    """No other gets the proxy before; it is free after that by itself, with a greater token."""
    with closing(StateStore(path)) as first, closing(StateStore(path)) as second:
        a, b = Knowledge(first, clock=clock), Knowledge(second, clock=clock)
        token = a.hold("p1", now=NOW, until=NOW + 10)
        assert token is not None
        assert b.hold("p1", now=NOW + 9.9, until=NOW + 20) is None
        assert a.extend("p1", token, now=NOW + 9.9, until=NOW + 12)
        assert b.hold("p1", now=NOW + 11, until=NOW + 20) is None
        later = b.hold("p1", now=NOW + 12, until=NOW + 20)
        assert later is not None
        assert later > token
        assert not a.extend("p1", token, now=NOW + 13, until=NOW + 99)
        a.free("p1", token)  # too late: it is another's
        assert a.hold("p1", now=NOW + 13, until=NOW + 20) is None
        b.free("p1", later)
        assert not b.extend("p1", later, now=NOW + 13, until=NOW + 99)
        last = a.hold("p1", now=NOW + 13, until=NOW + 20)
        assert last is not None
        assert last > later


def test_holds_are_told_to_others(path: Path, clock: ManualClock) -> None:
    """Who holds a proxy until when, longer, and no more; not to the holder, and to who begins as it is."""
    with closing(StateStore(path)) as first, closing(StateStore(path)) as second:
        a, b = Member(first, clock), Member(second, clock)
        token = a.knowledge.hold("p1", now=NOW, until=NOW + 10)
        assert token is not None
        b.feed()
        assert b.pool.holds == {"p1": NOW + 10}
        a.knowledge.extend("p1", token, now=NOW, until=NOW + 20)
        b.feed()
        assert b.pool.holds == Member(second, clock).pool.holds == {"p1": NOW + 20}
        a.knowledge.free("p1", token)
        b.feed()
        a.feed()
        assert b.pool.holds["p1"] <= NOW
        assert a.pool.holds == {}


def test_a_hold_ends_by_itself_where_it_cannot_be_given_back(clock: ManualClock) -> None:
    """A sick store fails no report of a lease; the others wait for the time of the hold."""
    store = SickStore()
    knowledge = Knowledge(store, clock=clock)
    token = knowledge.hold("p1", now=NOW, until=NOW + 10)
    assert token is not None
    store.sick = True
    knowledge.free("p1", token)
    store.sick = False
    assert knowledge.hold("p1", now=NOW + 9, until=NOW + 20) is None
    assert knowledge.hold("p1", now=NOW + 10, until=NOW + 20)


def test_tokens_grow_over_sweeps_and_a_lost_file(path: Path, clock: ManualClock) -> None:
    """Neither what is swept nor a file that is gone sets them back, as long as the clock is not."""
    tokens = []
    with closing(StateStore(path)) as store:
        member = Member(store, clock)
        for _ in range(3):
            token = member.knowledge.hold("p1", now=clock.now(), until=clock.now())
            assert token is not None
            tokens.append(token)
        clock.advance(2 * 3600)
        member.feed()
        assert list(store.items("hold")) == [""]
        tokens.append(member.knowledge.hold("p2", now=NOW, until=NOW) or 0)  # a clock that was set back
    for file in path.parent.iterdir():
        file.unlink()
    clock.advance(1)
    with closing(StateStore(path)) as store:
        tokens.append(Knowledge(store, clock=clock).hold("p1", now=clock.now(), until=clock.now() + 1) or 0)
    assert tokens == sorted(set(tokens))


def test_there_is_no_hold_without_the_store(clock: ManualClock) -> None:
    """An agreement that cannot be had is an error, every time."""
    store = SickStore()
    knowledge = Knowledge(store, clock=clock)
    store.sick = True
    for _ in range(2):
        with pytest.raises(TierError, match="disk is full"):
            knowledge.hold("p1", now=NOW, until=NOW + 1)


@given(key=st.text(), site=st.text())
def test_a_pair_is_told_from_every_other(key: str, site: str) -> None:
    """Whatever is in the key of a proxy and in a site, both come back."""
    assert pair_of(ban_key((key, site))) == (key, site)


@given(ban=bans, key=st.text(), moves=st.integers(0), at=moments)
def test_what_is_written_is_what_is_read(ban: Ban, key: str, moves: int, at: float) -> None:
    """Bans, sessions and holds come back as they were."""
    assert ban_of(ban_text(ban)) == ban
    assert session_of(session_text(Assignment(key, at, at, moves))) == Assignment(key, at, at, moves)
    assert session_of(session_text(None)) is None
    assert hold_of(hold_text(moves, at)) == (moves, at)


@given(
    text=st.text()
    | st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists).map(repr)
)
def test_any_other_text_is_refused_as_a_value(text: str) -> None:
    """What cannot be read is a `ValueError` and nothing else."""
    for read in (ban_of, session_of, hold_of):
        with suppress(ValueError):
            read(text)


@given(one=bans, other=bans)
def test_merging_knows_no_order(one: Ban, other: Ban) -> None:
    """Which of two processes writes first changes neither the end nor the strikes nor when it is forgotten."""
    a, b = merged(one, other, now=-1.0), merged(other, one, now=-1.0)
    assert (a.until, a.strikes, a.forget_at) == (b.until, b.strikes, b.forget_at)
    assert a.until == max(one.until, other.until)


def test_a_ban_for_ever_is_written_as_one_for_very_long() -> None:
    """JSON has no infinity."""
    assert ban_of(ban_text(Ban(math.inf, 1, "r", math.inf))).until > 2e11


numbers = st.lists(st.floats(-1e6, 1e6, allow_nan=False), max_size=6).map(tuple)
uses = st.lists(st.tuples(st.text(), moments, st.booleans()), max_size=4).map(tuple)
users = st.builds(SiteUser, seen=moments, uses=uses, rate=st.floats(0, 1e6), part=st.floats(0, 1))


@given(st.builds(SiteRecord, limit=numbers, lengths=numbers, used=moments, users=st.dictionaries(st.text(), users)))
def test_what_is_known_of_a_site_is_read_as_it_was_written(record: SiteRecord) -> None:
    """Any of it, whatever names there are."""
    assert site_of(site_text(record)) == record


@pytest.mark.parametrize(
    "text", ["", "7", "[[1],[],0]", '[["a"],[],0,{}]', "[[],[],0,[]]", '[[],[],0,{"a":[1,2]}]', "[[1e999],[],0,{}]"]
)
def test_a_damaged_record_of_a_site_is_none(text: str) -> None:
    """It says so, and whoever reads it leaves it out."""
    with pytest.raises(ValueError, match=r"not a row|no table|Expecting value"):
        site_of(text)


def test_a_site_may_have_any_name() -> None:
    """What is known of it comes back under that name."""
    store, clock, pool = MemoryStore(), ManualClock(), Pool()
    names = {"*", "[2001:db8::1]:8080", "a%2fb", "\ud800", "ümlaut"}
    knowledge = Knowledge(store, clock=clock)
    pool.told_sites = {name: SiteRecord(limit=(1.0,), used=clock.now()) for name in names}
    for step in (knowledge.save, knowledge.follow):
        step(cast("Any", pool))
    assert pool.sites.keys() == names


def test_what_is_learnt_of_a_site_is_told_to_all() -> None:
    """Also to those who come later; of two that have learnt, the one stands that did so from more."""
    store, clock = MemoryStore(), ManualClock()
    one, other = Knowledge(store, clock=clock), Knowledge(store, clock=clock)
    first, second, third = Pool(), Pool(), Pool()
    first.told_sites = {SITE: SiteRecord(limit=(5.0, 1.0), used=clock.now())}
    for step in (one.save, one.follow):
        step(cast("Any", first))
    assert first.sites[SITE].limit == (5.0, 1.0)
    second.told_sites = {SITE: SiteRecord(limit=(2.0, 7.0), lengths=(1.0, 3.0), used=clock.now())}
    for step in (other.save, other.follow):
        step(cast("Any", second))
    assert (second.sites[SITE].limit, second.sites[SITE].lengths) == ((5.0, 1.0), (1.0, 3.0))
    Knowledge(store, clock=clock).follow(cast("Any", third))
    assert third.sites[SITE] == second.sites[SITE]


def test_a_session_whose_record_is_lost_is_written_again() -> None:
    """As with a file that was damaged, at its next use; one that was ended stays so."""
    store, clock = MemoryStore(), ManualClock()
    knowledge, pool = Knowledge(store, clock=clock), Pool()
    made = Assignment("k", clock.now(), clock.now(), 0)
    for session in ("lost", "ended"):
        knowledge.assign(session, lambda _: made)
    store.delete_many("session", ["lost"])
    knowledge.end("ended")
    for session in ("lost", "ended"):
        pool.use(session, clock.now() + 1.0)
    knowledge.save(cast("Any", pool))
    assert set(knowledge.sessions()) == {"lost"}

"""`proxywhirl bans` and `sessions`: what choosing has learnt is shown, and ended for all who use it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxywhirl.models import Attributes
from proxywhirl.rotation.affinity.ledger import Assignment
from proxywhirl.rotation.affinity.sessions import session_id
from proxywhirl.rotation.sites.bans import Ban
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.urls import parse

Run = Callable[..., Any]

ALICE = parse("http://alice:s3cret@192.0.2.7:8080")
PLAIN = parse("http://192.0.2.8:8080")
NAME = "bob@example.com"


def _nothing(*_: object, **__: object) -> dict[str, object]:
    return {}


@pytest.fixture
def learnt(home: Path) -> Path:
    """Give a home with three bans and a session."""
    with Runtime(Settings.load(home)) as runtime:
        for url in (ALICE, PLAIN):
            runtime.take_in([(url, Attributes())], source="mine", ttl=math.inf)
        now = time.time()
        found_out = {
            (ALICE.key, "shop.example"): Ban(now + 600, 3, "status-403", now + 6000),
            (PLAIN.key, "shop.example"): Ban(now + 300, 1, "captcha", now + 6000),
            (PLAIN.key, "[2001:db8::1]:8080"): Ban(now + 900, 1, "status-429", now + 6000),
        }
        pool: Any = SimpleNamespace(
            collect_bans=lambda: found_out, collect_sites=lambda *_, **__: {}, collect_uses=dict
        )
        runtime.knowledge.save(pool)
        runtime.knowledge.assign(session_id(NAME), lambda _: Assignment(ALICE.key, now - 60, now))
    return home


def test_bans_are_listed(run: Run, learnt: Path) -> None:
    """By site, with the proxy, the rule, the end and the strikes; never a credential."""
    ended = run("bans")
    assert ended.code == 0
    assert [[row[n] for n in (0, 1, 3, 4, 6)] for row in ended.rows] == [
        [PLAIN.key, "http://192.0.2.8:8080", "[2001:db8::1]:8080", "status-429", "1"],
        [PLAIN.key, "http://192.0.2.8:8080", "shop.example", "captcha", "1"],
        [ALICE.key, "http://192.0.2.7:8080", "shop.example", "status-403", "3"],
    ]
    assert ended.rows[2][2].startswith("user-")
    assert ended.rows[1][5] in ("in 0:05:00", "in 0:04:59")
    assert "alice" not in ended.out
    assert "s3cret" not in ended.out


def test_bans_are_narrowed_down(run: Run, learnt: Path) -> None:
    """A site is named as itself or by a URL on it, a proxy by its key or URL; an endpoint stands for its sessions."""
    for site in ("shop.example", "SHOP.example", "https://shop.example/page?q=1", "https://shop.example:443/"):
        assert len(run("bans", "--site", site).rows) == 2
    assert len(run("bans", "--site", "http://[2001:db8::1]:8080/").rows) == 1
    assert len(run("bans", "--site", "other.example").rows) == 0
    assert [row[0] for row in run("bans", "--proxy", "http://192.0.2.7:8080").rows] == [ALICE.key]
    assert [row[3] for row in run("bans", "--proxy", PLAIN.key, "--site", "shop.example").rows] == ["shop.example"]


@pytest.mark.parametrize(
    "named", ["nope", "0123456789abcdef", "http://192.0.2.9:8080", "http://eve:hunter2@192.0.2.7:8080"]
)
@pytest.mark.parametrize("more", [(), ("--json",), ("--lift",)])
def test_bans_of_a_proxy_that_there_is_not_are_an_error(
    run: Run, learnt: Path, named: str, more: tuple[str, ...]
) -> None:
    """A mistyped key must not look like a proxy without bans; no credential is repeated."""
    ended = run("bans", "--proxy", named, *more)
    assert (ended.code, ended.out) == (1, "")
    assert "`proxywhirl list`" in ended.err
    assert "hunter2" not in ended.err


def test_bans_of_a_proxy_that_expired_can_be_named(run: Run, learnt: Path) -> None:
    """What is written down of a proxy is shown and lifted by its key though the store has it no more."""
    with Runtime(Settings.load(learnt)) as runtime:
        runtime.cache.delete(PLAIN.key)
    assert len(run("bans", "--proxy", PLAIN.key).rows) == 2


def test_a_proxy_without_bans_has_none(run: Run, learnt: Path) -> None:
    """One that there is may be asked about."""
    run("bans", "--lift")
    ended = run("bans", "--proxy", PLAIN.key)
    assert (ended.code, ended.rows) == (0, [])


def test_bans_are_told_to_programs(run: Run, learnt: Path) -> None:
    """A line of JSON for each."""
    told = run("bans", "--json", "--proxy", ALICE.key).json
    assert told["until"].endswith("+00:00")
    assert {name: told[name] for name in ("key", "site", "rule", "strikes")} == {
        "key": ALICE.key,
        "site": "shop.example",
        "rule": "status-403",
        "strikes": 3,
    }


def test_bans_are_lifted(run: Run, learnt: Path) -> None:
    """Those that are meant, and no other."""
    assert run("bans", "--site", "shop.example", "--lift").out == "lifted 2\n"
    assert [row[3] for row in run("bans").rows] == ["[2001:db8::1]:8080"]
    assert run("bans", "--lift", "--json").json == {"lifted": 1}
    assert run("bans").rows == []


def test_groups_are_listed_and_lifted(run: Run, learnt: Path) -> None:
    """A network at its site, a gateway that is down at every site; each can be named alone."""
    with Runtime(Settings.load(learnt)) as runtime:
        ban = Ban(time.time() + 60, 1, "proxy", time.time() + 6000)
        barred = {("203.0.113.0/24", "shop.example"): ban, ("gateway gw.example", "*:group"): ban}
        pool: Any = SimpleNamespace(collect_bans=lambda: barred, collect_sites=_nothing, collect_uses=dict)
        runtime.knowledge.save(pool)
    rows = {row[0]: row[2:4] for row in run("bans").rows}
    assert rows["203.0.113.0/24"] == ["every proxy of it", "shop.example"]
    assert rows["gateway gw.example"] == ["every proxy of it", "every site"]
    told = run("bans", "--json", "--group", "gateway gw.example").json
    assert (told["key"], told["site"]) == ("gateway gw.example", "*:group")
    assert run("bans", "--group", "203.0.113.0/24", "--lift").out == "lifted 1\n"
    assert [row[0] for row in run("bans", "--group", "203.0.113.0/24").rows] == []
    assert len(run("bans").rows) == 4


def test_a_proxy_that_is_removed_takes_its_bans_along(run: Run, learnt: Path) -> None:
    """They do not come back with it."""
    run("remove", PLAIN.key)
    run("add", "http://192.0.2.8:8080")
    assert [row[0] for row in run("bans").rows] == [ALICE.key]


def test_sessions_are_listed_without_their_names(run: Run, learnt: Path) -> None:
    """With their proxy and when they were used; the session of a proxy that is gone is there still."""
    ended = run("sessions")
    ((name, key, url, label, since, used, moves),) = ended.rows
    assert (key, url, moves) == (ALICE.key, "http://192.0.2.7:8080", "0")
    assert since in ("0:01:00 ago", "0:01:01 ago")
    assert used.endswith(" ago")
    assert label.startswith("user-")
    assert NAME not in ended.out
    told = run("sessions", "--json").json
    assert told["session"].startswith(name)
    run("remove", ALICE.key)
    assert run("sessions").rows[0][1:4] == [ALICE.key, "", ""]


def test_only_sessions_that_last_are_listed(run: Run, learnt: Path) -> None:
    """One that was not used for its idle time, or whose time to live is over, has no proxy any more."""
    with Runtime(Settings.load(learnt)) as runtime:
        now = time.time()
        runtime.knowledge.assign(session_id("idle"), lambda _: Assignment(PLAIN.key, now - 1000, now - 700))
    assert [row[1] for row in run("sessions").rows] == [ALICE.key]
    learnt.joinpath("settings.toml").write_text("[pool]\nsession_ttl = 30\n", encoding="utf-8")
    assert (run("sessions").rows, run("sessions", "--json").out) == ([], "")


def test_a_session_is_ended_by_its_name(run: Run, learnt: Path) -> None:
    """Once; of one that is not there the command says so, without repeating its name."""
    assert run("sessions", "--end", NAME).out == "ended\n"
    assert run("sessions").rows == []
    again = run("sessions", "--end", NAME)
    assert (again.code, NAME in again.err) == (1, False)
    assert run("sessions", "--end", NAME, "--json").json == {"ended": False}
    assert (run("sessions", "--end", "").code, run("sessions", "--end", "").out) == (2, "")


@pytest.mark.parametrize("site", ["", "ftp://x/", "a b", "host:99999"])
def test_what_is_no_site_is_refused(run: Run, site: str) -> None:
    """Wrong usage, in one line."""
    ended = run("bans", "--site", site)
    assert ended.code == 2
    assert ended.err.count("\n") == 1

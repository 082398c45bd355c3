"""`proxywhirl check` and `monitor`: real proxies, a real judge, real processes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socketserver
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxywhirl import ProxyWhirl
from proxywhirl.errors import SettingsError
from proxywhirl.health.judge_server import JudgeServer
from proxywhirl.models import Attributes
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.testing import Fault, FleetSpec, running_fleet
from tests.waiting import wait_until

Run = Callable[..., Any]

SPECS = [
    FleetSpec("http"),
    FleetSpec("socks5", "alice", "s3cret"),
    FleetSpec("socks4a"),
    FleetSpec(fault=Fault.REFUSE),
    FleetSpec(fault=Fault.GARBAGE),
    FleetSpec(fault=Fault.HANG),
    FleetSpec("http", "bob", "hunter2", fault=Fault.WRONG_CREDENTIALS),
]
GOOD = 3


@contextlib.contextmanager
def running_judge(tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Run a judge in a thread; give its URLs, separated by commas."""
    urls: list[str] = []
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with JudgeServer(port=0, tls=tls, https_port=0) as judge:
            urls.extend(judge.urls)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(10)
    try:
        yield ",".join(urls)
    finally:
        over.set()
        thread.join()


@pytest.fixture(scope="module")
def judge() -> Iterator[str]:
    """Give the URL of a judge that runs for all tests here."""
    with running_judge() as url:
        yield url


def by_status(run: Run) -> dict[str, int]:
    """Count the entries by their status."""
    counts: dict[str, int] = {}
    for row in run("list").rows:
        counts[row[3]] = counts.get(row[3], 0) + 1
    return counts


def test_proxies_are_checked_and_what_was_found_out_is_kept(run: Run, judge: str) -> None:
    """Each is judged by what it did, the sums are told, and nothing is due right after."""
    with running_fleet(SPECS) as (fleet, _):
        run("add", *fleet.urls())
        checked = run("check", "--judge", judge, "--timeout", "2")
        assert checked.code == 0
        assert checked.rows == [
            ["scheme", "http", "5", "1"],
            ["scheme", "socks4a", "1", "1"],
            ["scheme", "socks5", "1", "1"],
            ["all", "", "7", "3"],
        ]
        assert "3 of 7 work" in checked.err
        assert "failed: 3 (proxy), 1 (account)" in checked.err
        assert by_status(run) == {"healthy": GOOD, "unhealthy": len(SPECS) - GOOD}
        again = run("check", "--judge", judge)
        assert (again.code, again.err) == (0, "nothing is due: `proxywhirl check --all` checks everything\n")
        for secret in ("s3cret", "hunter2", "alice", "bob"):
            assert secret not in checked.out + checked.err


def test_some_are_checked_by_name_and_told_to_programs(run: Run, judge: str) -> None:
    """JSON has a line for each with its stages, and one with the sums; the code tells whether any works."""
    with running_fleet([FleetSpec("http"), FleetSpec(fault=Fault.REFUSE)]) as (fleet, _):
        run("add", *fleet.urls())
        good, bad = fleet.urls()
        ended = run("check", good, bad, "--judge", judge, "--json")
        lines = [json.loads(line) for line in ended.out.splitlines()]
        results = {line["proxy_url"]: line for line in lines[:-1]}
        assert results[good]["reached"] == "http"
        assert [stage["level"] for stage in results[good]["stages"]] == ["tcp", "http"]
        assert (results[bad]["ok"], results[bad]["blame"]) == (False, "proxy")
        assert lines[-1]["summary"]["ok"] == 1
        assert run("check", bad, "--judge", judge).code == 1
        ended = run("check", "192.0.2.1:80", "nope", good, "--judge", judge)
        assert "there is no proxy http://192.0.2.1:80, nope: `proxywhirl list`" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "a check needs somebody to ask for through the proxy: a judge (`proxywhirl judge` serves one"),
        (("--level", "http"), "needs a judge with an http:// URL"),
        (("--level", "tls", "--judge", "http://127.0.0.1:9/"), "needs an https:// target, or a judge with an https://"),
        (("--all", "--due"), "go one at a time"),
        (("--judge", "ftp://bob:hunter2@x"), "'--judge': no judge's URL, such as http://judge.example:8898/"),
        (("--judge", ""), "no judge's URL"),
        (("--target", "nonsense"), "a target must be an absolute http:// or https:// URL"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_sent(run: Run, arguments: tuple[str, ...], message: str) -> None:
    """An error is one line that says what to do, and no check counts."""
    run("add", "http://192.0.2.1:80")
    ended = run("check", *arguments)
    assert ended.code in (1, 2)
    assert message in ended.err
    assert "hunter2" not in ended.err
    assert by_status(run) == {"unknown": 1}


def test_a_budget_is_kept(run: Run, judge: str) -> None:
    """What would cost more than is left is not checked, and that is said."""
    with running_fleet([FleetSpec("http")] * 4) as (fleet, _):
        run("add", *fleet.urls())
        ended = run("check", "--judge", judge, "--budget-bytes", "1000", "--concurrency", "1")
    assert "were not checked: the budget is spent" in ended.err
    assert by_status(run)["unknown"] >= 2


def test_bytes_cost_what_the_proxy_asks_for_them(run: Run, home: Path, judge: str) -> None:
    """The sums tell the money, and the provider's bytes of the day are kept for the next command."""
    with running_fleet([FleetSpec("http")]) as (fleet, _):
        with Runtime(Settings.load(home)) as runtime:
            known = Attributes(provider="acme", price_per_gb=1000.0)
            runtime.take_in([(proxy.url, known) for proxy in fleet], source="s", ttl=1e9)
        (home / "settings.toml").write_text("[health]\nprovider_bytes_per_day = {acme = 1000}\n")
        summary = json.loads(run("check", "--judge", judge, "--json").out.splitlines()[-1])["summary"]
        assert summary["money"] == pytest.approx(summary["bytes"] * 1000.0 / 1e9)
        assert json.loads(run("check", "--all", "--judge", judge, "--json").out)["summary"]["over_budget"] == 1


def test_when_this_machine_is_cut_off_nobody_is_punished(run: Run) -> None:
    """Nothing answers, the judge neither: no status changes, and both the log and the sums say so."""
    with running_judge() as gone:
        pass
    with running_fleet([FleetSpec(fault=Fault.REFUSE)] * 3) as (fleet, _):
        run("add", *fleet.urls())
        ended = run("check", "--judge", gone)
    assert "3 say nothing of the proxy and are not recorded" in ended.err
    assert by_status(run) == {"unknown": 3}


def spawned(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    command = [sys.executable, "-m", "proxywhirl", *arguments]
    environment = {**os.environ, **variables}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_check_that_is_killed_has_kept_what_it_recorded_and_blocks_nobody(run: Run, home: Path, judge: str) -> None:
    """After SIGKILL in the middle the store is whole, and another process checks the rest once the claims are over."""
    specs = [*[FleetSpec("http")] * 5, *[FleetSpec(fault=Fault.HANG)] * 5]
    with running_fleet(specs) as (fleet, _):
        run("add", *fleet.urls())
        with spawned("check", "--judge", judge, "--timeout", "30") as process:
            wait_until(lambda: by_status(run).get("healthy") == 5)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert by_status(run) == {"healthy": 5, "unknown": 5}
        other = run("check", "--judge", judge, "--timeout", "1")
        assert "5 are being checked by another process" in other.err
        with Runtime(Settings.load(home)) as runtime:
            for key in runtime.state.items("claim"):
                runtime.state.put_many("claim", {key: json.dumps(["killed", 0.0])})
        assert run("check", "--judge", judge, "--timeout", "1").code == 1
        assert by_status(run) == {"healthy": 5, "unhealthy": 5}


def test_two_checks_at_once_share_the_proxies(run: Run, judge: str) -> None:
    """No proxy is probed by both, and together they check all."""
    with running_fleet([FleetSpec(fault=Fault.SLOW, delay=0.5)] * 8) as (fleet, origin):
        run("add", *fleet.urls())
        command = ("check", "--judge", judge, "--json", "--all")
        with spawned(*command) as one, spawned(*command) as two:
            summaries = [json.loads(p.communicate(timeout=60)[0].splitlines()[-1])["summary"] for p in (one, two)]
        assert sum(summary["checked"] for summary in summaries) >= 8
        assert all(summary["checked"] + summary["claimed_elsewhere"] == 8 for summary in summaries)
        assert by_status(run) == {"healthy": 8}
        assert not list(origin.requests), "nothing but the judge is asked"


def test_an_interrupted_check_keeps_what_it_found_out(run: Run, judge: str) -> None:
    """Ctrl-C ends it with 130; what had ended is recorded, and its claims are given back."""
    with running_fleet([FleetSpec("http"), FleetSpec(fault=Fault.HANG)]) as (fleet, _):
        run("add", *fleet.urls())
        with spawned("check", "--judge", judge, "--timeout", "60", "--json") as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["ok"] is True
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "interrupted" in err
        assert by_status(run) == {"healthy": 1, "unknown": 1}
        assert "being checked by another" not in run("check", "--judge", judge, "--timeout", "1").err


@pytest.mark.parametrize("command", [("monitor",), ("serve", "--port", "0")])
def test_what_is_due_is_checked_while_it_runs(run: Run, judge: str, command: tuple[str, ...]) -> None:
    """A proxy that another process adds is checked within seconds; a signal ends it well."""
    with running_fleet([FleetSpec("http"), FleetSpec(fault=Fault.REFUSE)]) as (fleet, _):
        with spawned(*command, PROXYWHIRL_HEALTH_JUDGES=judge) as process:
            run("add", *fleet.urls())
            wait_until(lambda: by_status(run) == {"healthy": 1, "unhealthy": 1})
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
        assert (process.returncode, "Traceback" in err) == (0, False)


def test_a_monitor_without_a_judge_says_what_it_needs(run: Run) -> None:
    """It does not run in vain."""
    ended = run("monitor")
    assert ended.code == 1
    assert "there is no judge to ask: `proxywhirl judge` serves one; name it in PROXYWHIRL_HEALTH_JUDGES" in ended.err


def test_a_reader_who_has_seen_enough_ends_a_check(run: Run, judge: str) -> None:
    """A pipe that is closed is no failure, and nothing of a traceback is said."""
    with running_fleet([FleetSpec("http")] * 20) as (fleet, _):
        run("add", *fleet.urls())
        with spawned("check", "--judge", judge, "--json", "--concurrency", "1") as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.close()
            process.wait(30)
            assert process.stderr is not None
            assert (process.returncode, process.stderr.read()) == (0, "")


def test_what_is_fetched_can_be_checked_at_once(run: Run, judge: str, tmp_path: Path) -> None:
    """With --check the new proxies are, and only these; without a judge nothing is fetched."""
    variables = {"PROXYWHIRL_SOURCES_CATALOGUE": "false"}
    with (
        running_fleet([FleetSpec("http"), FleetSpec(fault=Fault.REFUSE)]) as (fleet, _),
        pytest.MonkeyPatch.context() as m,
    ):
        for name, value in variables.items():
            m.setenv(name, value)
        run("add", "http://192.0.2.1:80")
        (tmp_path / "list.txt").write_text("\n".join(fleet.urls()))
        run("sources", "add", str(tmp_path / "list.txt"))
        refused = run("fetch", "--check")
        assert (refused.code, len(run("list").rows)) == (1, 1)
        assert "a check needs somebody to ask for" in refused.err
        m.setenv("PROXYWHIRL_HEALTH_JUDGES", judge)
        done = run("fetch", "--check")
        assert done.code == 0
        assert "2 new" in done.err
        assert "1 of 2 work" in done.err
        assert by_status(run) == {"healthy": 1, "unhealthy": 1, "unknown": 1}
        lines = [json.loads(line) for line in run("fetch", "--check", "--json").out.splitlines()]
        assert (len(lines), lines[0]["new"]) == (1, 0)


def test_a_judge_that_is_not_trusted_here_is_no_fault_of_the_proxies(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its authority they reach tls; without it nobody is blamed, which is said."""
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with (
        running_judge(tls) as judges,
        running_fleet([FleetSpec("http"), FleetSpec(fault=Fault.INTERCEPT)]) as (fleet, _),
    ):
        run("add", *fleet.urls())
        monkeypatch.setenv("PROXYWHIRL_HEALTH_JUDGES", judges)
        blind = run("check", "--json")
        assert json.loads(blind.out.splitlines()[-1])["summary"]["not_recorded"] == 2
        assert by_status(run) == {"unknown": 2}
        monkeypatch.setenv("PROXYWHIRL_HEALTH_JUDGE_CA_FILE", str(tmp_path / "ca.pem"))
        results = [json.loads(line) for line in run("check", "--json").out.splitlines()[:-1]]
        assert {(line["asked"], line["reached"]) for line in results} == {("tls", "tls"), ("tls", "http")}
        assert by_status(run) == {"healthy": 1, "unhealthy": 1}


def test_the_library_checks_what_is_due_when_asked(home: Path, judge: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on while the object lives, and ends with it; without a judge it says what it needs."""
    with pytest.raises(SettingsError, match="there is no judge to ask"):
        ProxyWhirl(home=home, monitor=True)
    monkeypatch.setenv("PROXYWHIRL_HEALTH_JUDGES", judge)
    with running_fleet([FleetSpec("http"), FleetSpec(fault=Fault.REFUSE)]) as (fleet, _):
        with ProxyWhirl(proxies=fleet.urls(), home=home, monitor=True) as whirl:
            wait_until(lambda: {entry.health_status.value for entry in whirl.cache.scan()} == {"healthy", "unhealthy"})
        assert not [thread for thread in threading.enumerate() if thread.name == "proxywhirl-monitor"]


@contextlib.contextmanager
def running_impostor(answer: bytes) -> Iterator[str]:
    """Run a server that gives one answer to whatever is asked, or with b"" none at all; give its URL."""
    over = threading.Event()

    class Impostor(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.rfile.readline()
            self.wfile.write(answer)
            if not answer:
                over.wait()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Impostor) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            over.set()
            server.shutdown()
            thread.join()


ANSWERS = {
    "an ordinary page": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
    "a broken one": b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
    "silence": b"",
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_no_judge_condemns_nobody(run: Run, answer: str) -> None:
    """A mistyped judge, or one whose back end is down, is named, and no proxy is punished for it."""
    with (
        running_impostor(ANSWERS[answer]) as impostor,
        running_fleet([FleetSpec("http"), FleetSpec("socks5")]) as (fleet, _),
    ):
        run("add", *fleet.urls())
        ended = run("check", "--judge", impostor, "--timeout", "1")
    assert "2 say nothing of the proxy and are not recorded" in ended.err
    assert by_status(run) == {"unknown": 2}


@pytest.mark.parametrize("answer", ANSWERS)
def test_of_two_judges_the_good_one_is_asked(run: Run, judge: str, answer: str) -> None:
    """A second judge makes checks safer: a bad one is left out."""
    with running_impostor(ANSWERS[answer]) as impostor, running_fleet([FleetSpec("http")] * 8) as (fleet, _):
        run("add", *fleet.urls())
        run("check", "--judge", impostor, "--judge", judge, "--timeout", "5")
        run("check", "--all", "--judge", judge, "--judge", "http://127.0.0.1:1/", "--timeout", "5")
    assert by_status(run) == {"healthy": 8}

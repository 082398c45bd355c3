"""A run of everything with secrets in it, and a search for them in everything that it left or said."""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from traceback import format_exception
from typing import Any
from urllib.parse import quote, quote_plus

import httpx2
import pytest
from pydantic import SecretStr

from proxywhirl import ProxyWhirl
from proxywhirl.cache import CacheConfig, CacheEntry
from proxywhirl.errors import ProxyWhirlError
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings
from proxywhirl.testing import FleetSpec, running_fleet
from proxywhirl.urls import parse

Run = Callable[..., Any]

USERNAMES = ["Zq-user@one", "Zq user/two", "Zq-long-gone"]
PASSWORDS = ["Zq7-pass/w@rd é", "Zq8%41+pass", "Zq9-wrong"]
GATEWAY = ("Zq-gateway-user", "Zq-gateway-pass")


def forms(secret: str) -> set[bytes]:
    """Return how a secret may be spelled: as it is, percent-encoded, escaped for JSON, in base64 at any offset."""
    raw = secret.encode()
    plain = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}
    plain.add(secret.encode("unicode_escape").decode())
    found = {text.encode() for text in plain} | {raw, raw.hex().encode(), secret.encode("latin-1", "replace")}
    for offset in range(3):
        whole = base64.b64encode(b"x" * offset + raw)
        part = whole[(offset * 8 + 5) // 6 : (offset + len(raw)) * 8 // 6]  # without what neighbours have a share in
        found |= {part, part.translate(bytes.maketrans(b"+/", b"-_"))}
    assert all(len(form) >= 6 for form in found), found
    return found


class Evidence:
    """Everything that was said, and where."""

    def __init__(self) -> None:
        self.said: list[tuple[str, bytes]] = []

    def add(self, where: str, what: object) -> None:
        """Keep what was said, and how it shows."""
        if isinstance(what, BaseException):
            what = "".join(format_exception(what)) + repr(what) + str(what.args)
        self.said.append((where, what if isinstance(what, bytes) else f"{what} {what!r}".encode()))

    def add_files(self, directory: Path) -> None:
        """Keep every file of a directory with its name."""
        for path in directory.rglob("*"):
            self.said.append((f"the name of {path}", str(path).encode()))
            if path.is_file():
                self.said.append((str(path), path.read_bytes()))

    def shows(self, secret: str) -> list[str]:
        """Return where a secret shows."""
        return [where for where, text in self.said if any(form in text for form in forms(secret))]


@contextlib.contextmanager
def serving(**variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run `serve` in a process of its own."""
    with subprocess.Popen(
        [sys.executable, "-m", "proxywhirl", "serve", "--port", "0"],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def use_the_commands(run: Run, evidence: Evidence, tmp_path: Path, urls: list[str]) -> None:
    """Give secrets to each command, in right and in wrong places."""
    wrong = [f"{USERNAMES[0]}:{PASSWORDS[0]}@203.0.113.9:99999", f"http://203.0.113.9:{PASSWORDS[1]}@x", PASSWORDS[2]]
    for arguments, stdin in (
        (("import", "-"), "\n".join([*urls, *wrong])),
        (("import", "-", "--json"), f"host,port,username,password\n203.0.113.1,80,{USERNAMES[2]},{PASSWORDS[2]}\n"),
        (("add", "203.0.113.2:80", "--username", USERNAMES[0], "--password-stdin"), PASSWORDS[1]),
        (("add", f"http://{quote(USERNAMES[2])}:{PASSWORDS[2]}@203.0.113.2:x"), ""),
        (("list",), ""),
        (("list", "--json"), ""),
        (("stats", "--json"), ""),
        (("export",), ""),
        (("export", tmp_path / "out.csv"), ""),
        (("keys", "status"), ""),
        (("keys", "rotate", "--key-stdin"), PASSWORDS[0]),
        (("keys", "rotate"), ""),
        (("remove", f"http://{USERNAMES[2]}:{PASSWORDS[2]}@203.0.113.1:80"), ""),
        (("remove", f"http://{USERNAMES[2]}:{PASSWORDS[2]}@203.0.113.77:80"), ""),
        (("import", tmp_path / "out.csv"), ""),
    ):
        done = run(*arguments, stdin=stdin)
        evidence.add(f"what {arguments[:2]} printed", done.out + done.err)


def use_the_gateway(evidence: Evidence, target: str) -> None:
    """Send requests through `serve`, with right and wrong credentials of the gateway's."""
    names = {"PROXYWHIRL_GATEWAY_USERNAME": GATEWAY[0], "PROXYWHIRL_GATEWAY_PASSWORD": GATEWAY[1]}
    with serving(**names) as server:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        for password in (GATEWAY[1], PASSWORDS[2]):
            proxy = httpx2.Proxy(address, auth=(GATEWAY[0], password))
            with httpx2.Client(proxy=proxy, trust_env=False) as client:
                for _ in range(4):
                    answer = client.get(target)
                    evidence.add(
                        "an answer through the gateway", f"{answer.status_code} {answer.headers} {answer.text}"
                    )
        server.terminate()
        out, err = server.communicate(timeout=120)
        evidence.add("what serve printed", address + out + err)
        assert server.returncode == 0


def use_the_library(evidence: Evidence, home: Path, target: str) -> None:
    """Look at everything that can be shown, and fail where it can fail."""
    with ProxyWhirl(home=home) as whirl:
        for _ in range(4):
            evidence.add("an answer of the client", whirl.get(target).text)
        evidence.add("the client", [whirl, whirl.cache, whirl.cache.config, whirl.pool, whirl.pool.snapshot()])
    with Runtime(Settings.load(home)) as runtime:
        cache = runtime.cache
        entries = list(cache.scan())
        assert sum(entry.password is not None for entry in entries) >= 3
        for entry in entries:
            evidence.add("an entry", [entry, entry.model_dump_json(), entry.password, entry.username])
            evidence.add("its endpoint", repr(cache.endpoint(entry.key)))
        evidence.add("records", list(cache._records()))
        statistics = cache.get_statistics()
        evidence.add("statistics", [statistics, statistics.model_dump_json(), statistics.to_metrics_dict()])
        evidence.add("settings", [runtime.settings, runtime.settings.model_dump_json(), runtime.blocked()])
        evidence.add("the log of changes", cache.changes_since(0))
    secret = SecretStr(PASSWORDS[0])
    for fail in (
        lambda: parse(f"http://{USERNAMES[2]}:{PASSWORDS[2]}@203.0.113.1:99999"),
        lambda: CacheEntry.model_validate(
            {"proxy_url": f"http://{USERNAMES[2]}:{PASSWORDS[2]}@h:80", "password": secret}
        ),
        lambda: CacheConfig.model_validate({"encryption_key": PASSWORDS[0], "key_previous": PASSWORDS[1]}),
        lambda: ProxyWhirl(proxies=[f"{USERNAMES[2]}:{PASSWORDS[2]}@203.0.113.1:99999"]),
    ):
        with pytest.raises((ProxyWhirlError, ValueError)) as caught:
            fail()
        evidence.add("an exception", caught.value)


@pytest.mark.parametrize("backend", ["jsonl", "sqlite"])
def test_no_secret_shows_in_anything_that_a_run_left_or_said(
    run: Run,
    home: Path,
    tmp_path: Path,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Files, names, output, logs, exceptions, reprs, exports and metrics hold no secret in any spelling."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PROXYWHIRL_CACHE_L2_BACKEND", backend)
    evidence = Evidence()
    keys = []
    specs = [FleetSpec("http", USERNAMES[0], PASSWORDS[0]), FleetSpec("socks5", USERNAMES[1], PASSWORDS[1])]
    with running_fleet(specs) as (fleet, origin):
        target = f"http://plain.example:{origin.port}/"
        refused = parse(fleet.urls()[0]).with_credential(USERNAMES[2], PASSWORDS[2]).reveal()
        use_the_commands(run, evidence, tmp_path, [*fleet.urls(), refused])
        keys.append((home / "key").read_text().strip())
        use_the_gateway(evidence, target)
        use_the_library(evidence, home, target)
    assert run("keys", "rotate").code == 0
    keys.append((home / "key").read_text().strip())
    (home / "key").unlink()
    evidence.add("the refusal of a store without its key", run("list").err)
    evidence.add("the log", caplog.text)
    evidence.add_files(tmp_path)
    assert len(evidence.said) > 60
    for known in ("key_check", "plain.example", "203.0.113.2"):
        assert evidence.shows(known), "the search finds nothing at all"
    for secret in (*USERNAMES, *PASSWORDS, *GATEWAY, *keys):
        assert evidence.shows(secret) == [], secret


@pytest.mark.parametrize("secret", [*USERNAMES, *PASSWORDS, *GATEWAY])
def test_the_search_finds_a_secret_in_every_spelling(secret: str) -> None:
    """Plain, in a URL, and in the header that a proxy is sent, whatever stands before and after."""
    for pair in (f"{secret}:x", f"ab{secret}", f"a{secret}z", f"{secret}"):
        for text in (pair.encode(), quote(pair, safe="").encode(), base64.b64encode(pair.encode())):
            evidence = Evidence()
            evidence.add("here", b"..." + text + b"...")
            assert evidence.shows(secret) == ["here"], text

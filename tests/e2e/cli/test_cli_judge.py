"""`proxywhirl judge`: a real process that serves, and ends when it is told to."""

from __future__ import annotations

import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme

Run = Callable[..., Any]
Spawn = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_it_is_told_to_stop(spawn: Spawn, number: int) -> None:
    """Its URL is all that stdout gets, it answers there, and a signal ends it with 0."""
    with spawn("judge", "--port", "0") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert '"address": "127.0.0.1"' in httpx2.get(url, trust_env=False).text
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "", "judging; stop with Ctrl-C\n")


def test_it_serves_https_beside_http(spawn: Spawn, authority: Any, tmp_path: Path) -> None:
    """With a certificate there is a second URL, whose certificate is that one."""
    root = trustme.CA()
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    leaf = root.issue_cert("127.0.0.1")
    leaf.cert_chain_pems[0].write_to_path(str(chain))
    leaf.private_key_pem.write_to_path(str(key))
    options = ("--port", 0, "--tls-port", 0, "--tls-certificate", chain, "--tls-key", key)
    with spawn("judge", *options) as process:
        assert process.stdout is not None
        plain, sealed = process.stdout.readline().strip(), process.stdout.readline().strip()
        assert (plain[:7], sealed[:8]) == ("http://", "https://")
        root.configure_trust(authority.client)
        assert httpx2.get(sealed, verify=authority.client, trust_env=False).status_code == 200


def test_what_cannot_be_served_is_said_in_one_line(run: Run, tmp_path: Path) -> None:
    """A port in use, a missing file and a key without its certificate are errors that say what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("judge", "--port", port)
    assert (done.code, done.out) == (1, "")
    assert f"port {port}: it is in use; choose another port" in done.err
    gone = run("judge", "--tls-certificate", tmp_path / "gone.pem")
    assert (gone.code, "gone.pem cannot be read" in gone.err) == (1, True)
    half = run("judge", "--tls-key", tmp_path / "key.pem")
    assert (half.code, "--tls-key needs --tls-certificate" in half.err) == (2, True)

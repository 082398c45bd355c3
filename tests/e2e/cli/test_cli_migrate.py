"""`proxywhirl migrate`: the store goes on in the other backend, and the settings say so."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.settings import Settings

Run = Callable[..., Any]

PROXIES = ("http://bob:hunter2@203.0.113.1:80", "socks5://alice:s3cret@203.0.113.2:1080", "203.0.113.3:80")


@pytest.fixture
def filled(run: Run) -> Run:
    """Add two proxies with credentials and one without, and give the runner."""
    assert run("add", *PROXIES).code == 0
    return run


def whole(run: Run) -> str:
    """Return everything that the store holds, credentials included."""
    done = run("export", "--with-credentials")
    assert done.code == 0
    return str(done.out)


@pytest.mark.parametrize("l3", ["true", "false"])
def test_there_and_back(filled: Run, home: Path, l3: str) -> None:
    """Each way the entries are moved, the home's settings name the new backend, and the commands use it."""
    (home / "settings.toml").write_text(f"# mine\n[cache]\nl3_config = {{enabled = {l3}}}  # or not\n")
    filled("add", *PROXIES)
    before = whole(filled)
    done = filled("migrate", "--to", "sqlite")
    assert (done.code, done.out) == (0, "moved 3 from jsonl to sqlite\n")
    assert done.err == 'settings.toml of the home says l2_backend = "sqlite" now\n'
    assert Settings.load(home).cache.l2_backend == "sqlite"
    assert (home / "settings.toml").read_text().startswith("# mine\n[cache]\n")
    assert "# or not" in (home / "settings.toml").read_text()
    assert filled("stats").rows[1][1:5] == ["SQLite", "ok", "5000", "3"]
    assert whole(filled) == before
    assert filled("migrate", "--to", "sqlite").out == "moved 0 from jsonl to sqlite\n"
    assert filled("migrate", "--to", "jsonl").out == "moved 3 from sqlite to jsonl\n"
    assert filled("stats").rows[1][1:5] == ["JSON lines", "ok", "5000", "3"]
    assert whole(filled) == before


def test_a_store_that_is_served_is_not_moved(
    filled: Run, home: Path, spawn: Callable[..., AbstractContextManager[Any]]
) -> None:
    """The command says to stop what uses the store; afterwards it works."""
    with spawn("serve", "--port", "0") as server:
        assert server.stdout.readline().startswith("http://127.0.0.1:")
        refused = filled("migrate", "--to", "sqlite")
        assert refused.code == 1
        assert "another process has the store open: stop what uses it" in refused.err
        assert not (home / "settings.toml").exists()
    assert filled("migrate", "--to", "sqlite").code == 0


def test_what_the_environment_says_has_to_agree(filled: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a variable would undo the change the command says what to set, and does nothing."""
    before = whole(filled)
    monkeypatch.setenv("PROXYWHIRL_CACHE_L2_BACKEND", "jsonl")
    refused = filled("migrate", "--to", "sqlite")
    assert refused.code == 1
    assert "set PROXYWHIRL_CACHE_L2_BACKEND to sqlite, or unset it" in refused.err
    assert not (home / "settings.toml").exists()
    monkeypatch.setenv("PROXYWHIRL_CACHE_L2_BACKEND", "sqlite")
    assert filled("migrate", "--to", "sqlite").out == "moved 3 from jsonl to sqlite\n"
    assert whole(filled) == before
    monkeypatch.setenv("PROXYWHIRL_CACHE_L2_BACKEND", "jsonl")
    refused = filled("list")
    assert refused.code == 1
    assert "were moved from jsonl to sqlite" in refused.err
    monkeypatch.delenv("PROXYWHIRL_CACHE_L2_BACKEND")
    assert whole(filled) == before


def test_a_tier_that_is_chosen_by_name_is_renamed(filled: Run, home: Path) -> None:
    """Where `l2_tier` decides, that is what is changed."""
    (home / "settings.toml").write_text('[cache]\nl2_tier = "jsonl"\n')
    assert filled("migrate", "--to", "sqlite").out == "moved 3 from jsonl to sqlite\n"
    assert (home / "settings.toml").read_text() == '[cache]\nl2_tier = "sqlite"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '[cache]\nl2_backend = "sqlite"\n'),
        ("[gateway]\nport = 9000", '[gateway]\nport = 9000\n\n[cache]\nl2_backend = "sqlite"\n'),
        ("[ cache ] # c\nx = 1\n[pool]\n", None),
        (
            "[cache] # c\n# l2_backend = 'x'\nfailure_threshold = 4\nl2_backend='jsonl' # d\n[pool]\n",
            "[cache] # c\n# l2_backend = 'x'\nfailure_threshold = 4\nl2_backend = \"sqlite\" # d\n[pool]\n",
        ),
        (
            "[gateway]\nport = 1\n\n[cache]\nfailure_threshold = 4\n\n[pool]\n",
            '[gateway]\nport = 1\n\n[cache]\nl2_backend = "sqlite"\nfailure_threshold = 4\n\n[pool]\n',
        ),
        ("[cache]\nl2_backend = 'sqlite'\n", "[cache]\nl2_backend = 'sqlite'\n"),
        ("cache.failure_threshold = 4\n", None),
        ("cache = {failure_threshold = 4}\n", None),
        ('[cache]\n"l2_backend" = "jsonl"\n', None),
    ],
)
def test_the_settings_file_is_changed_in_one_place(home: Path, before: str, after: str | None) -> None:
    """Everything else stays, comments too; a file that is written otherwise is left alone, and the user is told."""
    path = home / "settings.toml"
    home.mkdir()
    path.write_text(before)
    path.chmod(0o640)
    if after is None:
        with pytest.raises(ValueError, match=r"settings\.toml"):
            Settings.prepare_change(home, "cache", "l2_backend", "sqlite")
        after = before
    else:
        assert Settings.prepare_change(home, "cache", "l2_backend", "sqlite")() is (before != after)
    assert path.read_text() == after
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_new_settings_file_is_the_owners(home: Path) -> None:
    """It is made with mode 0600."""
    assert Settings.prepare_change(home, "cache", "l2_backend", "sqlite")()
    assert (home / "settings.toml").stat().st_mode & 0o777 == 0o600

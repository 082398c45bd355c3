"""`proxywhirl keys`: generate, rotate, status."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

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


def test_generate_prints_another_key_each_time_and_stores_none(run: Run, home: Path) -> None:
    """What is printed can be configured, and no file was made."""
    one, other = run("keys", "generate").out, run("keys", "generate").out
    assert one != other
    assert Fernet(one.strip())
    assert not home.exists()


def test_a_rotation_changes_the_key_file_and_keeps_every_credential(filled: Run, home: Path) -> None:
    """The home's key is another one, the store reads as before, and neither key was shown."""
    before, key = whole(filled), (home / "key").read_text()
    done = filled("keys", "rotate")
    assert done.code == 0
    assert done.out.startswith("sealed 2 anew with the key ")
    assert (home / "key").read_text() != key
    assert key.strip() not in done.out + done.err
    assert (home / "key").read_text().strip() not in done.out + done.err
    assert whole(filled) == before


def test_a_rotation_takes_a_key_from_stdin(filled: Run, home: Path) -> None:
    """The given key is the home's key then; one that is none is wrong usage and is not repeated."""
    before, key = whole(filled), filled("keys", "generate").out
    done = filled("keys", "rotate", "--key-stdin", "--json", stdin=key)
    assert done.json["resealed"] == 2
    assert done.json["unreadable"] == 0
    assert (home / "key").read_text() == key
    wrong = filled("keys", "rotate", "--key-stdin", stdin="no-key-at-all\n")
    assert wrong.code == 2
    assert "no-key-at-all" not in wrong.err
    assert whole(filled) == before


def test_status_says_where_the_key_is_and_what_it_sealed(filled: Run, home: Path) -> None:
    """A fingerprint, the tiers' counts and the key file; the fingerprint follows a rotation."""
    done = filled("keys", "status")
    (row,) = done.rows
    assert row[1:] == ["current", "2", "2"]
    assert done.err == f"the key comes from {home / 'key'}\n"
    assert filled("keys", "rotate").out.split()[-1] == filled("keys", "status").rows[0][0] != row[0]
    told = filled("keys", "status", "--json").json
    assert told["origin"] == str(home / "key")
    assert told["unfinished"] is False
    assert told["keys"] == [{"key": told["current"], "state": "current", "entries": {"l2": 2, "l3": 2}}]


def test_a_rotation_that_was_cut_off_shows_and_can_be_gone_on_with(filled: Run, home: Path) -> None:
    """Two keys in the file: status says so, and what to do; rotate ends it without making a third."""
    old = (home / "key").read_text()
    new = filled("keys", "generate").out
    (home / "key").write_text(new + old)
    filled("add", "http://eve:x@203.0.113.4:80")
    done = filled("keys", "status")
    assert [row[1:] for row in done.rows] == [["current", "1", "1"], ["previous", "2", "2"]]
    assert "a rotation is unfinished: `proxywhirl keys rotate` ends it\n" in done.err
    refused = filled("keys", "rotate", "--key-stdin", stdin=filled("keys", "generate").out)
    assert refused.code == 2
    done = filled("keys", "rotate")
    assert done.err == "went on with a rotation that had been begun\n"
    assert (home / "key").read_text() == new
    assert [row[1:] for row in filled("keys", "status").rows] == [["current", "3", "3"]]


def test_status_works_without_the_key_that_is_needed(filled: Run, home: Path) -> None:
    """Everything else refuses the store and names setting and fingerprint; with the key back it is as before."""
    before, (fingerprint, *_) = whole(filled), filled("keys", "status").rows[0]
    (home / "key").rename(home / "elsewhere")
    done = filled("keys", "status")
    assert done.code == 0
    assert done.rows == [[fingerprint, "missing", "2", "2"]]
    assert "a key is missing" in done.err
    for command in (("list",), ("keys", "rotate")):
        refused = filled(*command)
        assert refused.code == 1
        assert "PROXYWHIRL_CACHE_ENCRYPTION_KEY" in refused.err
        assert fingerprint in refused.err
    assert not (home / "key").exists()
    (home / "elsewhere").rename(home / "key")
    assert whole(filled) == before


def test_a_key_from_the_environment_is_changed_with_the_previous_one(
    filled: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the key file to a configured key, and from that to the next one; without a previous key rotate says how."""
    before, old = whole(filled), (home / "key").read_text().strip()
    for _ in range(2):
        new = filled("keys", "generate").out.strip()
        monkeypatch.setenv("PROXYWHIRL_CACHE_KEY_PREVIOUS", old)
        monkeypatch.setenv("PROXYWHIRL_CACHE_ENCRYPTION_KEY", new)
        done = filled("keys", "rotate")
        assert done.out.startswith("sealed 2 anew with the key ")
        assert done.err == ""  # no other rotation was begun before
        monkeypatch.delenv("PROXYWHIRL_CACHE_KEY_PREVIOUS")
        assert whole(filled) == before
        old = new
    done = filled("keys", "rotate")
    assert done.code == 0
    assert "PROXYWHIRL_CACHE_KEY_PREVIOUS" in done.err
    assert filled("keys", "rotate", "--key-stdin", stdin=old).code == 2


def test_an_empty_home_has_no_key_yet(run: Run, home: Path) -> None:
    """Asking for the status makes none."""
    done = run("keys", "status")
    assert done.code == 0
    assert done.rows == []
    assert done.err == f"there is no key yet in {home / 'key'}\n"
    assert not (home / "key").exists()


def garble(key: Path) -> None:
    """Put a text there that is no key."""
    key.write_text("garb\n")


def randomise(key: Path) -> None:
    """Put bytes there that are no text."""
    key.write_bytes(bytes(range(128, 256)))


def empty(key: Path) -> None:
    """Lose the content."""
    key.write_bytes(b"")


def bury(key: Path) -> None:
    """Put a directory in its place."""
    key.unlink()
    key.mkdir()


@pytest.mark.parametrize("spoil", [garble, randomise, empty, bury])
def test_status_works_where_the_key_file_holds_no_key(filled: Run, home: Path, spoil: Callable[[Path], None]) -> None:
    """The table is there, with what is wrong and what to do beside it; other commands say the same in one line."""
    (fingerprint, *_) = filled("keys", "status").rows[0]
    spoil(home / "key")
    done = filled("keys", "status")
    assert done.code == 0
    assert done.rows == [[fingerprint, "missing", "2", "2"]]
    told = filled("keys", "status", "--json").json
    assert (told["current"], [key["key"] for key in told["keys"]]) == (None, [fingerprint])
    refused = filled("list")
    assert refused.code == 1
    assert refused.err.count("\n") == 1
    for text in (done.err, told["trouble"], refused.err):
        assert str(home / "key") in text
        assert "restore it from a back-up, or set PROXYWHIRL_CACHE_ENCRYPTION_KEY" in text
        assert "codec" not in text
        assert "Errno" not in text


def test_status_works_without_a_second_tier_that_can_be_opened(filled: Run, home: Path) -> None:
    """It says which tier is left out, and shows the other one."""
    (home / "cache" / "mark.json").unlink()
    (home / "cache" / "mark.json").mkdir()
    done = filled("keys", "status")
    assert done.code == 0
    assert [row[1:] for row in done.rows] == [["current", "2"]]
    assert "tier l2 is left out" in done.err

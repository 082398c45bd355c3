"""`proxywhirl export`, and `import` of what it wrote."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

LIST = "http://203.0.113.1:80\nsocks5://alice:s3cret@203.0.113.2:1080\nhttp://203.0.113.3:3128\n"


@pytest.fixture
def filled(run: Run) -> Run:
    """Import three proxies, one with a credential, and give the runner."""
    run("import", "-", "--source", "shop", "--tag", "fast", "--country", "DE", stdin=LIST)
    return run


def whole(run: Run) -> list[dict[str, Any]]:
    """Return everything that the store holds, credentials included."""
    return [json.loads(line) for line in run("export", "--with-credentials").out.splitlines()]


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_an_export_with_credentials_is_read_back_whole(
    filled: Run, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In each format another home gets every field of every entry, and the file has mode 0600."""
    path = tmp_path / f"store.{form}"
    done = filled("export", path, "--with-credentials")
    assert (done.code, done.out, done.err) == (0, "", "exported 3\n")
    assert path.stat().st_mode & 0o777 == 0o600
    before = whole(filled)
    monkeypatch.setenv("PROXYWHIRL_HOME", str(tmp_path / "other"))
    assert filled("import", path, "--json").json == {"loaded": 3, "skipped": 0, "failed": 0, "ignored": 0}
    assert whole(filled) == before
    assert {entry["password"] for entry in before} == {None, "s3cret"}


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_an_export_holds_no_secret_unless_asked_for(filled: Run, form: str) -> None:
    """On stdout, in each format, username and password read `***`."""
    done = filled("export", "--format", form)
    assert done.err == "exported 3, without credentials\n"
    assert "s3cret" not in done.out
    assert "alice" not in done.out
    assert "***" in done.out


def test_an_export_without_credentials_keeps_the_stored_ones(filled: Run, tmp_path: Path) -> None:
    """Read back over the same store it changes no credential."""
    path = tmp_path / "store.jsonl"
    filled("export", path)
    assert filled("import", path, "--json").json == {"loaded": 0, "skipped": 3, "failed": 0, "ignored": 0}
    assert {entry["username"] for entry in whole(filled)} == {None, "alice"}


def test_three_stars_never_become_a_credential(filled: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another home the entry without its credential is left out, and said so."""
    path = tmp_path / "store.jsonl"
    filled("export", path)
    monkeypatch.setenv("PROXYWHIRL_HOME", str(tmp_path / "other"))
    done = filled("import", path, "--json")
    assert done.json == {"loaded": 2, "skipped": 0, "failed": 1, "ignored": 0}
    assert done.err == "store.jsonl: 1 not taken in: damaged, or new here and exported without the credentials\n"
    assert {entry["username"] for entry in whole(filled)} == {None}


def test_what_was_removed_stays_removed(filled: Run, tmp_path: Path) -> None:
    """An export that holds a removed proxy does not bring it back."""
    path = tmp_path / "store.jsonl"
    filled("export", path, "--with-credentials")
    filled("remove", "203.0.113.1:80")
    done = filled("import", path)
    assert done.out == "loaded 0, skipped 3 (known already), failed 0, ignored 0 (no proxies)\n"
    assert done.err.startswith("1 of those skipped were removed before and stay out")
    assert len(whole(filled)) == 2


def test_a_time_to_live_may_be_given_anew(filled: Run, tmp_path: Path) -> None:
    """--ttl replaces the times to live of an export."""
    path = tmp_path / "store.jsonl"
    filled("export", path, "--with-credentials")
    filled("clear", "--yes")
    filled("import", path, "--ttl", "600")
    assert {entry["ttl_seconds"] for entry in whole(filled)} == {600}


def test_options_that_an_export_answers_itself_are_refused(filled: Run, tmp_path: Path) -> None:
    """--tag and its like would do nothing to an export: that is wrong usage, and says so."""
    path = tmp_path / "store.jsonl"
    filled("export", path)
    done = filled("import", path, "--tag", "slow")
    assert done.code == 2
    assert "store.jsonl is an export" in done.err


def test_an_export_that_is_damaged_all_over_is_an_error(filled: Run, tmp_path: Path) -> None:
    """A file that begins like an export and holds no entry is refused by name."""
    path = tmp_path / "store.jsonl"
    path.write_text('{"proxy_url": 1, "fetch_time": 2}\n')
    done = filled("import", path)
    assert done.code == 1
    assert done.err.startswith("proxywhirl: store.jsonl: it looks like what `proxywhirl export` writes")


def test_an_empty_store_makes_the_round_trip(run: Run, tmp_path: Path) -> None:
    """Nothing is exported, and nothing imported, without an error."""
    for form in ("jsonl", "json"):
        path = tmp_path / f"store.{form}"
        assert run("export", path).err == "exported 0, without credentials\n"
        assert run("import", path).code == 0


def test_an_export_comes_through_a_pipe_in_any_pieces(filled: Run, spawn: Callable[..., Any], tmp_path: Path) -> None:
    """`import -` knows an export though its first bytes come alone."""
    text = filled("export", "--with-credentials").out
    with spawn("import", "-", "--json", "--home", tmp_path / "other") as process:
        process.stdin.write(text[:3])
        process.stdin.flush()
        out, _ = process.communicate(text[3:], timeout=60)
    assert json.loads(out) == {"loaded": 3, "skipped": 0, "failed": 0, "ignored": 0}


def test_a_file_that_cannot_be_written_is_an_error(filled: Run, tmp_path: Path) -> None:
    """A directory that is not there is named in one line."""
    done = filled("export", tmp_path / "nowhere" / "store.jsonl")
    assert done.code == 1
    assert re.fullmatch(r"proxywhirl: .*/nowhere/store.jsonl cannot be written: No such file or directory\n", done.err)


def test_a_full_disk_is_an_error_in_one_line(filled: Run, home: Path) -> None:
    """Output that cannot be written ends in exit code 1, whatever was buffered."""
    command = subprocess.run(
        ["sh", "-c", 'exec "$0" -m proxywhirl list > /dev/full', sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert command.returncode == 1
    assert command.stderr == "proxywhirl: the system: No space left on device\n"


def test_a_link_stays_a_link(run: Run, tmp_path: Path) -> None:
    """Exporting to a symbolic link writes the file that it names."""
    run("add", "203.0.113.1:80")
    target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(target)
    run("export", link)
    assert link.is_symlink()
    assert len(target.read_text().splitlines()) == 1


def test_a_pipe_is_written_through(run: Run, tmp_path: Path) -> None:
    """Exporting to a named pipe reaches its reader, and the pipe stays one."""
    run("add", "203.0.113.1:80")
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    with subprocess.Popen(["cat", fifo], stdout=subprocess.PIPE, text=True) as reader:
        run("export", fifo)
        assert reader.stdout is not None
        assert len(reader.stdout.read().splitlines()) == 1
    assert fifo.is_fifo()

"""`proxywhirl doctor` where files are in the wrong state: what it says, what it mends, and that the rest goes on.

The modes of files stop nobody who runs as root, so that such a process gives up that right.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

ROOT_RIGHTS = "-dac_override,-dac_read_search,-fowner"
BOUND = ("setpriv", "--bounding-set", ROOT_RIGHTS, "--inh-caps", ROOT_RIGHTS)
L3_OFF = "[cache]\nl3_config = {enabled = false}\n"

posix_modes = pytest.mark.skipif(
    os.geteuid() == 0 and shutil.which("setpriv") is None, reason="root is stopped by no mode, and cannot give that up"
)


def bound(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command as one whom modes stop."""
    prefix = BOUND if os.geteuid() == 0 else ()
    command = [*prefix, sys.executable, "-m", "proxywhirl", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)


def mode(path: Path) -> int:
    """Return the mode of a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def store(run: Run, home: Path) -> Path:
    """Make a store of two entries, and give its home."""
    assert run("import", "-", stdin="203.0.113.1:80\nalice:s3cret@203.0.113.2:80\n").code == 0
    return home


@posix_modes
def test_a_shard_that_is_closed_stops_no_command_and_is_mended(store: Path) -> None:
    """The third tier serves, the log names file and deed once, the doctor names them too and opens the file again."""
    shard = store / "cache" / "shard-04.jsonl"
    shard.chmod(0)
    listed = bound("list")
    assert listed.returncode == 0
    assert listed.stdout.count("203.0.113.") == 2
    (said,) = listed.stderr.splitlines()
    assert str(shard) in said
    assert "doctor --repair" in said
    assert bound("add", "203.0.113.3:80").returncode == 0
    found = bound("doctor")
    assert found.returncode == 1
    assert "cache/shard-04.jsonl\tits own user cannot read and write it (mode 000)" in found.stdout
    repaired = bound("doctor", "--repair")
    assert repaired.returncode == 0, repaired.stdout
    assert "shard-04.jsonl\tits own user cannot read and write it (mode 000)\tmended" in repaired.stdout
    assert mode(shard) == 0o600
    assert bound("list").stderr == ""
    assert bound("doctor").returncode == 0


@posix_modes
@pytest.mark.parametrize("directory", ["db", "cache"])
def test_a_closed_directory_is_reported_and_mended(store: Path, directory: str) -> None:
    """There is a report with advice, whichever it is; other commands go on without the second tier alone."""
    (store / directory).chmod(0)
    try:
        found = bound("doctor")
        assert found.returncode == 1
        rows = [line.split("\t") for line in found.stdout.splitlines()]
        assert rows[0] == ["WHERE", "WHAT IS WRONG", "WHAT TO DO"]
        assert [
            directory,
            "its own user cannot read and write it (mode 000)",
            "run `proxywhirl doctor --repair`, or chmod 700",
        ] in rows
        assert bound("list").returncode == (1 if directory == "db" else 0)
        assert bound("doctor", "--repair").returncode == 0
    finally:
        (store / directory).chmod(0o700)
    assert bound("doctor").returncode == 0
    assert bound("list").stdout.count("203.0.113.") == 2


def test_a_file_in_the_place_of_the_second_tier_stops_no_command(store: Path, process: Run) -> None:
    """What to do is to move it away, and says the doctor so."""
    shutil.rmtree(store / "cache")
    (store / "cache").touch(mode=0o600)
    listed = process("list")
    assert listed.code == 0
    assert len(listed.rows) == 2
    assert "move it away" in listed.err
    found = process("doctor")
    assert found.code == 1
    assert "a file stands in its place: move that away" in found.out
    assert "let this user read it" not in found.out
    (store / "cache").unlink()
    assert process("doctor").code == 0
    assert process("list").err == ""


@posix_modes
def test_a_database_that_was_read_only_for_a_time_can_be_used_again(store: Path) -> None:
    """Its side files, made meanwhile, had its mode: they get the new one when it is opened."""
    database = store / "db" / "proxywhirl.db"
    database.chmod(0o400)
    owed = bound("add", "203.0.113.3:80")
    assert f"let this user write to {database} and {database}-wal and {database}-shm" in owed.stderr
    assert {mode(path) for path in store.glob("db/proxywhirl.db*")} == {0o400}
    database.chmod(0o600)
    added = bound("add", "203.0.113.4:80")
    assert (added.returncode, added.stdout) == (0, "added http://203.0.113.4:80\n")
    assert bound("list").stdout.count("203.0.113.") == 4
    assert {mode(path) for path in store.glob("db/proxywhirl.db*")} == {0o600}


def test_a_repair_closes_everything_that_was_opened_to_others(store: Path, run: Run) -> None:
    """Directories, notes, locks and the settings, after a move of the second tier too; nothing is left to say then."""
    assert run("migrate", "--to", "sqlite").code == 0
    everything = [store, *store.rglob("*")]
    for path in everything:
        path.chmod(0o777)
    found = run("doctor")
    assert found.code == 1
    assert "settings.toml" in found.out
    assert run("doctor", "--repair").code == 0
    assert [path for path in everything if path.exists() and mode(path) & 0o077] == []
    assert run("doctor").out == ""


def test_settings_that_others_may_read_are_no_finding_without_a_secret_in_them(store: Path, run: Run) -> None:
    """An editor makes a file of mode 0644; only who may write it could harm the store."""
    (store / "settings.toml").write_text("[gateway]\nport = 1\n")
    (store / "settings.toml").chmod(0o644)
    assert run("doctor").code == 0
    (store / "settings.toml").chmod(0o664)
    assert run("doctor").code == 1
    (store / "settings.toml").write_text('[gateway]\nusername = "u"\npassword = "s3cret"\n')
    (store / "settings.toml").chmod(0o644)
    assert run("doctor").code == 1


def test_what_was_lost_while_the_store_was_opened_is_a_finding(store: Path, run: Run) -> None:
    """A shard that is gone is made anew at once: that is no loss above the third tier, and one without it."""
    shard = next(path for path in (store / "cache").glob("shard-*") if b'"op":"put"' in path.read_bytes())
    shard.unlink()
    found = run("doctor")
    assert found.code == 0
    assert "what it held is read from below again" in found.out or "mended" in found.out
    assert run("list").code == 0
    (store / "settings.toml").write_text(L3_OFF)
    shard.unlink()
    found = run("doctor")
    assert found.code == 1
    assert "what it held is lost" in found.out
    assert "restore a back-up" in found.out
    assert run("doctor").code == 0


def test_the_users_rules_are_looked_at(run: Run, home: Path) -> None:
    """Every wrong rule is told with its file and what to do; where none is wrong, those that can never decide."""
    assert run("add", "http://192.0.2.8:8080").code == 0
    rules = home / "ban-rules.toml"
    rules.write_text('[one]\nstaus = 404\n[two]\nbody_regex = "("\n')
    ended = run("doctor", "--json")
    assert ended.code == 1
    assert [(found["where"], found["what"][:10]) for found in ended.json] == [
        (str(rules), "rule 'one'"),
        (str(rules), "rule 'two'"),
    ]
    assert all("correct it" in found["advice"] for found in ended.json)
    rules.write_text('[one]\nstatus = 404\n[two]\nstatus = 404\nbody = "x"\n')
    ended = run("doctor")
    assert (ended.code, ended.rows[0][0]) == (1, "ban-rules.toml")
    assert "'two' never decides: whenever it holds, so does one" in ended.rows[0][1]
    rules.write_bytes(b"# caf\xe9")
    (found,) = run("doctor", "--json").json
    assert "cannot be read" in found["what"]
    rules.write_text("[one]\nstatus = 404\n")
    assert run("doctor").code == 0


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
def test_rules_that_others_may_write_are_closed(run: Run, home: Path) -> None:
    """Whoever may write the rules decides what is a ban; reading them tells nobody a secret."""
    assert run("add", "http://192.0.2.8:8080").code == 0
    rules = home / "ban-rules.toml"
    rules.write_text("[one]\nstatus = 404\n")
    rules.chmod(0o644)
    assert run("doctor").code == 0
    rules.chmod(0o666)
    assert run("doctor").code == 1
    assert run("doctor", "--repair").code == 0
    assert mode(rules) == 0o600

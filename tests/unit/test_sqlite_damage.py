"""Damage to an SQLite file: what is set aside, what is saved of it, and what is no damage."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import Batch
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.errors import FormatVersionError, TierError
from proxywhirl.state.database import Database

PAGE = 4096
COUNT = 2000


def put(tier: SqliteTier, *keys: str) -> None:
    """Write records under keys."""
    puts = [Record(key, "http://192.0.2.1:80", f"source of {key}", 1.0, 60, 61.0, 1.0) for key in keys]
    tier.transact([], lambda _: Batch(puts=puts))


def keys(tier: SqliteTier) -> set[str]:
    """Name everything that a tier holds."""
    return {record.key for record in tier.scan("", 10 * COUNT)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a store of `COUNT` entries, closed, with a note and a removal."""
    path = tmp_path / "tier.db"
    tier = SqliteTier(path, authority=True)
    put(tier, "gone", *(f"k{n:05}" for n in range(COUNT)))
    tier.transact([], lambda _: Batch(deletes=["gone"]))
    tier.set_meta("store_id", "the-one")
    tier.close()
    return path


def garbage(path: Path) -> None:
    """Overwrite everything."""
    path.write_bytes(os.urandom(path.stat().st_size))


def short(path: Path) -> None:
    """Cut the second half off."""
    os.truncate(path, path.stat().st_size // 2)


def emptied(path: Path) -> None:
    """Leave a file of no bytes."""
    os.truncate(path, 0)


def stump(path: Path) -> None:
    """Leave less than a header."""
    os.truncate(path, 50)


def flipped(path: Path) -> None:
    """Change the first byte of the header."""
    overwrite(path, 0, b"X")


def other_tables(path: Path) -> None:
    """Change the name of a column where the tables are described."""
    content = path.read_bytes()
    overwrite(path, content.index(b"failure_count INTEGER"), b"failure_cOunt")
    assert path.read_bytes() != content


def overwrite(path: Path, at: int, content: bytes) -> None:
    """Write bytes into a file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


@pytest.mark.parametrize("harm", [garbage, short, emptied, stump, flipped, other_tables])
@pytest.mark.parametrize("authority", [True, False])
def test_a_damaged_file_is_set_aside_at_opening_and_a_new_one_works(
    path: Path, caplog: pytest.LogCaptureFixture, harm: Callable[[Path], None], *, authority: bool
) -> None:
    """It is kept as it is under a name that tells, with its mode; the log names it; writing goes on."""
    harm(path)
    content = path.read_bytes()
    with caplog.at_level(logging.WARNING):
        tier = SqliteTier(path, authority=authority)
    aside = tier.set_aside
    assert aside is not None
    assert aside.name.startswith("tier.db.damaged-20")
    assert aside.read_bytes() == content
    assert aside.stat().st_mode & 0o777 == 0o600
    assert str(aside) in caplog.text
    assert not tier.damaged
    found = keys(tier)
    assert found <= {f"k{n:05}" for n in range(COUNT)}
    assert len(tier) == len(found)
    if not authority or harm is garbage:
        assert (found, tier.revision) == (set(), 0)
    if authority:
        put(tier, "new")
        assert "new" in keys(tier)
    tier.close()
    again = SqliteTier(path, authority=authority)
    assert again.set_aside is None
    assert len(keys(again)) == len(found) + authority
    again.close()


def test_what_a_shorter_file_still_holds_is_saved(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Entries on the pages that are left are there; the log says how many; readers start anew."""
    short(path)
    with caplog.at_level(logging.WARNING):
        tier = SqliteTier(path, authority=True)
    found = keys(tier)
    assert COUNT // 4 < len(found) < COUNT
    assert "rows were saved" in caplog.text
    for key in found:
        record = tier.peek(key)
        assert record is not None
        assert record.source == f"source of {key}"
    assert tier.revision > COUNT
    assert tier.changes_since(COUNT, 10).reset
    assert tier.get_meta("store_id") == "the-one"
    tier.close()


def test_a_page_of_garbage_costs_its_own_rows_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whichever page of rows is overwritten: a read that meets it says so, and all other rows are saved."""
    connection = apsw.Connection(str(path))
    pages = [
        int(str(number))
        for (number,) in connection.execute(
            "SELECT pageno FROM dbstat WHERE name = 'entries' AND pagetype = 'leaf' ORDER BY pageno"
        )
    ]
    connection.close()
    per_page = COUNT / len(pages)
    for page in (pages[0], pages[len(pages) // 2], pages[-1]):
        sound = path.read_bytes()
        overwrite(path, (page - 1) * PAGE, b"\xff" * PAGE)
        tier = SqliteTier(path, authority=True)
        if page != pages[-1]:  # there, opening meets it
            assert tier.set_aside is None
            with pytest.raises(TierError, match="damaged"):
                tier.scan("", COUNT + 1)
            assert tier.damaged
            tier.reopen()
        assert not tier.damaged
        assert tier.set_aside is not None
        found = keys(tier)
        assert COUNT - 2 * per_page < len(found) < COUNT
        assert len(tier) == len(found)
        assert f"{COUNT - len(found)} lost" in caplog.text
        put(tier, "new")
        assert tier.examine() == []
        tier.close()
        path.write_bytes(sound)


def test_a_text_that_is_none_is_damage_and_costs_its_row(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bytes that are no UTF-8 are told as damage, without what was read; every other row stays, here and on saving."""
    path.write_bytes(path.read_bytes().replace(b"source of k00007", b"\xff\xfeurce of k00007"))
    tier = SqliteTier(path, authority=True)
    assert tier.get_many(["k00007", "k00008"]).keys() == {"k00008"}
    assert tier.get("k00007") is None
    assert "1 lost" in caplog.text
    assert "urce of k" not in caplog.text
    assert (tier.corrupted, len(tier)) == (1, COUNT - 1)
    tier.reopen()
    assert keys(tier) == {f"k{n:05}" for n in range(COUNT)} - {"k00007"}
    tier.close()


def test_another_process_follows_to_the_new_file_and_loses_no_write(path: Path) -> None:
    """One that has the damaged file open notices at its next write or look, and harms the new one's log in nothing."""
    one, other, third = (SqliteTier(path, authority=True) for _ in range(3))
    put(one, "before")
    one.reopen()
    assert other.changed_elsewhere()
    assert "before" in other
    put(third, "after")
    put(other, "last")
    assert {"before", "after", "last"} < keys(one)
    other.reopen()  # it met damage, too, and comes second: now it is the newest file that goes
    third.close()
    put(one, "end")
    assert {"before", "after", "last", "end"} < keys(other)
    one.close()
    other.close()
    assert len(list(path.parent.glob("tier.db.damaged-*[Z0-9]"))) == 2


def test_of_two_that_meet_the_same_damage_one_sets_it_aside(path: Path) -> None:
    """The second finds another file in place and opens that."""
    one, other = (SqliteTier(path, authority=True) for _ in range(2))
    put(one, "a")
    one.reopen()
    other.reopen()
    assert other.set_aside is None
    assert "a" in other
    one.close()
    other.close()


def test_a_file_that_is_gone_takes_no_write_and_is_not_made_again_by_itself(path: Path) -> None:
    """What would go to a file without a name is refused; with the file back it goes on."""
    tier = SqliteTier(path, authority=True)
    away = path.with_name("away")
    path.rename(away)
    with pytest.raises(TierError, match="is gone"):
        put(tier, "lost")
    with pytest.raises(TierError, match="is gone"):
        tier.changed_elsewhere()
    assert not path.exists()
    away.rename(path)
    put(tier, "kept")
    assert "kept" in tier
    assert "lost" not in tier
    tier.close()


def test_a_log_that_is_left_of_a_lost_database_is_set_aside(path: Path) -> None:
    """SQLite would remove it without a word."""
    Path(f"{path}-wal").write_bytes(b"log")
    path.unlink()
    tier = SqliteTier(path, authority=True)
    assert tier.set_aside is not None
    assert Path(f"{tier.set_aside}-wal").read_bytes() == b"log"
    assert len(tier) == 0
    tier.close()


def newer(path: Path) -> None:
    """Claim a format from the future."""
    with apsw.Connection(str(path)) as connection:
        connection.pragma("user_version", 99)
    connection.close()


def foreign(path: Path) -> None:
    """Put another program's database in place, with a version of its own."""
    path.unlink()
    with apsw.Connection(str(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (x)")
        connection.pragma("user_version", 1)
    connection.close()


def foreign_without_version(path: Path) -> None:
    """Put another program's database in place."""
    foreign(path)
    with apsw.Connection(str(path)) as connection:
        connection.pragma("user_version", 0)
    connection.close()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (newer, FormatVersionError, "version 99"),
        (foreign, TierError, "another program's"),
        (foreign_without_version, TierError, "another program's"),
    ],
)
def test_what_is_no_damage_is_left_alone(
    path: Path, change: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    """A newer format and another program's file are refused, and stay as they are."""
    change(path)
    content = path.read_bytes()
    with pytest.raises(error, match=message):
        SqliteTier(path, authority=True)
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["tier.db"]


def test_an_index_that_someone_added_is_no_damage(path: Path) -> None:
    """What the file holds beyond its tables is left alone."""
    with apsw.Connection(str(path)) as connection:
        connection.execute("CREATE INDEX mine ON entries (source)")
    connection.close()
    tier = SqliteTier(path, authority=True)
    assert (tier.set_aside, len(tier)) == (None, COUNT)
    tier.close()


def test_an_older_format_is_saved_as_it_is_and_then_migrated(tmp_path: Path) -> None:
    """Rows are taken over into the tables of their own version."""
    path = tmp_path / "a.db"
    first = ["CREATE TABLE t (x INTEGER PRIMARY KEY, y TEXT)"]
    old = Database(path, [first])
    with old.writing() as connection:
        connection.executemany("INSERT INTO t VALUES (?, ?)", [(n, f"{n}" * 200) for n in range(500)])
    old.close()
    short(path)
    new = Database(path, [first, ["ALTER TABLE t ADD COLUMN z DEFAULT 7"]])
    assert new.salvaged is not None
    assert 0 < new.salvaged.saved < 500
    assert new.connection.execute("SELECT DISTINCT z FROM t").fetchall() == [(7,)]
    new.close()


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        ("UPDATE state SET revision = 7", "readers miss"),
        ("UPDATE state SET floor = 99999", "begin after its end"),
        ("UPDATE state SET served = 7", "number of entries"),
        ("UPDATE state SET stored = 7", "number of entries"),
        ("UPDATE state SET buried = 7", "number of removals"),
        ("INSERT INTO tombstones VALUES (9, 'k00001')", "both there and removed"),
        ("UPDATE entries SET generation = 99999 WHERE revision = 5", "before they were made"),
    ],
)
def test_examining_finds_what_does_not_agree_and_mends_it(path: Path, harm: str, what: str) -> None:
    """A sound file has no findings; each disagreement is told, stays without `repair`, and is gone after it."""
    tier = SqliteTier(path, authority=True)
    assert tier.examine() == []
    other = apsw.Connection(str(path))
    other.execute(harm)
    other.close()
    for repair in (False, True):
        findings = tier.examine(repair=repair)
        assert any(what in finding.what for finding in findings)
        assert {(finding.where, finding.repaired) for finding in findings} == {(str(path), repair)}
    assert tier.examine() == []
    assert len(tier) == COUNT
    put(tier, "new")
    assert tier.revision >= COUNT + 2
    tier.close()


def test_examining_finds_a_damaged_page_and_repair_saves_the_others(path: Path) -> None:
    """The finding says that the file is to be set aside; with `repair` it was."""
    overwrite(path, 9 * PAGE, b"\xff" * PAGE)
    tier = SqliteTier(path, authority=True)
    for repair in (False, True):
        assert {finding.repaired for finding in tier.examine(repair=repair)} == {repair}
        assert len(list(path.parent.glob("*.damaged-*[Z0-9]"))) == repair
    assert tier.examine() == []
    assert len(tier) > COUNT * 0.9
    tier.close()


def test_nothing_is_saved_of_an_empty_file(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What every new file holds was not taken over from it."""
    path.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        SqliteTier(path, authority=True).close()
    assert "made anew: 0 rows were saved" in caplog.text


def test_damage_met_in_use_is_contained_at_the_next_write(path: Path) -> None:
    """The call that meets it fails; the next write finds the file set aside, and what can be read of it saved."""
    tier = SqliteTier(path, authority=True)
    content = path.read_bytes()
    overwrite(path, PAGE, b"\xff" * (len(content) - PAGE))
    with pytest.raises(TierError, match="damaged"):
        put(tier, "new")
    assert tier.damaged
    put(tier, "new")
    assert (tier.damaged, tier.set_aside is not None) == (False, True)
    assert tier.get("new") is not None
    tier.close()


@pytest.mark.parametrize("complete", [True, False])
def test_a_process_that_dies_while_it_saves_a_file_loses_nothing(path: Path, *, complete: bool) -> None:
    """The damaged file keeps its name until the new one is whole, which takes the name at the next opening."""
    fresh = path.with_name("tier.db.new")
    if complete:
        path.rename(fresh)
    else:
        fresh.write_bytes(path.read_bytes()[: 3 * PAGE])
        overwrite(path, 9 * PAGE, b"\xff" * PAGE)
    tier = SqliteTier(path, authority=True)
    tier.reopen()
    assert len(tier) > COUNT * 0.9
    assert not fresh.exists()
    tier.close()


def test_a_damaged_file_stays_in_its_place_where_no_new_one_can_be_made(path: Path) -> None:
    """What it holds is still there when there is room again."""
    path.with_name("tier.db.new").mkdir()
    tier = SqliteTier(path, authority=True)
    with pytest.raises(TierError):
        tier.reopen()
    assert [file.name for file in path.parent.glob("tier.db.damaged-*")] == []
    path.with_name("tier.db.new").rmdir()
    tier.reopen()
    assert len(keys(tier)) == COUNT
    tier.close()

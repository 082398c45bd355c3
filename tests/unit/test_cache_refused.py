"""A change that the authority can never take is set aside under a name that is said, and is in nobody's way."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cache import CacheEntry, CacheManager
from proxywhirl.cache.coordination.handoff import PAGE, HintFile
from proxywhirl.cache.manifest import REFUSED
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.protocol import REPAIR
from proxywhirl.cache.tiers.sqlite.tier import SqliteTier
from proxywhirl.testing import ManualClock
from tests.unit.stores import Opener

NOW = 1_760_000_000.0


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands at `NOW`."""
    return ManualClock(now=NOW)


@pytest.fixture
def folder(tmp_path: Path, opened: Opener) -> Path:
    """Give the folder of the second tier of a store that holds `a` and `b`, and that nobody has open."""
    cache = opened()
    cache.put_many([entry("a"), entry("b")])
    cache.close()
    return tmp_path / "l2"


def entry(key: str) -> CacheEntry:
    """Make an entry that has a credential and does not expire soon."""
    at = datetime.fromtimestamp(NOW, UTC)
    return CacheEntry(
        key=key, proxy_url="http://192.0.2.1:80", source="s", fetch_time=at, ttl_seconds=10**9, password="S3CRET"
    )


def record(key: str, **fields: Any) -> Record:
    """Make a record that is fetched after all others."""
    return replace(Record(key, "http://192.0.2.1:80", "s", NOW + 1, 60, NOW + 10**9, NOW + 1), **fields)


def owe(folder: Path, *records: Record, merge: bool = False) -> None:
    """Note that the authority is owed records."""
    file = HintFile(folder)
    file.note(records, [], base=2, at=NOW + 1, merge=merge)
    file.close()


def keys(cache: CacheManager) -> list[str]:
    """Return what is listed."""
    return [each.key for each in cache.scan()]


@pytest.mark.parametrize(
    ("fields", "merge", "why"),
    [
        ({"source": None}, False, "entry 'odd': source must be a text, not NoneType"),
        ({"status": ["x"]}, False, "entry 'odd': health_status must be a text, not list"),
        ({"attributes": '{"country":'}, True, "JSONDecodeError"),
        ({"sealed": "up.000000000000:none"}, True, "DecryptionError"),
    ],
)
def test_it_bars_nothing(
    folder: Path, opened: Opener, caplog: pytest.LogCaptureFixture, fields: dict[str, Any], merge: bool, why: str
) -> None:
    """The rest of its page is paid, others write, list and restart; the log names file, entry and reason."""
    key = "a" if merge else "odd"
    owe(folder, record("first", sealed=None), record(key, **fields), record("last"), merge=merge)
    with caplog.at_level(logging.ERROR):
        cache = opened()
        assert cache.put("c", entry("c"))
    assert keys(cache) == ["a", "b", "c", "first", "last"]
    (said,) = (each.getMessage() for each in caplog.records if each.levelno == logging.ERROR)
    assert str(folder / REFUSED) in said
    assert f"entry {key}: " in said
    assert why in said
    figures = cache.get_statistics()
    assert (figures.l2_degraded, figures.l3_degraded) == (False, False)
    assert not (folder / "debt.jsonl").exists()
    assert (folder / REFUSED).stat().st_mode & 0o777 == 0o600
    cache.close()
    cache = opened()
    assert keys(cache) == ["a", "b", "c", "first", "last"]
    for repair in (False, True):
        (finding,) = cache.verify(repair=repair)
        assert finding.where == f"l2: {REFUSED}"
        assert why in finding.what
        assert finding.advice.startswith(REPAIR)
        assert not finding.repaired
    (folder / REFUSED).unlink()
    assert cache.verify() == []


def test_it_is_one_of_many(folder: Path, opened: Opener) -> None:
    """However many pages there are, and whichever of them it is in."""
    odd = {7, PAGE - 1, PAGE, 2 * PAGE + 3}
    owe(folder, *(record(f"k{n:04}", source=None if n in odd else "s") for n in range(2 * PAGE + 10)))
    cache = opened()
    assert cache.put("c", entry("c"))
    assert len(keys(cache)) == 2 * PAGE + 10 - len(odd) + 3
    lines = [json.loads(line) for line in (folder / REFUSED).read_text().splitlines()]
    assert {line["change"]["key"] for line in lines} == {f"k{n:04}" for n in odd}


def test_no_credential_shows_in_it(folder: Path, opened: Opener) -> None:
    """It is as sealed as in the tiers."""
    tier = SqliteTier(folder.with_name("l3.db"), authority=True)
    sealed = tier.peek("a")
    tier.close()
    assert sealed is not None
    owe(folder, replace(sealed, key="odd", generation=0, source=None))  # type: ignore[arg-type]  # the point
    cache = opened()
    cache.put("c", entry("c"))
    content = (folder / REFUSED).read_text()
    assert "S3CRET" not in content
    assert '"sealed":"p' in content


def refuse(folder: Path, *records: Record) -> None:
    """Set records aside as a release would that could not write them."""
    file = HintFile(folder)
    file.note(records, [], base=2, at=NOW + 1, merge=False)

    def act(_: object) -> None:
        file.set_aside({each.key: "what it says was unheard of" for each in records})

    file.hand_over(act)
    file.close()


def test_a_repair_writes_what_can_be_written_by_now(folder: Path, opened: Opener) -> None:
    """It is told of once, as mended; the file is gone then."""
    refuse(folder, record("odd", source="it can be written"))
    cache = opened()
    assert keys(cache) == ["a", "b"]
    (finding,) = cache.verify()
    assert (
        "holds 1 changes that l3 could not take, such as that of entry odd: what it says was unheard of" in finding.what
    )
    (finding,) = cache.verify(repair=True)
    assert finding.repaired
    assert keys(cache) == ["a", "b", "odd"]
    assert cache.verify() == []
    assert not (folder / REFUSED).exists()


def test_a_repair_brings_nothing_back_that_was_removed_since(folder: Path, opened: Opener) -> None:
    """Nor over what was written since, nor after everything was removed."""
    refuse(folder, record("odd"), record("a", source="outdated"))
    cache = opened()
    cache.put_many([entry("odd"), entry("a").model_copy(update={"fetch_time": datetime.fromtimestamp(NOW + 9, UTC)})])
    assert cache.delete("odd")
    cache.verify(repair=True)
    assert {each.key: each.source for each in cache.scan()} == {"a": "s", "b": "s"}
    cache.close()
    refuse(folder, record("odd"))
    cache = opened()
    cache.clear()
    assert cache.verify(repair=True) == []
    assert keys(cache) == []


def test_it_is_told_of_where_the_third_tier_is_off(folder: Path, opened: Opener) -> None:
    """Nobody could write it then."""
    refuse(folder, record("odd"))
    cache = opened(l3_config={"enabled": False})
    (finding,) = cache.verify(repair=True)
    assert finding.where == str(folder / REFUSED)
    assert "wait for the third tier, and the settings leave L2 or L3 out" in finding.what
    cache.close()
    cache = opened()
    assert [each.repaired for each in cache.verify(repair=True)] == [True]
    assert keys(cache) == ["a", "b", "odd"]

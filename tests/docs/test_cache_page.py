"""The page on the cache: its commands do what it says, its tests exist, its fields are those of the files.

The filters for `jq` run where that is installed; that the lines fold as they say is checked in Python as well.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cache import CacheConfig, CacheManager, CacheTierConfig
from proxywhirl.cache.record import COLUMNS
from proxywhirl.cache.tiers.eviction import Standing
from proxywhirl.cache.tiers.jsonl.format import VERSION
from proxywhirl.cli.main import cli
from proxywhirl.models import Attributes, HealthCheck, HealthStatus
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cache.md").read_text(encoding="utf-8")
COPY_DATABASES, COPY_FILES, RESTORE, FOLD, QUESTIONS = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
(PROGRAM,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
L3_OFF = CacheTierConfig(enabled=False)


def shell(script: str, directory: Path, **variables: str) -> str:
    """Run a block of the page in a directory; return what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-euc", script],
        cwd=directory,
        env={**os.environ, **variables, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def without_l3(home: Path, **more: Any) -> CacheConfig:
    """Configure a store in a home whose second tier is its lowest."""
    return CacheConfig(l2_cache_dir=str(home / "cache"), key_file=str(home / "key"), l3_config=L3_OFF, **more)


def test_each_promise_names_tests_that_are_there() -> None:
    """Every row of the table of promises has a file of tests, and each exists."""
    table = PAGE.partition("| promise | tested by |")[2].partition("\n\n")[0]
    rows = table.strip().splitlines()[1:]
    for row in rows:
        files = re.findall(r"`(tests/[\w/]+\.py)`", row)
        assert files, row
        for file in files:
            assert "def test_" in (ROOT / file).read_text(encoding="utf-8") or "Contract" in (ROOT / file).read_text()


def test_the_commands_of_the_page_exist() -> None:
    """What it tells you to run is a command, and the README leads to the page."""
    named = set(re.findall(r"^proxywhirl (\w+)", PAGE, re.MULTILINE))
    assert named
    assert named <= set(cli.commands)
    assert "docs/cache.md" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_fields_of_a_put_line_are_those_of_a_record() -> None:
    """The text names each field once, and no other; required ones come first, those of eviction last."""
    text = PAGE.partition("A `put` line has ")[2].partition("The entries that are there now")[0]
    record, _, standing = text.partition("Four more fields")
    assert set(re.findall(r"`(\w+)`", record)) == set(COLUMNS)
    assert set(re.findall(r"`(\w+)`", standing)) == set(Standing._fields) - set(COLUMNS)
    assert f"version {VERSION} of the format" in standing


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, CacheConfig]:
    """Write a store of JSON lines with every kind of line in it, and give the home and its configuration."""
    config = without_l3(tmp_path)
    with CacheManager(config) as cache:
        for n in range(40):
            country = "DE" if n % 2 else "FR"
            cache.add(f"http://192.0.2.{n + 1}:80", source=f"s{n % 3}", attributes=Attributes(country=country))
        keys = [entry.key for entry in cache.scan()]
        cache.record_checks((key, HealthCheck(True, HealthStatus.HEALTHY, 1.0)) for key in keys[:20])
        for _ in range(3):
            cache.invalidate_by_health(keys[21])
        cache.delete(keys[3])
        cache.flush()
        for key in keys[4:9]:
            cache.get(key)
    window = without_l3(tmp_path / "window").model_copy(update={"l3_database_path": str(tmp_path / "w.db")})
    window.l3_config, window.l2_config = CacheTierConfig(), CacheTierConfig(max_entries=3)
    with CacheManager(window) as cache:
        for n in range(9):
            cache.add(f"http://192.0.2.{n + 1}:80", source="window")
            cache.refresh()  # single puts reach L2 in batches, of which only so many are written as there is room for
    return tmp_path, config


def folded(directory: Path) -> dict[str, dict[str, Any]]:
    """Do in Python what the filter of the page does."""
    entries: dict[str, dict[str, Any]] = {}
    for path in sorted(directory.glob("shard-*.jsonl")):
        for line in map(json.loads, path.read_bytes().splitlines()):
            match line["op"]:
                case "put":
                    entries[line["key"]] = line
                case "del":
                    entries.pop(line["key"], None)
                case "evict":
                    for key in line["keys"]:
                        entries.pop(key, None)
                case "hit" if entries.get(line["key"], {}).get("generation") == line["generation"]:
                    known = entries[line["key"]]
                    known["access_count"] = known.get("access_count", 0) + line["count"]
    return entries


def test_the_lines_say_what_the_cache_says(written: tuple[Path, CacheConfig]) -> None:
    """Folded as the page says, they are the entries that a cache reads; the kinds of lines are those of the table."""
    home, config = written
    entries = folded(home / "cache")
    with CacheManager(config) as cache:
        known = [*cache.scan(), *cache.scan(retired=True)]
    assert {(e.key, e.proxy_url, e.source, e.health_status.value, e.access_count) for e in known} == {
        (e["key"], e["url"], e["source"], e.get("status", "unknown"), e.get("access_count", 0))
        for e in entries.values()
    }
    assert len(folded(home / "window" / "cache")) == 3
    files = [*home.rglob("shard-*.jsonl"), *home.rglob("mark.json")]
    lines = [json.loads(line) for path in files for line in path.read_bytes().splitlines()]
    listed = dict(re.findall(r"^\| `(head|put|del|evict|hit|mark)` \| (.*?) \|", PAGE, re.MULTILINE))
    assert {line["op"] for line in lines} == set(listed)
    for line in lines:
        if line["op"] != "put":
            assert set(line) - {"op", "crc"} == set(re.findall(r"`(\w+)`", listed[line["op"]])), line


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not on this machine")
def test_the_filters_for_jq_answer_what_they_are_asked(written: tuple[Path, CacheConfig]) -> None:
    """The first gives what is there, the others answer the questions above them."""
    home, config = written
    shell(FOLD, home)
    assert json.loads((home / "now.json").read_text()) == folded(home / "cache")
    *urls, by_source, revision = shell(QUESTIONS, home).splitlines()
    with CacheManager(config) as cache:
        entries = list(cache.scan())
    healthy = {e.proxy_url for e in entries if e.is_healthy and e.attributes.country == "DE"}
    assert sorted(urls) == sorted(healthy)
    assert healthy
    assert json.loads(by_source) == Counter(e.source for e in entries)
    assert int(revision) > 40


def take_in(runtime: Runtime, *texts: str) -> None:
    """Add proxies."""
    for text in texts:
        assert runtime.cache.add(text, source="user", ttl=float("inf")) is not None


@pytest.mark.parametrize("left", [False, True])
def test_a_backup_of_databases_in_use_is_whole_and_restores(tmp_path: Path, *, left: bool) -> None:
    """What was there when it was made is there again, with credentials and what was kept out; what came later is not.

    So it is too where the window is left in its place: it was ahead, and notices.
    """
    home, backup = tmp_path / "home", tmp_path / "backup"
    settings = Settings.load(home)
    with Runtime(settings) as runtime:
        take_in(runtime, "http://alice:s3cret@192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80")
        runtime.remove([key := CacheManager.generate_cache_key("192.0.2.3:80")], "slow")
        shell(COPY_DATABASES, home, BACKUP=str(backup))
        take_in(runtime, "http://alice:changed@192.0.2.1:80", "192.0.2.4:80")
        assert runtime.cache.delete(CacheManager.generate_cache_key("192.0.2.2:80"))
    assert all(path.stat().st_mode & 0o077 == 0 for path in backup.rglob("*"))
    shell(RESTORE.replace("rm -rf db cache", "rm -rf db") if left else RESTORE, home, BACKUP=str(backup))
    with Runtime(settings) as runtime:
        later = CacheManager.generate_cache_key("192.0.2.4:80")
        assert runtime.cache.get(later) is None
        assert sorted(entry.proxy_url for entry in runtime.cache.scan()) == [
            "http://192.0.2.1:80",
            "http://192.0.2.2:80",
        ]
        alice = runtime.cache.get(CacheManager.generate_cache_key("http://alice@192.0.2.1:80"))
        assert alice is not None
        assert alice.password is not None
        assert alice.password.get_secret_value() == "s3cret"
        assert set(runtime.blocked()) == {key}
        take_in(runtime, "192.0.2.5:80")
        assert runtime.cache.get_statistics().l2_stats.current_size <= 3
    with Runtime(settings) as runtime:
        assert runtime.cache.get(later) is None
        assert len(runtime.cache) == 3


def test_a_second_tier_of_sqlite_is_copied_by_the_same_command(tmp_path: Path) -> None:
    """With `cache/l2.db` in the place of the database it is the store that is copied."""
    config = without_l3(tmp_path / "home", l2_tier="sqlite")
    command = COPY_DATABASES.partition("done\nfor")[2].partition("    python")[2].partition("done")[0]
    command = f"python{command}".replace("db/$name.db", "cache/l2.db")
    with CacheManager(config) as cache:
        cache.add("http://192.0.2.1:80", source="user", password="s3cret")
        (tmp_path / "backup" / "cache").mkdir(parents=True)
        shell(command, tmp_path / "home", BACKUP=str(tmp_path / "backup"))
    restored = without_l3(tmp_path / "backup", l2_tier="sqlite").model_copy(update={"key_file": config.key_file})
    with CacheManager(restored) as cache:
        (entry,) = cache.scan()
        assert entry.password is not None
        assert entry.password.get_secret_value() == "s3cret"


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not on this machine")
def test_a_backup_of_json_lines_in_use_is_whole_and_restores(tmp_path: Path) -> None:
    """Entries and the notes beside them are there; a writer that is open goes on."""
    config = without_l3(tmp_path / "home")
    with CacheManager(config) as cache:
        cache.add("http://192.0.2.1:80", source="user", password="s3cret")
        shell(COPY_FILES, tmp_path / "home", BACKUP=str(tmp_path / "backup"))
        assert cache.add("http://192.0.2.2:80", source="user") is not None
    shutil.rmtree(tmp_path / "home" / "cache")
    shell("cp -Rp $BACKUP/. .", tmp_path / "home", BACKUP=str(tmp_path / "backup"))
    with CacheManager(config) as cache:
        (entry,) = cache.scan()
        assert entry.password is not None
        assert entry.password.get_secret_value() == "s3cret"


@pytest.mark.skipif(shutil.which("flock") is None, reason="flock is not on this machine")
def test_a_backup_without_the_third_tier_is_the_whole_home(tmp_path: Path) -> None:
    """Key, settings and what was removed are in it: restored as the page says, the home is what it was."""
    home, backup = tmp_path / "home", tmp_path / "backup"
    home.mkdir()
    (home / "settings.toml").write_text("[cache]\nl3_config = {enabled = false}\n")
    (home / "settings.toml").chmod(0o600)
    with Runtime(Settings.load(home)) as runtime:
        take_in(runtime, "http://alice:s3cret@192.0.2.1:80", "192.0.2.2:80")
        runtime.remove([key := CacheManager.generate_cache_key("192.0.2.2:80")], "slow")
        shell(COPY_FILES, home, BACKUP=str(backup))
        take_in(runtime, "192.0.2.3:80")
        runtime.remove([CacheManager.generate_cache_key("192.0.2.3:80")], "slow")
    assert all(path.stat().st_mode & 0o077 == 0 for path in backup.rglob("*"))
    (home / "key").unlink()
    (home / "settings.toml").unlink()
    shell(RESTORE, home, BACKUP=str(backup))
    with Runtime(Settings.load(home)) as runtime:
        assert set(runtime.blocked()) == {key}
        (alice,) = runtime.cache.scan()
        assert alice.password is not None
        assert alice.password.get_secret_value() == "s3cret"


@pytest.mark.parametrize("instant", ["before the databases", "after the entries"])
def test_a_key_that_is_changed_while_a_backup_is_made_is_in_it(tmp_path: Path, instant: str) -> None:
    """Whatever the databases are sealed with can be read from the copy; a rotation there leaves one key."""
    home, backup = tmp_path / "home", tmp_path / "backup"
    settings = Settings.load(home)
    (tmp_path / "rotate").write_text(f"{sys.executable} -m proxywhirl keys rotate --home {home} 2>/dev/null >&2\n")
    rotate = f"sh {tmp_path / 'rotate'}\n"
    before, loop, after = COPY_DATABASES.partition("for name in")
    body, done, rest = after.partition("done\n")
    changed = f"{before}{rotate}{loop}{after}"
    if instant == "after the entries":
        changed = f"{before}{loop}{body}{done}{rotate}{rest}"
    with Runtime(settings) as runtime:
        take_in(runtime, "http://alice:s3cret@192.0.2.1:80")
    shell(changed, home, BACKUP=str(backup))
    assert len((backup / "key").read_text().split()) == 2
    with Runtime(Settings.load(backup)) as runtime:
        assert runtime.cache.rotate_keys().resumed
        (alice,) = runtime.cache.scan()
        assert alice.password is not None
        assert alice.password.get_secret_value() == "s3cret"
    assert len((backup / "key").read_text().split()) == 1


def test_the_program_uses_the_store_of_the_command_line_and_makes_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run as it stands: a command reads what it added, with the key of the home; the other store has all its files."""
    home = tmp_path / "home"
    monkeypatch.setenv("PROXYWHIRL_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    exec(compile(PROGRAM, "docs/cache.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == ["http://192.0.2.7:8080 unknown", "True 1"]
    listed = subprocess.run(
        [sys.executable, "-m", "proxywhirl", "export", "--with-credentials"], capture_output=True, text=True, check=True
    )
    assert "s3cret" in listed.stdout
    assert sorted(path.name for path in tmp_path.rglob("*key")) == ["key", "key"]
    assert {path.name for path in (tmp_path / "own").iterdir()} == {"cache", "db", "key"}

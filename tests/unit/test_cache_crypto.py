"""Credentials at rest: sealing, the key file, the key check."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from proxywhirl.cache import CacheConfig, CacheEntry, CacheManager, CacheTierConfig
from proxywhirl.cache.entries import EntryMapping
from proxywhirl.cache.keys.keyring import KeyFile
from proxywhirl.cache.keys.sealing import LazyPassword, Sealer
from proxywhirl.cache.manifest import key_file
from proxywhirl.cache.record import Record
from proxywhirl.errors import CacheError, DecryptionError

VARIABLE = "PROXYWHIRL_CACHE_ENCRYPTION_KEY"
URL = "http://192.0.2.1:80"
KEY = CacheManager.generate_cache_key("http://bob@192.0.2.1:80")


def a_key() -> SecretStr:
    """Make a key."""
    return SecretStr(Fernet.generate_key().decode())


@pytest.fixture(autouse=True)
def _without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def config(home: Path, **fields: object) -> CacheConfig:
    """Configure a cache in a directory."""
    places = {"l2_cache_dir": str(home / "l2"), "l3_database_path": str(home / "db" / "l3.db")}
    return CacheConfig.model_validate({**places, **fields})


def store_a_credential(home: Path, **fields: object) -> None:
    """Make a cache with one credential in it."""
    with CacheManager(config(home, **fields)) as cache:
        assert cache.add(URL, source="s", username="bob", password="hunter2")


@pytest.mark.parametrize("credentials", [("bob", "hunter2"), ("bob", None), (None, "hunter2"), ("", ""), ("ü", "☃:@/")])
def test_a_sealed_credential_opens_with_its_key(credentials: tuple[str | None, str | None]) -> None:
    """What was sealed comes back, and does not show in the sealed form."""
    sealer = Sealer(a_key())
    sealed = sealer.seal("entry", credentials)
    assert sealer.open("entry", sealed) == credentials
    assert "hunter2" not in sealed
    assert sealed != sealer.seal("entry", credentials)


def test_a_token_is_bound_to_its_entry_and_key() -> None:
    """A token that was moved, damaged or made by another key is a DecryptionError that names the entry alone."""
    sealer = Sealer(a_key())
    sealed = sealer.seal("one", ("bob", "hunter2"))
    attempts = [
        (sealer, "other", sealed),
        (sealer, "one", sealed[:-9]),
        (sealer, "one", "up:"),
        (Sealer(a_key()), "one", sealed),
    ]
    for reader, entry_key, text in attempts:
        with pytest.raises(DecryptionError, match=entry_key) as caught:
            reader.open(entry_key, text)
        assert "hunter2" not in str(caught.value)


def test_the_key_check_tells_keys_apart_however_they_are_spelled() -> None:
    """One key has one check value, another key another; neither tells the key."""
    key = a_key()
    spelled = SecretStr(key.get_secret_value() + "\n")
    assert Sealer(key).key_check == Sealer(spelled).key_check != Sealer(a_key()).key_check
    assert Sealer(key).key_check not in key.get_secret_value()


def test_a_secret_is_decrypted_when_it_is_read_and_not_before() -> None:
    """An entry with a damaged token can be had and printed; reading its password is the error."""
    mapping = EntryMapping(Sealer(a_key()))
    record = Record("k", URL, "s", 0.0, 0, 0.0, 0.0, sealed="up:damaged")
    entry = mapping.entry(record)
    assert "**********" in repr(entry)
    assert entry.model_dump(mode="json")["password"] == "***"
    assert entry.password is not None
    with pytest.raises(DecryptionError):
        entry.password.get_secret_value()
    with pytest.raises(DecryptionError, match="no key"):
        EntryMapping(None).credentials(record)


def test_a_lazy_secret_equals_a_plain_one() -> None:
    """Equality, hash and length are those of the secret; `repr` asks for nothing."""
    record = Record("k", "http://192.0.2.1:80", "s", 0.0, 0, 0.0, 0.0)
    lazy = LazyPassword(lambda _: (None, "hunter2"), record)
    assert lazy == SecretStr("hunter2")
    assert lazy != SecretStr("hunter3")
    assert lazy != "hunter2"
    assert hash(lazy) == hash(LazyPassword(lambda _: (None, "hunter2"), record))
    assert len(lazy) == 7
    assert "hunter2" not in repr(lazy) + str(lazy)


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """The file and the directories that are made for it are closed to others; the second call reads it."""
    path = tmp_path / "a" / "b" / "key"
    keeper = KeyFile(path)
    assert keeper.read() == []
    assert keeper.create()
    kept = keeper.read()
    assert not keeper.create()
    assert keeper.read() == kept != []
    assert path.stat().st_mode & 0o777 == 0o600
    assert [directory.stat().st_mode & 0o777 for directory in (path.parent, path.parent.parent)] == [0o700, 0o700]
    assert sorted(file.name for file in path.parent.iterdir()) == ["key"]


@pytest.mark.parametrize("content", [b"", b"no key", b"\xff\xfe"])
def test_a_key_file_without_a_key_is_an_error_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    """A damaged key file is never replaced, and the error names it."""
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(CacheError, match=str(path)):
        KeyFile(path).read()
    assert path.read_bytes() == content


def test_threads_that_make_the_key_at_once_agree(tmp_path: Path) -> None:
    """Of many that find no key, one makes it and all use it."""
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda _: KeyFile(tmp_path / "key").create(), range(64)))
    assert sum(made) == 1
    assert len(KeyFile(tmp_path / "key").read()) == 1


def test_a_key_is_made_beside_the_database_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a key an empty store gets one, in a file that a warning names without the key."""
    store_a_credential(tmp_path)
    path = tmp_path / "db" / "l3.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(path) in caplog.text
    assert path.read_text().strip() not in caplog.text
    caplog.clear()
    with CacheManager(config(tmp_path)) as cache:
        assert caplog.text == ""
        entry = cache.get(KEY)
    assert entry is not None
    assert entry.password == SecretStr("hunter2")


def test_the_key_file_has_its_place() -> None:
    """It is where it is configured, else beside the database, else beside the directory of L2."""
    places = {"l2_cache_dir": "/x/l2", "l3_database_path": "/x/db/l3.db"}
    assert key_file(CacheConfig.model_validate({**places, "key_file": "/y/key"})) == Path("/y/key")
    assert key_file(CacheConfig.model_validate(places)) == Path("/x/db/l3.key")
    assert key_file(CacheConfig.model_validate({**places, "l3_config": {"enabled": False}})) == Path("/x/l2.key")


@pytest.mark.parametrize("layout", [{}, {"l3_config": {"enabled": False}}, {"l2_config": {"enabled": False}}])
def test_a_lost_key_is_refused_and_nothing_is_deleted(tmp_path: Path, layout: dict[str, object]) -> None:
    """Stored credentials without their key are an error that names the setting; with the key they are back."""
    store_a_credential(tmp_path, **layout)
    path = key_file(config(tmp_path, **layout))
    key = path.read_text()
    path.unlink()
    with pytest.raises(DecryptionError, match=VARIABLE):
        CacheManager(config(tmp_path, **layout))
    assert not path.exists()
    with CacheManager(config(tmp_path, **layout, encryption_key=key)) as cache:
        entry = cache.get(KEY)
    assert entry is not None
    assert entry.password == SecretStr("hunter2")


@pytest.mark.parametrize("layout", [{}, {"l3_config": {"enabled": False}}, {"l2_config": {"enabled": False}}])
def test_a_wrong_key_is_refused(tmp_path: Path, layout: dict[str, object]) -> None:
    """Another key than the one that sealed is an error that names the setting and not the key."""
    store_a_credential(tmp_path, **layout)
    wrong = a_key()
    with pytest.raises(DecryptionError, match=f"than the one from encryption_key or {VARIABLE}") as caught:
        CacheManager(config(tmp_path, **layout, encryption_key=wrong))
    assert wrong.get_secret_value() not in str(caught.value)
    with CacheManager(config(tmp_path, **layout)) as cache:
        assert cache.get(KEY) is not None


def test_a_second_key_is_refused_while_the_first_one_is_at_work(tmp_path: Path) -> None:
    """Of two processes that opened an empty store with different keys, the one that stores second is told."""
    with (
        CacheManager(config(tmp_path, encryption_key=a_key())) as one,
        CacheManager(config(tmp_path, encryption_key=a_key())) as other,
    ):
        assert one.add(URL, source="s", username="bob", password="hunter2")
        with pytest.raises(DecryptionError, match=VARIABLE):
            other.add(URL, source="s", username="eve", password="hunter2")
        assert other.add("http://192.0.2.9:80", source="s") is not None


def test_a_database_that_was_lost_is_guarded_by_the_key_again(tmp_path: Path) -> None:
    """The key check of the tier that is left is noted in the one that is rebuilt."""
    store_a_credential(tmp_path)
    for path in (tmp_path / "db").glob("l3.db*"):
        path.unlink()
    CacheManager(config(tmp_path)).close()
    with pytest.raises(DecryptionError):
        CacheManager(config(tmp_path, encryption_key=a_key(), l2_config=CacheTierConfig(enabled=False)))


def test_no_key_is_made_for_a_cache_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache in memory alone writes nothing at all, and gives credentials back."""
    monkeypatch.chdir(tmp_path)
    off = CacheTierConfig(enabled=False)
    with CacheManager(CacheConfig(l2_config=off, l3_config=off)) as cache:
        cache.add(URL, source="s", username="bob", password="hunter2")
        entry = cache.get(KEY)
    assert entry is not None
    assert entry.password == SecretStr("hunter2")
    assert list(tmp_path.iterdir()) == []


def test_no_secret_is_plain_in_a_file_or_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither username nor password is in any file of the home, nor in what was logged, whatever was done."""
    caplog.set_level(logging.DEBUG)
    with CacheManager(config(tmp_path)) as cache:
        entry = cache.add(URL, source="s", username="bob-the-user", password="hunter2")
        assert isinstance(entry, CacheEntry)
        cache.put(entry.key, entry)
        for _ in range(3):
            cache.get(entry.key)
            cache.invalidate_by_health(entry.key)
        cache.export_to_file(tmp_path / "out.json")
    assert "hunter2" not in caplog.text
    assert "bob-the-user" not in caplog.text
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        content = path.read_bytes()
        assert b"hunter2" not in content, path
        assert b"bob-the-user" not in content, path
        assert path.stat().st_mode & 0o077 == 0, path

"""Where keys come from, which of them open what is stored, and what a change of the key leaves."""

from __future__ import annotations

import itertools
import pickle
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from proxywhirl.cache import CacheConfig, CacheManager
from proxywhirl.cache.keys.keyring import KeyFile, exclusively
from proxywhirl.cache.keys.keyset import KeyNotes, noted, tokens_by_key
from proxywhirl.cache.keys.rekey import KeyStatus, key_status
from proxywhirl.cache.keys.sealing import LazyPassword, Sealer, fingerprint, generate_key, sealed_with
from proxywhirl.cache.opening import open_tiers
from proxywhirl.cache.record import Record
from proxywhirl.cache.tiers.memory import MemoryTier
from proxywhirl.cache.tiers.protocol import Batch
from proxywhirl.errors import CacheError, DecryptionError
from proxywhirl.settings import Settings

OFF: dict[str, Any] = {"enabled": False}
LAYOUTS: dict[str, dict[str, Any]] = {
    "JSONL and SQLite": {},
    "SQLite and SQLite": {"l2_backend": "sqlite"},
    "JSONL alone": {"l3_config": OFF},
    "SQLite alone": {"l2_config": OFF},
}
every_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))

Config = Callable[..., CacheConfig]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Give a function that configures a cache in the test's directory, without a key of the user's."""
    monkeypatch.delenv("PROXYWHIRL_CACHE_ENCRYPTION_KEY", raising=False)
    monkeypatch.delenv("PROXYWHIRL_CACHE_KEY_PREVIOUS", raising=False)
    places = {"l2_cache_dir": str(tmp_path / "l2"), "l3_database_path": str(tmp_path / "l3.db")}
    return lambda **fields: CacheConfig.model_validate({**places, "key_file": str(tmp_path / "key"), **fields})


def text(key: SecretStr) -> str:
    """Return a key in the clear."""
    return key.get_secret_value()


def fill(cache: CacheManager, count: int = 3, first: int = 0) -> None:
    """Add proxies with a password each."""
    for n in range(first, first + count):
        assert cache.add(f"http://h{n}.example:80", source="s", username="bob", password=f"pass{n}", ttl=1e9)


def passwords(cache: CacheManager) -> list[str]:
    """Decrypt everything in the order of the hosts."""
    found = sorted((entry.proxy_url, entry.password) for entry in cache.scan())
    return [secret.get_secret_value() for _, secret in found if secret is not None]


def status(config: CacheConfig) -> KeyStatus:
    """Look at the keys from outside."""
    tiers = open_tiers(config)
    try:
        return key_status(config, tiers)
    finally:
        for _, tier in tiers:
            tier.close()


# Where the key comes from


def test_a_configured_key_goes_before_the_file_and_none_is_made(config: Config, tmp_path: Path) -> None:
    """`encryption_key` seals, and no key file appears."""
    key = generate_key()
    with CacheManager(config(encryption_key=key)) as cache:
        fill(cache)
    assert not (tmp_path / "key").exists()
    found = status(config(encryption_key=key))
    assert found.current == fingerprint(key)
    assert found.sealed == {fingerprint(key): {"l2": 3, "l3": 3}}


def test_the_environment_is_the_default_of_both_settings(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables stand for the fields where these are not given, in a configuration and in the settings."""
    one, two, three = generate_key(), generate_key(), generate_key()
    monkeypatch.setenv("PROXYWHIRL_CACHE_ENCRYPTION_KEY", text(one))
    monkeypatch.setenv("PROXYWHIRL_CACHE_KEY_PREVIOUS", f"{text(two)}, {text(three)},")
    for made in (config(), Settings.load(config().l2_cache_dir).cache):
        assert made.encryption_key == one
        assert made.previous_keys == [two, three]
        assert text(two) not in repr(made)
    assert config(encryption_key=None, key_previous=None).previous_keys == []


def test_a_previous_key_that_is_none_is_refused_without_repeating_it(config: Config) -> None:
    """One wrong key among several names the setting and the variable."""
    with pytest.raises(ValidationError, match=r"key_previous \(or PROXYWHIRL_CACHE_KEY_PREVIOUS\)") as caught:
        config(key_previous=f"{text(generate_key())},not-a-key")
    assert "not-a-key" not in str(caught.value)


class FakeKeyring(types.ModuleType):
    """What the keyring package is to us, in memory; `locked` makes every call fail."""

    def __init__(self) -> None:
        super().__init__("keyring")
        self.errors = types.SimpleNamespace(KeyringError=type("KeyringError", (Exception,), {}))
        self.items: dict[tuple[str, str], str] = {}
        self.locked = False

    def get_password(self, service: str, name: str) -> str | None:
        """Return what is kept."""
        if self.locked:
            raise self.errors.KeyringError("locked")
        return self.items.get((service, name))

    def set_password(self, service: str, name: str, password: str) -> None:
        """Keep something."""
        self.items[service, name] = password


@pytest.fixture
def keyring(monkeypatch: pytest.MonkeyPatch) -> FakeKeyring:
    """Put a keyring in the place of the package."""
    fake = FakeKeyring()
    monkeypatch.setitem(sys.modules, "keyring", fake)
    return fake


def test_the_keyring_is_used_where_it_is_asked_for(config: Config, tmp_path: Path, keyring: FakeKeyring) -> None:
    """The key is made there, read again, changed there by a rotation, and in no file."""
    with CacheManager(config(use_keyring=True)) as cache:
        fill(cache)
        before = dict(keyring.items)
        assert set(before) == {("proxywhirl", str(tmp_path / "key"))}
        assert cache.rotate_keys().resealed == 3
    assert len(keyring.items) == 1
    assert keyring.items != before
    with CacheManager(config(use_keyring=True)) as cache:
        assert passwords(cache) == ["pass0", "pass1", "pass2"]
    kept = [value.encode() for value in (*before.values(), *keyring.items.values())]
    assert not any(key in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() for key in kept)
    assert "keyring" in status(config(use_keyring=True)).origin


def test_the_keyring_is_left_alone_unless_it_is_asked_for(config: Config, tmp_path: Path, keyring: FakeKeyring) -> None:
    """A key file goes before it, also where both are there."""
    with CacheManager(config()) as cache:
        fill(cache)
    with CacheManager(config(use_keyring=True)) as cache:
        assert passwords(cache) == ["pass0", "pass1", "pass2"]
    assert keyring.items == {}
    assert (tmp_path / "key").exists()


def test_a_keyring_that_does_not_work_is_an_error_that_says_so(
    config: Config, keyring: FakeKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a locked keyring nor a missing package leads to another key."""
    keyring.locked = True
    with pytest.raises(CacheError, match="does not answer: locked"):
        CacheManager(config(use_keyring=True))
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(CacheError, match=r"pip install 'proxywhirl\[keyring\]'"):
        CacheManager(config(use_keyring=True))


# Previous keys


@every_layout
def test_what_a_previous_key_sealed_is_read_and_what_is_new_is_sealed_with_the_current(
    config: Config, layout: dict[str, Any]
) -> None:
    """Any of the given keys opens; without the one that is needed, opening names the settings and changes nothing."""
    old, new = generate_key(), generate_key()
    with CacheManager(config(**layout, encryption_key=old)) as cache:
        fill(cache)
    both = config(**layout, encryption_key=new, key_previous=f"{text(generate_key())},{text(old)}")
    with CacheManager(both) as cache:
        assert passwords(cache) == ["pass0", "pass1", "pass2"]
        fill(cache, 1, first=3)
    found = status(both)
    assert {key: set(counts.values()) for key, counts in found.sealed.items()} == {
        fingerprint(old): {3},
        fingerprint(new): {1},
    }
    assert found.unfinished
    for one in (old, new):
        with pytest.raises(
            DecryptionError, match=r"PROXYWHIRL_CACHE_ENCRYPTION_KEY.* or PROXYWHIRL_CACHE_KEY_PREVIOUS"
        ):
            CacheManager(config(**layout, encryption_key=one))
    with CacheManager(config(**layout, encryption_key=old, key_previous=new)) as cache:
        assert passwords(cache) == ["pass0", "pass1", "pass2", "pass3"]


def test_a_configured_key_can_be_followed_by_a_key_file(config: Config) -> None:
    """Once the configured key is named as the previous one, a key file may be made: nothing becomes unreadable."""
    old = generate_key()
    with CacheManager(config(encryption_key=old)) as cache:
        fill(cache)
    with CacheManager(config(key_previous=old)) as cache:
        assert passwords(cache) == ["pass0", "pass1", "pass2"]
        assert cache.rotate_keys().resealed == 3
    with CacheManager(config()) as cache:
        assert passwords(cache) == ["pass0", "pass1", "pass2"]


def test_a_key_of_which_nothing_is_left_is_not_asked_for(config: Config) -> None:
    """After the last credential is gone another key may be used, and a lost one be made anew."""
    with CacheManager(config(encryption_key=generate_key())) as cache:
        fill(cache)
        cache.clear()
    with CacheManager(config()) as cache:
        fill(cache)
        assert passwords(cache) == ["pass0", "pass1", "pass2"]


# Rotation


@every_layout
def test_a_rotation_seals_every_tier_anew(config: Config, layout: dict[str, Any]) -> None:
    """Afterwards the key file holds one other key, every token of every tier is of that, and nothing else changed."""
    with CacheManager(config(**layout)) as cache:
        fill(cache)
        cache.invalidate_by_health(cache.generate_cache_key("http://bob@h0.example:80"))
        before = list(cache.scan())
        old = KeyFile(Path(str(cache.config.key_file))).read()
        done = cache.rotate_keys()
        assert (done.resealed, done.unreadable, done.resumed) == (3, 0, False)
        assert passwords(cache) == ["pass0", "pass1", "pass2"]
        assert list(cache.scan()) == before
    kept = KeyFile(Path(str(config().key_file))).read()
    assert len(kept) == 1
    assert kept != old
    found = status(config(**layout))
    assert not found.unfinished
    assert set(found.sealed) == {fingerprint(kept[0])} == {done.key_check}
    assert set(found.sealed[done.key_check].values()) == {3}
    with CacheManager(config(**layout)) as cache:
        assert list(cache.scan()) == before


def test_retired_entries_are_sealed_anew_too(config: Config) -> None:
    """What is out of service keeps its credentials under the new key."""
    with CacheManager(config(failure_threshold=1)) as cache:
        fill(cache)
        key = cache.generate_cache_key("http://bob@h1.example:80")
        assert cache.invalidate_by_health(key)
        assert cache.rotate_keys().resealed == 3
    with CacheManager(config()) as cache:
        (retired,) = cache.scan(retired=True)
        assert retired.password == SecretStr("pass1")


def test_a_given_key_is_taken_and_one_that_is_none_changes_nothing(config: Config, tmp_path: Path) -> None:
    """The key file holds the given key; a text that is no key is refused without repeating it."""
    given = generate_key()
    with CacheManager(config()) as cache:
        fill(cache)
        before = (tmp_path / "key").read_text()
        with pytest.raises(ValueError, match="not a Fernet key") as caught:
            cache.rotate_keys(SecretStr("no key at all"))
        assert "no key at all" not in str(caught.value)
        assert (tmp_path / "key").read_text() == before
        assert cache.rotate_keys(given).key_check == fingerprint(given)
    assert KeyFile(tmp_path / "key").read() == [given]


def test_a_configured_key_is_rotated_to_by_naming_the_previous_one(config: Config) -> None:
    """Everything is sealed with the configured key then, the previous one is not needed, and none can be given."""
    old, new = generate_key(), generate_key()
    with CacheManager(config(encryption_key=old)) as cache:
        fill(cache)
        assert cache.rotate_keys().resealed == 0
    with CacheManager(config(encryption_key=new, key_previous=old)) as cache:
        with pytest.raises(ValueError, match="PROXYWHIRL_CACHE_KEY_PREVIOUS"):
            cache.rotate_keys(generate_key())
        assert cache.rotate_keys().resealed == 3
    with CacheManager(config(encryption_key=new)) as cache:
        assert passwords(cache) == ["pass0", "pass1", "pass2"]


def test_a_damaged_credential_does_not_stop_a_rotation(config: Config, caplog: pytest.LogCaptureFixture) -> None:
    """It is told of and stays as it is; the others are sealed anew."""
    with CacheManager(config(l2_config=OFF)) as cache:
        fill(cache)
        key = cache.generate_cache_key("http://bob@h1.example:80")

        def damage(present: Any) -> Batch:
            record = present[key]
            record.sealed = record.sealed[:-9]
            return Batch(puts=[record])

        assert cache._running().stack.commit([key], damage, admit=False) is not None
        done = cache.rotate_keys()
        assert (done.resealed, done.unreadable) == (2, 1)
        assert key in caplog.text
        assert cache.rotate_keys().unreadable == 1


def test_two_rotations_do_not_run_at_once(config: Config, tmp_path: Path) -> None:
    """The second one is told, and changes nothing."""
    with CacheManager(config()) as cache:
        fill(cache)
        before = (tmp_path / "key").read_text()
        with exclusively(tmp_path / "key"), pytest.raises(CacheError, match="another process is changing the key"):
            cache.rotate_keys()
        assert (tmp_path / "key").read_text() == before


def test_a_rotation_needs_the_key_file_that_it_changes(config: Config, tmp_path: Path) -> None:
    """Where the file is gone or holds another key, the old key is not replaced by a new one alone."""
    with CacheManager(config()) as cache:
        fill(cache)
        content = (tmp_path / "key").read_text()
        (tmp_path / "key").unlink()
        with pytest.raises(CacheError, match="restore it first"):
            cache.rotate_keys()
        (tmp_path / "key").write_text(text(generate_key()))
        with pytest.raises(CacheError, match="restore it first"):
            cache.rotate_keys()
        (tmp_path / "key").write_text(content)
        assert cache.rotate_keys().resealed == 3


def test_a_key_file_that_is_a_link_stays_one(config: Config, tmp_path: Path) -> None:
    """A rotation writes the file that is linked to, for its owner alone."""
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "key"
    (tmp_path / "key").symlink_to(target)
    target.write_text(text(generate_key()))
    with CacheManager(config()) as cache:
        fill(cache)
        cache.rotate_keys()
    assert (tmp_path / "key").is_symlink()
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in target.parent.iterdir()] == ["key"]


# Other processes meanwhile


@every_layout
def test_who_opened_with_the_old_key_reads_and_writes_on(config: Config, layout: dict[str, Any]) -> None:
    """A cache that was open before and through a rotation notices; what it writes afterwards is of the new key."""
    with CacheManager(config(**layout)) as other, CacheManager(config(**layout)) as cache:
        fill(other)
        held = list(other.scan())
        done = cache.rotate_keys()
        assert [entry.password for entry in held] == [entry.password for entry in cache.scan()]
        fill(other, 2, first=3)
        assert passwords(other) == [f"pass{n}" for n in range(5)]
        assert passwords(cache) == [f"pass{n}" for n in range(5)]
    assert set(status(config(**layout)).sealed) == {done.key_check}
    with CacheManager(config(**layout)) as cache:
        assert passwords(cache) == [f"pass{n}" for n in range(5)]


def test_who_only_read_before_notices_when_it_reads(config: Config) -> None:
    """A token of an unknown key makes the key be read again, before anything is written."""
    with CacheManager(config()) as other, CacheManager(config()) as cache:
        fill(cache)
        cache.rotate_keys()
        cache.rotate_keys()
        assert passwords(other) == ["pass0", "pass1", "pass2"]


def test_a_configured_old_key_is_refused_for_writing_after_a_rotation(config: Config) -> None:
    """A process that cannot learn the new key loses nothing: it reads what it holds, writing is refused by name."""
    old, new = generate_key(), generate_key()
    with CacheManager(config(encryption_key=old)) as other:
        fill(other)
        held = other.get(other.generate_cache_key("http://bob@h0.example:80"))
        with CacheManager(config(encryption_key=new, key_previous=old)) as cache:
            cache.rotate_keys()
        assert held is not None
        assert held.password == SecretStr("pass0")
        with pytest.raises(DecryptionError, match="PROXYWHIRL_CACHE_ENCRYPTION_KEY"):
            fill(other, 1, first=3)
        other.refresh()
        entry = other.get(other.generate_cache_key("http://bob@h1.example:80"))
        assert entry is not None
        assert entry.password is not None
        with pytest.raises(DecryptionError, match="PROXYWHIRL_CACHE_KEY_PREVIOUS"):
            entry.password.get_secret_value()
        assert other.invalidate_by_health(entry.key) is False
    with CacheManager(config(encryption_key=new)) as cache:
        assert passwords(cache) == ["pass0", "pass1", "pass2"]


def reading(*states: list[SecretStr]) -> Callable[[], list[SecretStr]]:
    """Return a key source that gives these one after the other, and then the last."""
    source: Iterator[list[SecretStr]] = itertools.chain(states, itertools.repeat(states[-1]))
    return lambda: next(source)


def test_a_note_that_comes_too_late_for_a_rotation_is_taken_back() -> None:
    """Whoever notes its key while that is changed seals with the new one, and leaves no note of the old."""
    old, new = generate_key(), generate_key()
    tier = MemoryTier(authority=True)
    sealer = Sealer(old, reread=reading([old], [new]))
    notes = KeyNotes(sealer, lambda: tier)
    notes.prepare(lambda act: act(tier))
    assert noted(tier) == {fingerprint(new)} == {sealer.key_check}


def test_a_writer_looks_for_its_note_inside_the_transaction() -> None:
    """Between its note and its transaction a whole rotation may pass: it seals with the new key then."""
    old, new = generate_key(), generate_key()
    tier = MemoryTier(authority=True)
    sealer = Sealer(old, reread=reading([old], [old], [new]))
    notes = KeyNotes(sealer, lambda: tier)
    notes.prepare(lambda act: act(tier))
    assert noted(tier) == {fingerprint(old)}
    tier.set_meta(f"key_check.{fingerprint(old)}", None)
    tier.set_meta(f"key_check.{fingerprint(new)}", "")
    record = Record("k", "http://192.0.2.1:80", "s", 0.0, 0, 1.0, 0.0)

    def decide(_: Any) -> Batch:
        record.sealed = sealer.seal("k", ("bob", "hunter2"))
        return Batch(puts=[record])

    tier.transact((), notes.guard(decide))
    assert tokens_by_key(tier) == {fingerprint(new): 1}


def test_a_writer_that_comes_between_two_rotations_takes_a_key_that_is_noted() -> None:
    """Where the newest of the kept keys is not noted yet, the one before it seals."""
    oldest, old, new = generate_key(), generate_key(), generate_key()
    tier = MemoryTier(authority=True)
    tier.set_meta(f"key_check.{fingerprint(old)}", "")
    sealer = Sealer(oldest, reread=reading([new, old]))
    tier.transact((), KeyNotes(sealer, lambda: tier).guard(lambda _: Batch()))
    assert sealer.key_check == fingerprint(old)


# Tokens and secrets


@every_layout
def test_a_token_that_was_moved_to_another_entry_does_not_open(config: Config, layout: dict[str, Any]) -> None:
    """In every tier, what was sealed for one entry is an error where it stands with another one."""
    with CacheManager(config(**layout)) as cache:
        fill(cache, 2)
    tiers = open_tiers(config(**layout))
    tiers[-1][1].transact([record.key for record in tiers[-1][1].scan("", 2)], exchange)
    for _, tier in tiers:
        tier.close()
    with CacheManager(config(**layout)) as cache:
        assert len(cache) == 2
        for key in [entry.key for entry in cache.scan()]:
            for _ in ("from below", "from L1"):
                entry = cache.get(key)
                assert entry is not None
                assert entry.password is not None
                with pytest.raises(DecryptionError, match=f"{key} belong to another entry"):
                    entry.password.get_secret_value()


def exchange(present: Mapping[str, Record]) -> Batch:
    """Give each of two records the other one's token."""
    one, other = present.values()
    one.sealed, other.sealed = other.sealed, one.sealed
    return Batch(puts=[one, other])


def test_opening_and_listing_a_hundred_thousand_entries_decrypts_none(config: Config) -> None:
    """Tokens that cannot be opened at all do no harm until one is read."""
    key = generate_key()
    sealed = f"up.{fingerprint(key)}:cannot be opened"
    chosen = config(encryption_key=key, l2_config=OFF)
    with CacheManager(chosen) as cache:
        records = [
            Record(f"{n:06}", "http://192.0.2.1:80", "s", 0.0, 0, 2e11, 0.0, sealed=sealed) for n in range(100_000)
        ]
        ask = cache._running().stack.authority.call  # under the tier's lock: a thread watches the file
        assert ask(lambda tier: tier.transact((), lambda _: Batch(puts=records)), None, len(records)) is not None
        ask(lambda tier: tier.set_meta(f"key_check.{fingerprint(key)}", ""), None)
    with CacheManager(chosen) as cache:
        passwords = [entry.password for entry in cache.scan()]
        assert len(passwords) == 100_000
        assert passwords[0] is not None
        with pytest.raises(DecryptionError):
            passwords[0].get_secret_value()


def test_a_lazy_secret_is_copied_without_being_read_and_not_pickled() -> None:
    """Copies read what the first one reads; a pickle would hold it in the clear."""
    reads = []

    def reveal(_: Record) -> tuple[str, str]:
        reads.append(1)
        return "bob", "hunter2"

    lazy = LazyPassword(reveal, Record("k", "http://192.0.2.1:80", "s", 0.0, 0, 0.0, 0.0))
    copies = [copy(lazy), deepcopy(lazy), deepcopy([lazy])[0]]
    assert "hunter2" not in f"{lazy!r} {lazy}"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(lazy)
    assert reads == []
    assert all(other.get_secret_value() == "hunter2" for other in copies)


def test_a_token_names_the_key_that_sealed_it_and_one_that_names_none_is_tried_with_all() -> None:
    """Tokens of the first format, without a fingerprint, open with any known key."""
    old, new = generate_key(), generate_key()
    sealed = Sealer(old).seal("k", ("bob", "hunter2"))
    assert sealed_with(sealed) == fingerprint(old)
    unnamed = f"up:{sealed.partition(':')[2]}"
    assert sealed_with(unnamed) == ""
    both = Sealer(new, [old])
    assert both.open("k", sealed) == both.open("k", unnamed) == ("bob", "hunter2")
    assert not both.is_current(sealed)
    with pytest.raises(DecryptionError):
        Sealer(new).open("k", unnamed)

"""Damage to the notes beside the records of an SQLite tier: the cache opens all the same, and keeps its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest
from cryptography.fernet import Fernet

from proxywhirl.cache import CacheConfig, CacheManager
from proxywhirl.cache.keys.keyset import NOTE
from proxywhirl.errors import DecryptionError

URLS = [f"http://h{n}.example:80" for n in range(5)]
KEYS = [CacheManager.generate_cache_key(url.replace("://", "://user@")) for url in URLS]
OFF = {"enabled": False}
PLACES: dict[str, tuple[str, dict[str, Any]]] = {
    "the authority's": ("l3.db", {}),
    "the authority's alone": ("l3.db", {"l2_config": OFF}),
    "a window's": ("l2/l2.db", {"l2_backend": "sqlite"}),
}


def config(home: Path, **settings: Any) -> CacheConfig:
    """Configure a cache with a key file."""
    return CacheConfig.model_validate(
        {"l2_cache_dir": str(home / "l2"), "l3_database_path": str(home / "l3.db"), **settings}
    )


def fill(settings: CacheConfig) -> None:
    """Store credentials."""
    with CacheManager(settings) as cache:
        for url in URLS:
            cache.add(url, source="test", username="user", password="secret", ttl=1e6)


def flip(path: Path, mask: int) -> None:
    """Change one byte of the name of the note that tells of the key, in the file."""
    connection = apsw.Connection(str(path))
    connection.pragma("wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(path.read_bytes())
    at = content.rindex(NOTE.encode()) + len(NOTE) + 2
    content[at] ^= mask
    path.write_bytes(content)


def passwords(settings: CacheConfig) -> list[str | None]:
    """Open the cache and read every password."""
    with CacheManager(settings) as cache:
        entries = [cache.get(key) for key in KEYS]
        return [
            entry.password.get_secret_value() if entry is not None and entry.password is not None else None
            for entry in entries
        ]


@pytest.mark.parametrize("mask", [0x80, 0x01], ids=["no text any more", "another text"])
@pytest.mark.parametrize(("file", "settings"), PLACES.values(), ids=PLACES)
def test_a_damaged_note_of_the_key_costs_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, settings: dict[str, Any], mask: int
) -> None:
    """Where it cannot be read its file is set aside, which the log says; the note is made anew, and the key stays."""
    fill(config(tmp_path, **settings))
    key = (tmp_path / "l3.key").read_text()
    flip(tmp_path / file, mask)
    for _ in range(2):
        assert passwords(config(tmp_path, **settings)) == ["secret"] * len(URLS)
    aside = list((tmp_path / file).parent.glob("*.damaged-*Z"))
    assert len(aside) == (mask == 0x80)
    assert all(f"set aside as {path}" in caplog.text for path in aside)
    assert (tmp_path / "l3.key").read_text() == key
    with pytest.raises(DecryptionError, match="sealed with another key"):
        CacheManager(config(tmp_path, **settings, encryption_key=Fernet.generate_key().decode()))


@pytest.mark.parametrize("mask", [0x80, 0x01], ids=["no text any more", "another text"])
def test_with_the_key_gone_as_well_none_is_made(tmp_path: Path, mask: int) -> None:
    """The error says what to do, at each opening, and with the key back everything is there."""
    settings = config(tmp_path, l2_config=OFF)
    fill(settings)
    flip(tmp_path / "l3.db", mask)
    kept = (tmp_path / "l3.key").rename(tmp_path / "kept")
    for _ in range(2):
        with pytest.raises(DecryptionError, match="there is no key: restore"):
            CacheManager(settings)
        assert not (tmp_path / "l3.key").exists()
    kept.rename(tmp_path / "l3.key")
    assert passwords(settings) == ["secret"] * len(URLS)

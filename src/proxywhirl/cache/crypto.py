"""Credentials at rest: one Fernet token for each entry, bound to the entry's key.

A sealed credential is `u:`, `p:` or `up:` (which of username and password there are) and the token of
username and password together with the entry's key, so that a token moved to another entry does not open.
A key-check value beside the data tells a wrong key from a right one without opening anything.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from pydantic import SecretStr

from proxywhirl.cache.record import Credentials
from proxywhirl.errors import CacheError, DecryptionError
from proxywhirl.state.directory import make_private_directory

__all__ = ["LazySecret", "Sealer", "obtain_key_file"]


class Sealer:
    """Seals and opens credentials with one key."""

    def __init__(self, key: SecretStr) -> None:
        text = key.get_secret_value().encode()
        self._fernet = Fernet(text)
        raw = base64.urlsafe_b64decode(text)  # one key, however it is spelled
        self.key_check = hmac.new(raw, b"proxywhirl key check", hashlib.sha256).hexdigest()[:16]

    def seal(self, entry_key: str, credentials: Credentials) -> str:
        """Return the sealed form of a username and a password."""
        username, password = credentials
        shape = ("u" if username is not None else "") + ("p" if password is not None else "")
        content = json.dumps([entry_key, username, password], ensure_ascii=False)
        return f"{shape}:{self._fernet.encrypt(content.encode()).decode()}"

    def open(self, entry_key: str, sealed: str) -> Credentials:
        """Return the username and password of a sealed credential.

        Raises:
            DecryptionError: another key made it, it was damaged, or it belongs to another entry.
        """
        _, _, token = sealed.partition(":")
        try:
            bound_to, username, password = json.loads(self._fernet.decrypt(token.encode()))
        except (InvalidToken, ValueError) as exc:
            raise DecryptionError(
                f"the credentials of entry {entry_key} cannot be read: they are damaged or were sealed with another key"
            ) from exc
        if bound_to != entry_key:
            raise DecryptionError(f"the credentials stored with entry {entry_key} belong to another entry")
        return username, password


class LazySecret(SecretStr):
    """A secret that is decrypted when it is first read."""

    def __init__(self, reveal: Callable[[], str]) -> None:
        self._reveal = reveal

    @property
    def _secret_value(self) -> str:  # type: ignore[override]  # pydantic keeps it in an attribute of this name
        return self._reveal()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and SecretStr(self._reveal()) == SecretStr(other.get_secret_value())

    def __hash__(self) -> int:
        return hash(self._reveal())

    def _display(self) -> str:
        return "**********"


def obtain_key_file(path: Path) -> tuple[SecretStr, bool]:
    """Return the key kept in a file and whether it was made now, with mode 0600.

    Two processes that make it at once end with the same key.

    Raises:
        CacheError: the file cannot be read or made, or holds no key.
    """
    try:
        made = False
        if not path.exists():
            make_private_directory(path.parent)
            made = _create_once(path, Fernet.generate_key() + b"\n")
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise CacheError(f"the key file {path} cannot be read or made: {exc}") from exc
    try:
        Fernet(text.encode())
    except ValueError as exc:
        raise CacheError(
            f"the key file {path} holds no Fernet key: restore it from a back-up, "
            "or set PROXYWHIRL_CACHE_ENCRYPTION_KEY"
        ) from exc
    return SecretStr(text), made


def _create_once(path: Path, content: bytes) -> bool:
    """Make a whole file appear at once, or leave the one that another process made first."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.") as stream:  # of mode 0600
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(stream.name, path)
            return True
    return False

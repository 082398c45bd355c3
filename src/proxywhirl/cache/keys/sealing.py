"""Credentials at rest: one Fernet token for each entry, bound to the entry's key.

A sealed credential is `up.<fingerprint>:<token>`: which of username and password there are, which key sealed
it, and both together with the entry's key, so that a token moved to another entry does not open. The
fingerprint of a key tells keys apart and tells nothing else of them. Pure, but for what `reread` does.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self

from pydantic import SecretStr

from proxywhirl.cache.models import FERNET_KEY_BYTES
from proxywhirl.cache.record import Credentials, Record
from proxywhirl.errors import CacheError, DecryptionError

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

_log = logging.getLogger(__name__)

FINGERPRINT_DIGITS = 12


def generate_key() -> SecretStr:
    """Make a new key."""
    return SecretStr(base64.urlsafe_b64encode(os.urandom(FERNET_KEY_BYTES)).decode())


def fingerprint(key: SecretStr) -> str:
    """Return the key-check value of a key: twelve hex digits, the same however the key is spelled."""
    raw = base64.urlsafe_b64decode(key.get_secret_value().encode())
    return hmac.new(raw, b"proxywhirl key check", hashlib.sha256).hexdigest()[:FINGERPRINT_DIGITS]


def sealed_with(sealed: str) -> str:
    """Return the fingerprint of the key that sealed a credential, "" where it does not say."""
    return sealed.partition(":")[0].partition(".")[2]


_encode = json.JSONEncoder(ensure_ascii=False).encode  # `json.dumps` makes one each time


class Sealer:
    """Seals with one key, opens with that and all that it has known before.

    `reread` gives the keys as they are kept now, the sealing one first. It is asked when something was sealed with an
    unknown key: another process may have changed the key. Keys that were known once stay known, since what this
    process has in memory may still need them. The library of the cipher is loaded by the first credential that is
    sealed or opened. Thread-safe.
    """

    def __init__(
        self,
        key: SecretStr,
        previous: Iterable[SecretStr] = (),
        *,
        reread: Callable[[], Sequence[SecretStr]] | None = None,
    ) -> None:
        self._reread = reread
        self._keys: dict[str, SecretStr] = {}
        self._fernets: dict[str, Fernet] = {}
        self._take([key, *previous])

    @property
    def key_check(self) -> str:
        """The fingerprint of the key that seals."""
        return self._current

    @property
    def known(self) -> frozenset[str]:
        """The fingerprints of all keys that can open."""
        return frozenset(self._keys)

    def seal(self, entry_key: str, credentials: Credentials) -> str:
        """Return the sealed form of a username and a password."""
        username, password = credentials
        shape = ("u" if username is not None else "") + ("p" if password is not None else "")
        content = _encode([entry_key, username, password])
        check = self._current  # one read: another thread may change it
        return f"{shape}.{check}:{self._fernet(check).encrypt(content.encode()).decode()}"

    def open(self, entry_key: str, sealed: str) -> Credentials:
        """Return the username and password of a sealed credential.

        Raises:
            DecryptionError: an unknown key made it, it was damaged, or it belongs to another entry.
        """
        from cryptography.fernet import InvalidToken  # noqa: PLC0415  # see the class

        _, _, token = sealed.partition(":")
        for fernet in self._candidates(entry_key, sealed_with(sealed)):
            try:
                bound_to, username, password = json.loads(fernet.decrypt(token.encode()))
            except (InvalidToken, ValueError):
                continue
            if bound_to != entry_key:
                raise DecryptionError(f"the credentials stored with entry {entry_key} belong to another entry")
            return username, password
        raise DecryptionError(f"the credentials of entry {entry_key} cannot be read: they are damaged")

    @property
    def kept(self) -> tuple[str, ...]:
        """The fingerprints of the keys as they were last read, the sealing one first."""
        return self._kept

    def seal_with(self, check: str) -> None:
        """Seal with another known key until the keys are read again."""
        self._current = check

    def is_current(self, sealed: str) -> bool:
        """Whether the key that seals now made this."""
        return sealed_with(sealed) == self.key_check

    def reload(self) -> bool:
        """Read the keys again where they are kept; return whether another one seals now."""
        if self._reread is None:
            return False
        before = self.key_check
        try:
            self._take(self._reread())
        except CacheError as exc:
            _log.warning("the keys could not be read again: %s", exc)
        return self.key_check != before

    def _candidates(self, entry_key: str, check: str) -> list[Fernet]:
        if not check:  # from before tokens named their key
            return [self._fernet(known) for known in list(self._keys)]
        if check not in self._keys:
            self.reload()
        if check not in self._keys:
            raise DecryptionError(
                f"the credentials of entry {entry_key} were sealed with the key {check}, which is not at hand: "
                "set PROXYWHIRL_CACHE_KEY_PREVIOUS to it"
            )
        return [self._fernet(check)]

    def _fernet(self, check: str) -> Fernet:
        if (fernet := self._fernets.get(check)) is None:
            from cryptography.fernet import Fernet  # noqa: PLC0415  # see the class

            fernet = self._fernets[check] = Fernet(self._keys[check].get_secret_value().encode())
        return fernet

    def _take(self, keys: Sequence[SecretStr]) -> None:
        """Know these keys too, and seal with the first."""
        if keys:
            added = {fingerprint(key): key for key in keys}
            self._keys = {**self._keys, **added}
            self._kept = tuple(added)
            self.seal_with(self._kept[0])


class LazySecret(SecretStr):
    """A part of a record's credentials, decrypted when it is read: see `LazyUsername`, `LazyPassword`.

    It can be copied, which decrypts nothing, and not be pickled.
    """

    __slots__ = ("record", "reveal")
    record: Record
    reveal: Callable[[Record], Credentials | None]
    _place: int

    def __init__(self, reveal: Callable[[Record], Credentials | None], record: Record) -> None:
        self.reveal = reveal
        self.record = record

    @property
    def _secret_value(self) -> str:  # type: ignore[override]  # pydantic keeps it in an attribute of this name
        credentials = self.reveal(self.record)
        return (credentials[self._place] if credentials is not None else None) or ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretStr) and self._secret_value == other.get_secret_value()

    def __hash__(self) -> int:
        return hash(self._secret_value)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret that is sealed at rest is not pickled: read it, or export it by name")

    def _display(self) -> str:
        return "**********"


class LazyUsername(LazySecret):
    """The username."""

    __slots__ = ()
    _place = 0


class LazyPassword(LazySecret):
    """The password."""

    __slots__ = ()
    _place = 1

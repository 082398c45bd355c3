"""The place of a key that is not configured: a file of mode 0600, or the keyring of the operating system.

Both keep a list: the sealing key, then the keys that a rotation is moving away from. `origin` names the place.

- `read` gives the keys, the sealing one first; none where there is none yet.
- `create` makes a key, unless another process has made one meanwhile, and tells whether it was made here.
- `replace` keeps other keys instead, all at once. When it returns they survive a crash.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import SecretStr

from proxywhirl.cache.keys.sealing import generate_key
from proxywhirl.cache.models import KEY_VARIABLE, check_key
from proxywhirl.errors import CacheError
from proxywhirl.state.files import explained, make_private_directory, replace_file, sync_directory

SERVICE = "proxywhirl"
CREATION_TIMEOUT_SECONDS = 10.0


class KeyFile:
    """One key a line. All methods raise `CacheError` where the file cannot be read or made, or holds no key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.origin = str(path)

    def read(self) -> list[SecretStr]:
        """Return the keys, the sealing one first."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except UnicodeDecodeError as exc:
            raise _no_key(f"the key file {self.path}") from exc
        except OSError as exc:
            raise self._unusable(exc, f"restore it from a back-up, or set {KEY_VARIABLE}") from exc
        return _parsed(text, f"the key file {self.path}")

    def create(self) -> bool:
        """Make a key where there is none; return whether it was made here."""
        try:
            make_private_directory(self.path.parent)
            return _create_once(self.path, _text([generate_key()]))
        except OSError as exc:
            raise self._unusable(exc) from exc

    def replace(self, keys: Sequence[SecretStr]) -> None:
        """Keep these keys instead. A link stays a link."""
        _parsed(_text(keys).decode(), "what is to be kept")  # or the old keys would be lost for nothing
        try:
            path = self.path.resolve()
            replace_file(path, _text(keys), temporary=path.with_name(f"{path.name}.new"), sync_name=True)
        except OSError as exc:
            raise self._unusable(exc) from exc

    def _unusable(self, exc: OSError, advice: str = "") -> CacheError:
        reason = explained(exc, "reading or making the key file", self.path)
        return CacheError(f"{reason}; {advice}" if advice else reason)


class OsKeyring:
    """An item of the keyring that the `keyring` package finds, under the name of the key file that it stands for.

    All methods raise `CacheError` where the package is missing or the keyring does not work.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._name = str(path.absolute())
        self.origin = f"the keyring of the system (service {SERVICE}, name {self._name})"

    def read(self) -> list[SecretStr]:
        """Return the keys, the sealing one first."""
        text = self._ask("get_password")
        return [] if text is None else _parsed(str(text), self.origin)

    def create(self) -> bool:
        """Make a key where there is none; return whether it was made here."""
        with exclusively(self._path, timeout=CREATION_TIMEOUT_SECONDS):
            missing = not self.read()
            if missing:
                self.replace([generate_key()])
            return missing

    def replace(self, keys: Sequence[SecretStr]) -> None:
        """Keep these keys instead."""
        self._ask("set_password", _text(keys).decode().strip())
        if self.read() != list(keys):
            raise CacheError(f"{self.origin} did not keep the key that was given to it")

    def _ask(self, function: str, *arguments: str) -> Any:
        try:
            keyring = importlib.import_module("keyring")
        except ImportError as exc:
            raise CacheError(
                "use_keyring is set and the package keyring is missing: pip install 'proxywhirl[keyring]'"
            ) from exc
        try:
            return getattr(keyring, function)(SERVICE, self._name, *arguments)
        except keyring.errors.KeyringError as exc:
            raise CacheError(f"{self.origin} does not answer: {exc}") from None  # the cause may repeat arguments


KeyKeeper = KeyFile | OsKeyring


@contextlib.contextmanager
def exclusively(path: Path, *, timeout: float = 0.0) -> Iterator[None]:
    """Hold the lock beside a key file, which one process has at a time and none after its death.

    Raises:
        CacheError: another process holds it for longer than `timeout` seconds, or it cannot be made.
    """
    lock = path.with_name(f"{path.name}.lock")
    try:
        make_private_directory(path.parent)
        with FileLock(lock, timeout=timeout, mode=0o600):
            yield
    except Timeout as exc:
        raise CacheError(f"another process is changing the key: {lock} is held") from exc


def _parsed(text: str, place: str) -> list[SecretStr]:
    lines = text.split()
    try:
        for line in lines:
            check_key(line, place)
    except ValueError as exc:
        raise _no_key(place) from exc
    if not lines:
        raise _no_key(place)
    return [SecretStr(line) for line in lines]


def _no_key(place: str) -> CacheError:
    return CacheError(f"{place} holds no Fernet key: restore it from a back-up, or set {KEY_VARIABLE}")


def _text(keys: Sequence[SecretStr]) -> bytes:
    return "".join(f"{key.get_secret_value()}\n" for key in keys).encode()


def _create_once(path: Path, content: bytes) -> bool:
    """Make a whole file appear at once, or leave the one that another process made first."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.") as stream:  # of mode 0600
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(stream.name, path)
            sync_directory(path.parent)
            return True
    return False

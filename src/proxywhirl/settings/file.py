"""The settings file of a home: read as a whole, changed in one place."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from proxywhirl.errors import SettingsError
from proxywhirl.settings.sections import SECTIONS
from proxywhirl.state.files import make_private_directory, replace_file

SETTINGS_FILE = "settings.toml"


def read_file(path: Path) -> dict[str, Any]:
    """Return what is in a settings file, nothing where there is none.

    Raises:
        SettingsError: it cannot be read, or has what is no section.
    """
    try:
        text = path.read_text(encoding="utf-8")
        import tomllib

        values = tomllib.loads(text)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:  # the latter: it is no UTF-8, or no TOML
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise SettingsError(f"{path} cannot be read: {reason}") from exc
    for section, names in values.items():
        if section not in SECTIONS:
            raise SettingsError(f"{path}: unknown section {section!r}; known: {', '.join(sorted(SECTIONS))}")
        if not isinstance(names, dict):
            raise SettingsError(f"{path}: {section} must be a table: write [{section}] and its settings below it")
    return values


def changed_text(path: Path, section: str, name: str, value: str) -> tuple[str, str]:
    """Return the text of a settings file, "" where there is none, and that with a text set in it."""
    values = read_file(path)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    line = f"{name} = {json.dumps(value)}"
    header = rf"^[ \t]*\[[ \t]*{section}[ \t]*\][^\n]*\n"
    known = re.compile(
        rf"({header}(?:[ \t]*(?!\[)[^\n]*\n)*?[ \t]*){name}[ \t]*=[ \t]*(?:\"[^\"\n]*\"|'[^'\n]*')", re.MULTILINE
    )
    whole = text if text.endswith("\n") or not text else f"{text}\n"
    changed, found = known.subn(rf"\g<1>{line}", whole, count=1)
    if not found:
        changed, found = re.subn(rf"({header})", rf"\g<1>{line}\n", whole, count=1, flags=re.MULTILINE)
    if not found:
        changed = f"{whole}{chr(10) * bool(whole)}[{section}]\n{line}\n"
    wanted = {**values, section: {**values.get(section, {}), name: value}}
    if values.get(section, {}).get(name) == value:
        return text, text
    if not _says(changed, wanted):
        raise SettingsError(
            f"{path} is written in a way that cannot be changed here: set {section}.{line} in it yourself"
        )
    return text, changed


def _says(text: str, values: dict[str, Any]) -> bool:
    import tomllib

    try:
        return tomllib.loads(text) == values
    except tomllib.TOMLDecodeError:
        return False


def write_file(path: Path, text: str) -> None:
    """Write a settings file so that others see the old one or the new one; its mode stays, a new one has 0600."""
    target = path.resolve()
    try:
        make_private_directory(target.parent)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        temporary = target.with_name(f"{target.name}.{os.getpid()}")
        replace_file(target, text.encode(), temporary=temporary, mode=mode)
    except OSError as exc:
        raise SettingsError(f"{path} cannot be written: {exc.strerror or exc}") from exc

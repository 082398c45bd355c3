"""What a user writes into a home: `settings.toml`, read as a whole and changed in one place, and `ban-rules.toml`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxywhirl.errors import SettingsError
from proxywhirl.settings.sections import SECTIONS
from proxywhirl.validation import user_text

if TYPE_CHECKING:
    from proxywhirl.rotation.verdicts.rule_file import RuleFault
    from proxywhirl.rotation.verdicts.rules import Rule

SETTINGS_FILE = "settings.toml"
BAN_RULES_FILE = "ban-rules.toml"


def read_file(path: Path) -> dict[str, Any]:
    """Return what is in a settings file, nothing where there is none.

    Raises:
        SettingsError: it cannot be read, or has what is no section.
    """
    text = user_text(path)
    if text is None:
        return {}
    import tomllib

    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise SettingsError(f"{path} cannot be read: {exc}") from exc
    for section, names in values.items():
        if section not in SECTIONS:
            raise SettingsError(f"{path}: unknown section {section!r}; known: {', '.join(sorted(SECTIONS))}")
        if not isinstance(names, dict):
            raise SettingsError(f"{path}: {section} must be a table: write [{section}] and its settings below it")
    return values


def changed_text(path: Path, section: str, name: str, value: str) -> tuple[str, str, dict[str, Any]]:
    """Return the text of a settings file, "" where there is none; that with a text set in it; and what that says."""
    import tomllib

    values = read_file(path)
    text = user_text(path) or ""
    if values.get(section, {}).get(name) == value:
        return text, text, values
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
    try:
        says = tomllib.loads(changed)
    except tomllib.TOMLDecodeError:
        says = None
    wanted = {**values, section: {**values.get(section, {}), name: value}}
    if says != wanted:
        raise SettingsError(
            f"{path} is written in a way that cannot be changed here: set {section}.{line} in it yourself"
        )
    return text, changed, wanted


def write_file(path: Path, text: str) -> None:
    """Write a settings file so that others see the old one or the new one; its mode stays, a new one has 0600."""
    from proxywhirl.state.files import make_private_directory, replacing

    target = path.resolve()
    try:
        make_private_directory(target.parent)
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
        with replacing(target, mode=mode) as stream:
            stream.write(text.encode())
    except OSError as exc:
        raise SettingsError(f"{path} cannot be written: {exc.strerror or exc}") from exc


def ban_rules(home: Path | None) -> tuple[Rule, ...]:
    """Return the rules that hold for a home: those of its file, if it is there, and the built-in ones.

    Raises:
        SettingsError: the file cannot be read, or what it says is wrong.
    """
    from proxywhirl.rotation.verdicts.rule_file import built_in_rules, rules_with

    path = home / BAN_RULES_FILE if home is not None else None
    text = user_text(path) if path is not None else None
    return built_in_rules() if text is None else rules_with(text, str(path))


def ban_rule_faults(home: Path) -> list[RuleFault]:
    """Return all that is wrong with the rules of a home; nothing where it has none.

    Raises:
        SettingsError: the file cannot be read.
    """
    from proxywhirl.rotation.verdicts.rule_file import faults_of

    path = home / BAN_RULES_FILE
    text = user_text(path)
    return [] if text is None else faults_of(text, str(path))

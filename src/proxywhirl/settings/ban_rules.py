"""The user's own ban rules: a file of the home that is only read."""

from __future__ import annotations

from pathlib import Path

from proxywhirl.errors import SettingsError
from proxywhirl.rotation.verdicts.rule_file import RuleFault, built_in_rules, faults_of, rules_with
from proxywhirl.rotation.verdicts.rules import Rule

BAN_RULES_FILE = "ban-rules.toml"


def ban_rules(home: Path | None) -> tuple[Rule, ...]:
    """Return the rules that hold for a home: those of its file, if it is there, and the built-in ones.

    Raises:
        SettingsError: the file cannot be read, or what it says is wrong.
    """
    path, text = _read(home)
    return built_in_rules() if text is None else rules_with(text, str(path))


def ban_rule_faults(home: Path) -> list[RuleFault]:
    """Return all that is wrong with the rules of a home; nothing where it has none.

    Raises:
        SettingsError: the file cannot be read.
    """
    path, text = _read(home)
    return [] if text is None else faults_of(text, str(path))


def _read(home: Path | None) -> tuple[Path | None, str | None]:
    if home is None:
        return None, None
    path = home / BAN_RULES_FILE
    try:
        return path, path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return path, None
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise SettingsError(f"{path} cannot be read: {reason}") from exc

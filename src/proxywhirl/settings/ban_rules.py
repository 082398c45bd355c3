"""The user's own ban rules: a file of the home that is only read."""

from __future__ import annotations

from pathlib import Path

from proxywhirl.errors import SettingsError
from proxywhirl.rotation.rule_file import built_in_rules, rules_with
from proxywhirl.rotation.rules import Rule

__all__ = ["BAN_RULES_FILE", "ban_rules"]

BAN_RULES_FILE = "ban-rules.toml"


def ban_rules(home: Path | None) -> tuple[Rule, ...]:
    """Return the rules that hold for a home: those of its file, if it is there, and the built-in ones.

    Raises:
        SettingsError: the file cannot be read, or what it says is wrong.
    """
    if home is None:
        return built_in_rules()
    path = home / BAN_RULES_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return built_in_rules()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise SettingsError(f"{path} cannot be read: {reason}") from exc
    return rules_with(text, str(path))

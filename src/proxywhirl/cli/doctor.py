"""`proxywhirl doctor`: what is wrong with the store, and what to do about it."""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from proxywhirl.cache import Finding
from proxywhirl.cache.doctor import diagnose
from proxywhirl.cache.maintenance.files import set_aside, too_open
from proxywhirl.cache.tiers.protocol import REPAIR
from proxywhirl.cli.options import home_option, json_option
from proxywhirl.cli.output import note, print_json, print_table
from proxywhirl.errors import ProxyWhirlError, SettingsError
from proxywhirl.settings import SETTINGS_FILE, Settings
from proxywhirl.settings.files import BAN_RULES_FILE, ban_rule_faults
from proxywhirl.state.salvage import BESIDE
from proxywhirl.state.store import StateStore

SECRETS = {"encryption_key", "key_previous", "password"}


@click.command()
@click.option("--repair", is_flag=True, help="Mend what can be mended, and say what was done.")
@json_option
@home_option
def doctor(repair: bool, as_json: bool, home: str | None) -> int:
    """Say what is wrong with the store, and what to do about it.

    Reads all of it, while others may use it: files, indexes, permissions, keys, room on the disk, differences between
    the tiers, what was set aside, changes that wait. No credential is shown. The exit code is 0 if nothing is wrong, or
    nothing any more, and 1 otherwise.
    """
    findings, directory = _examine(home, repair=repair)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    elif findings:
        rows = [_row(finding, directory) for finding in findings]
        print_table(("WHERE", "WHAT IS WRONG", "WHAT TO DO"), rows)
    left = sum(not finding.repaired for finding in findings)
    note(_summary(len(findings), left, directory))
    return 1 if left else 0


def _summary(number: int, left: int, home: Path | None) -> str:
    if home is not None and not home.exists():
        return f"there is no store in {home} yet"
    place = home or "the settings"
    if not number:
        return f"all is well in {place}"
    return f"{number} finding{'s' * (number > 1)} in {place}, {left or 'none'} left to be seen to"


def _examine(home: str | None, *, repair: bool) -> tuple[list[Finding], Path | None]:
    """Return what is wrong, and the home where that can be told."""
    try:
        settings = Settings.load(home)
    except SettingsError as exc:
        return [Finding("settings", str(exc), "correct it: nothing else can be looked at before")], None
    directory = settings.home
    if directory is None or not directory.exists():
        return [], directory
    state = directory / "db"
    ours = (directory, state, *(Path(f"{state / 'state.db'}{suffix}") for suffix in BESIDE))
    findings = diagnose(settings.cache, ours, repair=repair)
    findings += too_open((directory, state, *sorted(state.glob("state.db*"))), repair=repair)
    findings += too_open([directory / SETTINGS_FILE], repair=repair, closed=_to_be_closed(directory / SETTINGS_FILE))
    findings += too_open([directory / BAN_RULES_FILE], repair=repair, closed=0o022)
    findings += _of_the_rules(directory)
    findings += _of_the_state(directory, repair=repair)
    return findings, directory


def _to_be_closed(settings: Path) -> int:
    """Return the mode bits to clear: nobody else may write settings, nor read secrets in them."""
    values = tomllib.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}  # it was read before
    return 0o077 if any(SECRETS & set(section) for section in values.values()) else 0o022


def _of_the_rules(home: Path) -> Iterator[Finding]:
    """Look at the user's own ban rules."""
    path = str(home / BAN_RULES_FILE)
    try:
        yield from (Finding(path, fault.what, fault.advice) for fault in ban_rule_faults(home))
    except SettingsError as exc:
        yield Finding(path, str(exc), "let it be read, or take it away: nothing here sends requests before")


def _of_the_state(home: Path, *, repair: bool) -> Iterator[Finding]:
    """Look at the records beside the cache."""
    path = home / "db" / "state.db"
    try:
        if os.path.exists(path):  # noqa: PTH110  # the method of a path raises where the directory is closed
            with contextlib.closing(StateStore(path)) as store:
                faults = store.examine(repair=repair)
            advice = f"{REPAIR}: it is set aside, and what can be read is saved"
            yield from (Finding(str(path), fault, advice, repair) for fault in faults)
    except ProxyWhirlError as exc:
        yield Finding("state", str(exc), "then run `proxywhirl doctor` again")
    yield from set_aside(sorted(path.parent.glob("state.db.*")))


def _row(finding: Finding, home: Path | None) -> tuple[str, str, str]:
    """Return what is shown of a finding: places inside the home without its name."""
    where = finding.where if home is None else finding.where.replace(f"{home}/", "")
    return where, finding.what, "mended" if finding.repaired else finding.advice

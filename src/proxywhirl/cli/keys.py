"""`proxywhirl keys`: make the key that credentials are sealed with, change it, and say where it stands."""

from __future__ import annotations

import sys
from typing import cast

import click
from pydantic import SecretStr

from proxywhirl.cache.coordination.breaker import AbsentTier
from proxywhirl.cache.keys.rekey import KeyStatus, key_status
from proxywhirl.cache.keys.sealing import generate_key
from proxywhirl.cache.opening import open_tiers
from proxywhirl.cache.tiers.protocol import Tier, TierName
from proxywhirl.cli.options import home_option, json_option, open_runtime
from proxywhirl.cli.output import note, print_json, print_table, tell, warn
from proxywhirl.errors import TierError
from proxywhirl.settings import Settings


@click.group()
def keys() -> None:
    """Make, change and inspect the key of the store."""


@keys.command()
def generate() -> None:
    """Print a new key for PROXYWHIRL_CACHE_ENCRYPTION_KEY.

    It is stored nowhere: keep it where you keep other secrets.
    """
    click.echo(generate_key().get_secret_value())


@keys.command()
@click.option("--key-stdin", is_flag=True, help="Read the new key from stdin, instead of making one.")
@json_option
@home_option
def rotate(key_stdin: bool, as_json: bool, home: str | None) -> None:
    """Seal all credentials with a new key.

    Other processes may use the store meanwhile. If it is cut off, run it again: it goes on. A key from
    PROXYWHIRL_CACHE_ENCRYPTION_KEY is changed by setting that to the new one and
    PROXYWHIRL_CACHE_KEY_PREVIOUS to the old one; then this seals what the old one sealed.
    """
    given = SecretStr(sys.stdin.readline().strip()) if key_stdin else None
    with open_runtime(home) as runtime:
        try:
            done = runtime.cache.rotate_keys(given)
        except ValueError as exc:
            raise click.UsageError(f"{exc}.") from exc
    told = {"resealed": done.resealed, "unreadable": done.unreadable, "key": done.key_check}
    tell(told, f"sealed {done.resealed} anew with the key {done.key_check}", as_json=as_json)
    if not done.resealed and runtime.cache.config.encryption_key is not None:
        warn(
            "the key is configured: set that to a new one, and PROXYWHIRL_CACHE_KEY_PREVIOUS to this one, to change it"
        )
    if done.resumed:
        note("went on with a rotation that had been begun")
    if done.unreadable:
        warn(f"{done.unreadable} have damaged credentials and stay as they are: import or remove them")


@keys.command()
@json_option
@home_option
def status(as_json: bool, home: str | None) -> None:
    """Show where the key comes from, and which keys are in use.

    A key is shown by its fingerprint, which tells nothing else of it. Works without the key, too.
    """
    config = Settings.load(home).cache
    opened = open_tiers(config, absent=_left_out)
    tiers = [(name, tier) for name, tier in opened if not isinstance(tier, AbsentTier)]
    try:
        found = key_status(config, tiers)
    finally:
        for _, tier in tiers:
            tier.close()
    rows = [
        (key, _state(found, key), dict(found.sealed.get(key, {})))
        for key in dict.fromkeys([*filter(None, [found.current]), *sorted(found.known | found.sealed.keys())])
    ]
    if as_json:
        listed = [{"key": key, "state": state, "entries": entries} for key, state, entries in rows]
        told = {"origin": found.origin, "current": found.current, "unfinished": found.unfinished, "keys": listed}
        print_json(told | ({"trouble": found.trouble} if found.trouble else {}))
        return
    columns = [name for name, _ in tiers if name != "l1"]
    print_table(
        ("KEY", "STATE", *(name.upper() for name in columns)),
        [(key or "?", state, *(str(entries.get(name, 0)) for name in columns)) for key, state, entries in rows],
    )
    if found.trouble:
        warn(f"proxywhirl: {found.trouble}")
    else:
        note(f"the key comes from {found.origin}" if found.current else f"there is no key yet in {found.origin}")
    if any(state == "missing" for _, state, _ in rows):
        warn("a key is missing: restore it, or set PROXYWHIRL_CACHE_KEY_PREVIOUS to it")
    if found.unfinished:
        warn("a rotation is unfinished: `proxywhirl keys rotate` ends it")


def _left_out(name: TierName, reason: TierError) -> Tier:
    """Say that a tier cannot be opened, and go on without it."""
    warn(f"proxywhirl: tier {name} is left out: {reason}")

    def reopen() -> Tier:
        raise reason

    return cast("Tier", AbsentTier(reason, reopen))


def _state(found: KeyStatus, key: str) -> str:
    if key == found.current:
        return "current"
    return "previous" if key in found.known else "missing" if key else "unnamed"

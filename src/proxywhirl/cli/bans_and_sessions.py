"""`proxywhirl bans` and `sessions`: list the bans and sessions of a home, and end them."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter

import click

from proxywhirl.cli.options import KEY_OR_PROXY, SITE, Kind, home_option, json_option, open_runtime
from proxywhirl.cli.output import (
    acknowledge,
    ago,
    ahead,
    is_terminal,
    label_of,
    no_proxy,
    note,
    print_found,
    print_json,
    tell,
    warn,
)
from proxywhirl.rotation.affinity.ledger import Assignment
from proxywhirl.rotation.affinity.sessions import require_name, session_id
from proxywhirl.rotation.sites.bans import Ban
from proxywhirl.rotation.sites.groups import EVERYWHERE, is_group
from proxywhirl.rotation.sites.learning import EVERYBODY
from proxywhirl.runtime import Runtime
from proxywhirl.urls import ProxyURL

TERMINAL_ROWS = 100
SHOWN_DIGITS = 12
BAN_COLUMNS = ("KEY", "PROXY", "LABEL", "SITE", "RULE", "ENDS", "STRIKES")
SESSION_COLUMNS = ("SESSION", "KEY", "PROXY", "LABEL", "SINCE", "USED", "MOVES")


@click.command()
@click.option("--site", type=SITE, metavar="SITE|URL", help="Only those on this site.")
@click.option("--proxy", type=KEY_OR_PROXY, metavar="KEY|URL", help="Only those of this proxy.")
@click.option("--group", metavar="GROUP", help="Only those of this group, such as 203.0.113.0/24.")
@click.option("--lift", is_flag=True, help="Lift them, for every process that uses the store.")
@json_option
@home_option
def bans(
    site: str | None, proxy: str | ProxyURL | None, group: str | None, lift: bool, as_json: bool, home: str | None
) -> None:
    """List the bans that hold: which proxies and groups, on which sites.

    A site that failed alike through several proxies is left alone itself, as if every proxy were banned there. A group
    is a network, an autonomous system, a provider, or a gateway that is down, on every site then.
    Bans end by themselves; --lift ends them now, and the strikes that make the next ban longer.
    """
    with open_runtime(home) as runtime:
        held = runtime.knowledge.bans()
        wanted = None if proxy is None else _keys(runtime, proxy, {key for key, _ in held})
        if group is not None:
            wanted = {group} if wanted is None else wanted & {group}
        found = {
            pair: ban
            for pair, ban in sorted(held.items(), key=lambda item: (item[0][1], item[1].until))
            if _meant(pair, site, wanted)
        }
        if lift:
            runtime.knowledge.lift(found)
            tell({"lifted": len(found)}, f"lifted {len(found)}", as_json=as_json)
        else:
            rows = (_ban(runtime, *pair, ban) for pair, ban in found.items())
            _print(BAN_COLUMNS, rows, len(found), as_json=as_json)


@click.command()
@click.option(
    "--end",
    type=Kind("NAME", require_name),
    help="End the session of this name, for every process that uses the store.",
)
@json_option
@home_option
def sessions(end: str | None, as_json: bool, home: str | None) -> int:
    """List the sessions that last, and their proxies.

    The last used is first. How long they last is set by pool.session_ttl and pool.session_idle. Their names are not
    stored: what is shown begins the SHA-256 of one.
    """
    with open_runtime(home) as runtime:
        if end is not None:
            return _end(runtime, end, as_json=as_json)
        lasts, now = runtime.settings.pool.sessions().lasts, datetime.now(UTC).timestamp()
        written = runtime.knowledge.sessions().items()
        found = sorted(((name, known) for name, known in written if lasts(known, now)), key=lambda item: -item[1].used)
        rows = (_session(runtime, name, known) for name, known in found)
        _print(SESSION_COLUMNS, rows, len(found), as_json=as_json)
    return 0


def _end(runtime: Runtime, name: str, *, as_json: bool) -> int:
    ended = runtime.knowledge.end(session_id(name))
    if as_json:
        print_json({"ended": ended})
    elif ended:
        acknowledge("ended")
    if not ended:
        warn("proxywhirl: there is no session of that name; `proxywhirl sessions` shows how many there are")
    return 0 if ended else 1


def _keys(runtime: Runtime, proxy: str | ProxyURL, banned: Collection[str]) -> set[str]:
    """Return the keys that a key or URL means; refuse one that neither the store nor a ban knows."""
    keys = runtime.keys_of([proxy])[0]
    if not any(key in banned or runtime.cache.look(key) is not None for key in keys):
        raise no_proxy(proxy if isinstance(proxy, str) else proxy.canonical)
    return keys


def _meant(pair: tuple[str, str], site: str | None, keys: Collection[str] | None) -> bool:
    return (site is None or pair[1] == site) and (keys is None or pair[0] in keys)


Told = tuple[dict[str, object], tuple[str, ...]]
"""One ban or session: its fields in JSON, and its row."""


def _print(columns: tuple[str, ...], told: Iterator[Told], count: int, *, as_json: bool) -> None:
    shown = min(count, TERMINAL_ROWS) if is_terminal() and not as_json else count
    print_found(
        columns, islice(told, shown), itemgetter(1), itemgetter(0), as_json=as_json, expendable=("LABEL", "PROXY")
    )
    if shown < count:
        note(f"… and {count - shown} more: --json tells of all")


def _ban(runtime: Runtime, key: str, site: str, ban: Ban) -> Told:
    url, label = _named(runtime, key)
    fields = {"key": key, "proxy_url": url, "label": label, "site": site, "rule": ban.rule}
    place = "every site" if site == EVERYWHERE else site
    return (
        {**fields, "until": _iso(ban.until), "strikes": ban.strikes},
        (key, url, label, place, ban.rule, ahead(ban.until), str(ban.strikes)),
    )


def _session(runtime: Runtime, name: str, known: Assignment) -> Told:
    url, label = _named(runtime, known.key)
    fields = {"session": name, "key": known.key, "proxy_url": url, "label": label}
    return (
        {**fields, "since": _iso(known.since), "used": _iso(known.used), "moves": known.moves},
        (name[:SHOWN_DIGITS], known.key, url, label, ago(known.since), ago(known.used), str(known.moves)),
    )


def _named(runtime: Runtime, key: str) -> tuple[str, str]:
    """Return address and label of a proxy, empty where it is not in the store."""
    if key == EVERYBODY:
        return "", "every proxy"
    if is_group(key):
        return "", "every proxy of it"
    entry = runtime.cache.look(key)
    return ("", "") if entry is None else (entry.proxy_url, label_of(entry))


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()

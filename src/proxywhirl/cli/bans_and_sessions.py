"""`proxywhirl bans` and `sessions`: what choosing has learnt and written down, and the end of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice

import click

from proxywhirl.cli.options import KeyOrProxy, Site, home_option, json_option, open_runtime
from proxywhirl.cli.output import acknowledge, is_terminal, note, print_json, print_table, warn
from proxywhirl.errors import CacheError
from proxywhirl.rotation.affinity.ledger import Assignment
from proxywhirl.rotation.affinity.sessions import require_name, session_id
from proxywhirl.rotation.sites.bans import Ban
from proxywhirl.rotation.sites.learning import EVERYBODY
from proxywhirl.runtime import Runtime
from proxywhirl.urls import ProxyURL

TERMINAL_ROWS = 100
SHOWN_DIGITS = 12
BAN_COLUMNS = ("KEY", "PROXY", "LABEL", "SITE", "RULE", "ENDS", "STRIKES")
SESSION_COLUMNS = ("SESSION", "KEY", "PROXY", "LABEL", "SINCE", "USED", "MOVES")


class SessionName(click.ParamType[str]):
    """The name of a session: any text that is not empty."""

    name = "NAME"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name."""
        try:
            return require_name(value)
        except ValueError as exc:
            self.fail(f"{exc}.", param, ctx)


@click.command()
@click.option("--site", type=Site(), metavar="SITE|URL", help="Only those on this site.")
@click.option("--proxy", type=KeyOrProxy(), metavar="KEY|URL", help="Only those of this proxy.")
@click.option("--lift", is_flag=True, help="Lift them, for every process that uses the store.")
@json_option
@home_option
def bans(site: str | None, proxy: str | ProxyURL | None, lift: bool, as_json: bool, home: str | None) -> None:
    """List the bans that hold: which proxy is left alone on which site, and until when.

    A site that failed alike through several proxies is left alone itself, as if every proxy were banned there.
    They end by themselves; --lift ends them now, and the strikes that make the next ban longer.
    """
    with open_runtime(home) as runtime:
        held = runtime.knowledge.bans()
        wanted = None if proxy is None else _keys(runtime, proxy, {key for key, _ in held})
        found = {
            pair: ban
            for pair, ban in sorted(held.items(), key=lambda item: (item[0][1], item[1].until))
            if _meant(pair, site, wanted)
        }
        if lift:
            runtime.knowledge.lift(found)
            if as_json:
                print_json({"lifted": len(found)})
            else:
                acknowledge(f"lifted {len(found)}")
        elif as_json:
            for pair, ban in found.items():
                print_json(_ban_fields(runtime, pair, ban))
        else:
            _print_rows(BAN_COLUMNS, (_ban_row(runtime, pair, ban) for pair, ban in found.items()), len(found))


@click.command()
@click.option(
    "--end",
    metavar="NAME",
    type=SessionName(),
    help="End the session of this name, for every process that uses the store.",
)
@json_option
@home_option
def sessions(end: str | None, as_json: bool, home: str | None) -> int:
    """List the sessions that last and their proxies, the last used first.

    How long they do is set by pool.session_ttl and pool.session_idle. Their names are not stored: what is shown begins
    the SHA-256 of one.
    """
    with open_runtime(home) as runtime:
        if end is not None:
            return _end(runtime, end, as_json=as_json)
        lasts, now = runtime.settings.pool.sessions().lasts, datetime.now(UTC).timestamp()
        written = runtime.knowledge.sessions().items()
        found = sorted(((name, known) for name, known in written if lasts(known, now)), key=lambda item: -item[1].used)
        if as_json:
            for name, known in found:
                print_json(_session_fields(runtime, name, known))
        else:
            _print_rows(SESSION_COLUMNS, (_session_row(runtime, name, known) for name, known in found), len(found))
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
    """Return whom a key or URL means; refuse what means nobody that the store or a ban knows."""
    keys = runtime.keys_of([proxy])[0]
    if not any(key in banned or runtime.cache.look(key) is not None for key in keys):
        named = proxy if isinstance(proxy, str) else proxy.canonical
        raise CacheError(f"there is no proxy {named}: `proxywhirl list` shows the keys of those that there are")
    return keys


def _meant(pair: tuple[str, str], site: str | None, keys: Collection[str] | None) -> bool:
    return (site is None or pair[1] == site) and (keys is None or pair[0] in keys)


def _print_rows(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]], count: int) -> None:
    shown = min(count, TERMINAL_ROWS) if is_terminal() else count
    print_table(columns, islice(rows, shown), expendable=("LABEL", "PROXY"))
    if shown < count:
        note(f"… and {count - shown} more: --json tells of all")


def _ban_row(runtime: Runtime, pair: tuple[str, str], ban: Ban) -> tuple[str, ...]:
    key, site = pair
    return (key, *_named(runtime, key), site, ban.rule, _ahead(ban.until), str(ban.strikes))


def _session_row(runtime: Runtime, name: str, known: Assignment) -> tuple[str, ...]:
    url, label = _named(runtime, known.key)
    return (name[:SHOWN_DIGITS], known.key, url, label, _ago(known.since), _ago(known.used), str(known.moves))


def _ban_fields(runtime: Runtime, pair: tuple[str, str], ban: Ban) -> dict[str, object]:
    url, label = _named(runtime, pair[0])
    return {
        "key": pair[0],
        "proxy_url": url,
        "label": label,
        "site": pair[1],
        "rule": ban.rule,
        "until": _iso(ban.until),
        "strikes": ban.strikes,
    }


def _session_fields(runtime: Runtime, name: str, known: Assignment) -> dict[str, object]:
    url, label = _named(runtime, known.key)
    return {
        "session": name,
        "key": known.key,
        "proxy_url": url,
        "label": label,
        "since": _iso(known.since),
        "used": _iso(known.used),
        "moves": known.moves,
    }


def _named(runtime: Runtime, key: str) -> tuple[str, str]:
    """Return address and label of a proxy, empty where it is not in the store."""
    if key == EVERYBODY:
        return "", "every proxy"
    entry = runtime.cache.look(key)
    if entry is None:
        return "", ""
    return entry.proxy_url, entry.attributes.label or (f"user-{key[:6]}" if entry.username is not None else "")


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat()


def _ahead(moment: float) -> str:
    return f"in {_span(moment - datetime.now(UTC).timestamp())}"


def _ago(moment: float) -> str:
    return f"{_span(datetime.now(UTC).timestamp() - moment)} ago"


def _span(seconds: float) -> str:
    return str(timedelta(seconds=max(0, round(seconds))))

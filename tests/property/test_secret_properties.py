"""No password of a list shows in what is said of it, however it is spelled and whatever else is wrong with it."""

from __future__ import annotations

import io
import traceback

from hypothesis import given
from hypothesis import strategies as st

from proxywhirl.errors import ListFormatError, ProxyURLError
from proxywhirl.sources import Candidate, parse_list
from proxywhirl.urls import parse, redact

MARK = "Zq7"  # in no message of ours
SPELLINGS = [
    "{s}{u}:{p}@{h}:{n}",
    "{h}:{n}:{u}:{p}",
    "{u}:{p}:{h}:{n}",
    "{h}:{n}@{u}:{p}",
    "{s}{h}:{n}:{u}:{p}",
    "{h} {n} {u} {p}",
    "{h},{n},{u},{p}",
    "{h}:{n},{u},{p}",
    "{h}:{n} {u}:{p}",
    "{u}:{p} {h}:{n}",
    "{h}\t{n}\tsocks5\t{u}\t{p}",
    "socks5 {h} {n} {u} {p}",
    "{h}:{n}:socks5:{u}:{p}",
    "http_proxy={s}{u}:{p}@{h}:{n}",
    'proxy: "{s}{u}:{p}@{h}:{n}"',
    "<td>{h}</td><td>{n}</td><td>{u}</td><td>{p}</td>",
    "host={h} port={n} user={u} password={p}",
    "host: {h}\nport: {n}\nusername: {u}\npassword: {p}",
    "host,port,username,password\n{h},{n},{u},{p}",
    '[{{"ip": "{h}", "port": {n}, "username": "{u}", "password": "{p}"}}]',
    '{{"ip": "{h}", "port": "{n}", "user": "{u}", "pass": "{p}"}}\n{{"ip": "{h}"}}',
    '["{s}{u}:{p}@{h}:{n}"]',
    '{{"{p}": {{"ip": "{h}", "port": "{n}"}}}}',
    '[["{h}", "{n}", "{u}", "{p}"]]',
    "['{u}:{p}@{h}:{n}', '{h}:{n}:{u}:{p}']",
    "{p}",
    "{u}:{p}",
    "{u}@{p}",
    "{p}:{n}",
    "[{p}]:{n}",
]
SCHEMES = st.sampled_from(["", "http://", "socks5://", "ftp://", "//", "http:/"])
HOSTS = st.sampled_from(
    [
        "203.0.113.9",
        "999.1.1.1",
        "1.2.3",
        "[::1]",
        "[::g]",
        "2001:db8::1",
        "a..example",
        "-a.example",
        "a",
        "",
        "☃.example",
    ]
)
PORTS = st.sampled_from(["80", "0", "65536", "x", "-1", "", "80x", "\x07", "8e400", "['"])
TEXTS = st.text(st.sampled_from([*"a1:@/?#%[]{}<>(),;|.\"'\\ ~=-é☃\x00\t"]), max_size=4)


def said(error: BaseException | None) -> str:
    """Return all that an error, its cause and its context can show."""
    shown = ""
    while error is not None:
        shown += (
            f"{error} {error!r} {error.args} {vars(error)} {getattr(error, 'doc', '')} {getattr(error, 'object', '')}"
        )
        shown += "".join(traceback.format_exception(error))
        error = error.__cause__ or error.__context__
    return shown


@given(st.sampled_from(SPELLINGS), SCHEMES, HOSTS, PORTS, TEXTS, TEXTS, TEXTS, st.none() | st.integers(0, 99))
def test_nothing_said_of_a_list_tells_a_password(
    form: str, scheme: str, host: str, port: str, before: str, after: str, user: str, cut: int | None
) -> None:
    """Neither a reason, nor an error with its cause and context, nor the repr of what was read holds a password."""
    text = form.format(s=scheme, h=host, n=port, u=f"bob{user}", p=f"{before}{MARK}{after}")[:cut]
    shown = redact(text)
    try:
        for item in parse_list(io.BytesIO(text.encode())):
            # The mark may have been taken for a host, which is no secret: it is the password that must not show.
            host_read = isinstance(item, Candidate) and MARK.lower() in item.url.host
            shown += "" if host_read else repr(item)
    except ListFormatError as exc:
        shown += said(exc)
    try:
        parse(text)
    except ProxyURLError as exc:
        shown += said(exc)
    assert MARK.lower() not in shown.lower()

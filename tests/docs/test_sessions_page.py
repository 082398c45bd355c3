"""The page on sessions, exclusive leases and limits: its program runs, and its tables are the settings."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from proxywhirl.gateway.protocol.messages import MOVED_FIELD
from proxywhirl.rotation.affinity.sessions import SessionPolicy
from proxywhirl.rotation.proxy_state import Limits
from proxywhirl.settings.sections import PoolSettings

PAGE = (Path(__file__).parents[2] / "docs" / "sessions.md").read_text(encoding="utf-8")
PROGRAM = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
ROWS = {row[0]: row[1:] for row in re.findall(r"^\| `pool\.(\w+)` \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)}


def test_the_program_runs() -> None:
    """Part after part as it stands, and it prints what its comments say."""
    printed: list[str] = []
    exec(compile(PROGRAM, "docs/sessions.md", "exec"), {"print": lambda value: printed.append(str(value))})
    promised = re.findall(r"print\(.+\)  # (.+)", PROGRAM)
    assert len(printed) == len(promised) == 3
    for words, text in zip(promised, printed, strict=True):
        assert re.fullmatch(re.escape(words).replace("…", "[0-9a-f]{16}"), text)


def test_the_field_of_the_gateway_is_named() -> None:
    """The page spells the field in which the gateway tells that a session moved."""
    assert f"`{MOVED_FIELD.decode()}`" in PAGE


def test_the_tables_are_the_settings() -> None:
    """Each setting that the page names is there, with that default; no limit is left out."""
    limits = {field.name for field in fields(Limits)}
    assert ROWS.keys() == {"session_ttl", "session_idle", "session_hard", *limits}
    defaults = PoolSettings()
    for name, (what, default) in ROWS.items():
        value = getattr(defaults, name)
        assert default == ("none" if value is None else "no" if value is False else f"{value:g} seconds")
        if name not in limits:
            assert hasattr(SessionPolicy(), what.strip("`"))

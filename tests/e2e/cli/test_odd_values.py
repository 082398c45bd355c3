"""No line of an imported file, whatever its values are, ends a command in a traceback or stops a home from working."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]

LARGEST = 2**63 - 1
SOUND: dict[str, Any] = {"source": "l", "fetch_time": "2026-11-30T14:48:04Z", "ttl_seconds": 10**9}
TAKEN: list[dict[str, Any]] = [
    {"total_health_checks": LARGEST, "total_health_check_failures": LARGEST},
    {"failure_count": LARGEST, "consecutive_health_failures": LARGEST, "recovery_attempt": LARGEST},
    {"access_count": LARGEST, "ttl_seconds": LARGEST},
    {"next_check_time": "9999-12-31T23:59:59.999999Z", "last_accessed": "9999-12-31T23:59:59.999999Z"},
    {
        "fetch_time": "1960-01-01T00:00:00Z",
        "last_health_check": "0001-01-01T00:00:00Z",
        "expires_at": "9999-12-31T23:59:59Z",
    },
    {"source": "a\x00b", "last_health_error": "\x00"},
]
REFUSED: list[dict[str, Any]] = [
    {"total_health_checks": LARGEST + 1},
    {"access_count": -1},
    {"recovery_attempt": 1.5},
    {"next_check_time": float("inf")},
    {"last_accessed": "10000-01-01T00:00:00Z"},
    {"fetch_time": "2026-11-30T14:48:04"},
    {"source": "\ud800"},
    {"attributes": {"price_per_gb": float("inf")}},
    {"attributes": {"asn": True, "tags": 5}},
    {"attributes": "[" * 20_000},
    {"failure_count": "9" * 5_000},
    {"health_status": ["healthy"]},
]


def test_a_home_works_on_whatever_was_imported(run: Run, tmp_path: Path) -> None:
    """What can be stored is taken, the rest is counted as failed, and every later command does its work."""
    path = tmp_path / "x.jsonl"
    lines = [
        {**SOUND, "key": f"k{n:02}", "proxy_url": f"http://127.0.0.1:{n + 1}", **odd}
        for n, odd in enumerate([*TAKEN, *REFUSED])
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    imported = run("import", path, "--json")
    assert (imported.code, imported.json["loaded"], imported.json["failed"]) == (0, len(TAKEN), len(REFUSED))
    assert run("add", "http://127.0.0.1:9").code == 0
    for _ in range(2):
        assert run("check", "--level", "tcp", "--timeout", "1").code in {0, 1}
        listed = run("list", "--json")
        retired = run("list", "--retired", "--json")
        assert listed.code == retired.code == 0
        assert len(listed.out.splitlines()) + len(retired.out.splitlines()) == len(TAKEN) + 1
        assert run("doctor").code == 0
        assert run("stats").code == 0
        assert run("export", tmp_path / "out.jsonl").code == 0
        assert run("import", tmp_path / "out.jsonl").code == 0
        assert run("doctor", "--repair").code == 0
    for n in range(len(TAKEN)):
        assert run("show", f"k{n:02}").code == 0
        assert run("remove", f"k{n:02}").code == 0
    assert run("doctor").code == 0

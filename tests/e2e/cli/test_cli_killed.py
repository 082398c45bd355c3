"""An import that is killed: what was committed is read back, and the same import completes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from proxywhirl.cli.transfer import BATCH
from proxywhirl.runtime import Runtime
from proxywhirl.settings import Settings

Run = Callable[..., Any]

LINES = BATCH + 10_000
PRIVATE = 50  # each so many lines one has a password


def test_an_import_that_is_killed_can_be_done_again(run: Run, home: Path, tmp_path: Path) -> None:
    """After SIGKILL in the middle the store opens, holds what was committed with its passwords, and takes the rest."""
    lines = [f"{'' if n % PRIVATE else f'u:p{n}@'}10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80\n" for n in range(LINES)]
    lines[BATCH + 101] = "10.0.0.1:0\n"  # a wrong line is told of when the batch before it is committed
    path = tmp_path / "big.txt"
    path.write_text("".join(lines))
    with subprocess.Popen(
        [sys.executable, "-m", "proxywhirl", "import", path], stderr=subprocess.PIPE, text=True
    ) as importing:
        assert importing.stderr is not None
        next(line for line in importing.stderr if line.startswith("big.txt:"))
        importing.kill()
    with Runtime(Settings.load(home)) as runtime:
        survived = len(runtime.cache)
        assert BATCH <= survived < LINES
        entries = list(runtime.cache.scan())
        assert len(entries) == survived
        private = [entry for entry in entries if entry.password is not None]
        assert len(private) >= BATCH // PRIVATE
        for entry in private[::20]:
            number = sum(int(part) << shift for part, shift in zip(octets(entry.proxy_url), (16, 8, 0), strict=True))
            assert entry.password is not None
            assert entry.password.get_secret_value() == f"p{number}"
    counts = run("import", path, "--json").json
    assert counts == {"loaded": LINES - 1 - survived, "skipped": survived, "failed": 1, "ignored": 0}
    assert run("stats", "--json").json["l3_stats"]["current_size"] == LINES - 1


def octets(url: str) -> list[str]:
    """Return the last three numbers of the address of a URL."""
    return url.removeprefix("http://10.").removesuffix(":80").split(".")

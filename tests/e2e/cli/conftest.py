"""The command line, run in this process for speed or in one of its own, with a home that is a test's own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.cli.main import main

COMMAND = (sys.executable, "-m", "proxywhirl")


@dataclass(frozen=True)
class Ended:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one line of JSON that was printed."""
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The rows of the table that was printed, without its header."""
        return [line.split("\t") for line in self.out.splitlines()[1:]]


Run = Callable[..., Ended]
Spawn = Callable[..., AbstractContextManager[subprocess.Popen[str]]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a home that every command of the test uses, and no other variable of the user's."""
    for name in [name for name in os.environ if name.startswith("PROXYWHIRL_")]:
        monkeypatch.delenv(name)
    directory = tmp_path / "home"
    monkeypatch.setenv("PROXYWHIRL_HOME", str(directory))
    return directory


@pytest.fixture
def run(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process, with more variables of the environment."""

    def run(*arguments: object, stdin: str | bytes = b"", **variables: str) -> Ended:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        capsys.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
            for name, value in variables.items():
                patch.setenv(name, value)
            with pytest.raises(SystemExit) as ended:
                main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Ended(code, out, err)

    return run


@pytest.fixture
def spawn(home: Path) -> Spawn:
    """Run a command in a process of its own, which is gone at the end of the block."""

    @contextlib.contextmanager
    def spawn(*arguments: object, **variables: str) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    return spawn


@pytest.fixture
def process(home: Path) -> Run:
    """Run a command in a process of its own, to its end."""

    def run(*arguments: object, stdin: str = "", **variables: str) -> Ended:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env={**os.environ, **variables},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run

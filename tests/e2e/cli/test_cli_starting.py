"""What a command loads before it does anything: `benchmarks.startup` measures how long that takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from proxywhirl.cli.main import COMMANDS, cli

LOADED = """
import sys
before = set(sys.modules)
sys.argv = ["proxywhirl", *sys.argv[1:]]
from proxywhirl.__main__ import main
try:
    main()
finally:
    print(*set(sys.modules) - before, file=sys.stderr)
"""
OUTSIDE = {
    "apsw",
    "asyncio",
    "cryptography",
    "filelock",
    "h11",
    "httpcore2",
    "httpx2",
    "idna",
    "platformdirs",
    "pydantic",
}
OUTSIDE |= {"pydantic_core", "rich", "ssl", "stamina"}


def loaded(*arguments: str) -> set[str]:
    """Run the command line; return the modules that it loads."""
    command = [sys.executable, "-c", LOADED, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return set(done.stderr.split())


def test_the_version_needs_nothing() -> None:
    """`--version` loads the package itself, and neither click nor another module of it."""
    modules = loaded("--version")
    assert {name for name in modules if name.startswith("proxywhirl")} == {"proxywhirl", "proxywhirl.__main__"}
    assert "click" not in modules


@pytest.mark.parametrize("argument", ["--help", "-h"])
def test_the_help_loads_nothing_of_the_runtime(argument: str) -> None:
    """`--help` tells of every command and loads none."""
    modules = loaded(argument)
    assert {name for name in modules if name.startswith("proxywhirl.")} == {
        "proxywhirl.__main__",
        "proxywhirl.cli",
        "proxywhirl.cli.main",
        "proxywhirl.cli.options",
        "proxywhirl.cli.output",
        "proxywhirl.errors",
    }
    assert modules & OUTSIDE == set()


def test_a_list_loads_the_store_alone(tmp_path: Path) -> None:
    """`list` reads settings and store: it loads no gateway, no strategy, no source, nothing that waits or decrypts."""
    modules = loaded("list", "--home", str(tmp_path))
    rooms = {name.split(".")[1] for name in modules if name.startswith("proxywhirl.")}
    strangers = {"checkups", "client", "gateway", "integrations", "knowledge", "net", "rotation", "sources", "supply"}
    assert rooms & (strangers | {"testing", "vendors", "wire"}) == set()
    assert modules & {"asyncio", "cryptography", "h11", "httpcore2", "httpx2", "rich", "ssl", "stamina"} == set()


def test_the_help_tells_of_a_command_what_it_tells_itself() -> None:
    """What stands beside a command's name in `--help` is the first sentence of its own help."""
    for name, (_, _, sentence) in COMMANDS.items():
        assert cli.commands[name].get_short_help_str(200) == sentence

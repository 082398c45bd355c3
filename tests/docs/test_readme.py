"""The README: what it shows is what happens."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proxywhirl.testing import FleetSpec, running_fleet

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def blocks(language: str) -> list[str]:
    """Return the README's blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_transcript_is_what_the_commands_print(tmp_path: Path) -> None:
    """Each command of the console transcript prints what stands below it, run in order in a new home."""
    (transcript,) = blocks("console")
    steps = re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", transcript, re.MULTILINE)
    assert steps[0][0] == "cat proxies.txt"
    (tmp_path / "proxies.txt").write_text(steps[0][1])
    variables = {"PATH": PATH, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    for command, shown in steps:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stdout.replace(str(tmp_path), "~") == shown, command


def test_the_requests_of_the_readme_go_through_the_gateway(tmp_path: Path) -> None:
    """`proxywhirl serve` prints the address that the README names, and curl reaches an origin through it."""
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not on this machine")
    assert "curl -x http://127.0.0.1:8899 http://example.com" in README
    with running_fleet([FleetSpec("http")]) as (fleet, origin):
        variables = {**os.environ, "PATH": PATH, "PROXYWHIRL_HOME": str(tmp_path)}
        command = [sys.executable, "-m", "proxywhirl"]
        subprocess.run([*command, "add", *fleet.urls()], env=variables, timeout=60, check=True, capture_output=True)
        with subprocess.Popen(
            [*command, "serve", "--port", "0"],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as server:
            try:
                assert server.stdout is not None
                address = server.stdout.readline().strip()
                assert address.startswith("http://127.0.0.1:")
                target = f"http://example.com:{origin.port}/"
                done = subprocess.run(
                    [curl, "-sS", "-x", address, target], timeout=60, check=True, capture_output=True, text=True
                )
            finally:
                server.terminate()
        assert '"proxy": "http-0"' in done.stdout
        assert server.returncode == 0


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_run(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each program runs as it stands, with the fleet in the place of the addresses that it shows."""
    with running_fleet([FleetSpec("http"), FleetSpec("socks5", "alice", "s3cret")]) as (fleet, origin):
        http, socks = (url.removeprefix("http://") for url in fleet.urls())
        real = program.replace("203.0.113.7:8080", http).replace("socks5://alice:s3cret@198.51.100.4:1080", socks)
        real = real.replace("http://example.com", f"http://example.com:{origin.port}")
        exec(compile(real, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


def test_the_commands_of_make_exist() -> None:
    """The targets that the README names are in the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_lead_somewhere() -> None:
    """Every relative link of the README and the docs names a file that is there."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_make_demo_ends_by_itself() -> None:
    """`make demo` runs the demonstration once: it must not wait for a key in a log or in CI."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "proxywhirl demo --once" in makefile

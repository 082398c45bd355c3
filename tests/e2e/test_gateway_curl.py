"""The gateway as curl sees it, and as its documentation says."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from proxywhirl.testing import FleetSpec

if TYPE_CHECKING:
    from conftest import Authority, LabFactory

CURL = shutil.which("curl")
GUIDE = Path(__file__).parents[2] / "docs" / "gateway.md"

needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not on the PATH: these tests did not run")


async def curl(*arguments: str) -> tuple[int, str]:
    """Run curl without its own settings and return its exit code and output."""
    process = await asyncio.create_subprocess_exec(
        str(CURL), "-q", "--silent", "--show-error", "--max-time", "20", *arguments,
        env={}, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@needs_curl
@pytest.mark.parametrize("scheme", ["http", "https", "socks4a", "socks5"])
@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
async def test_curl_reaches_its_target(lab: LabFactory, authority: Authority, scheme: str, https: bool) -> None:
    """`curl -x` works for http and https targets, whatever the scheme of the proxies."""
    async with lab([FleetSpec(scheme, "alice", None if scheme == "socks4a" else "s3cret")], https=https) as running:
        code, output = await curl("-x", running.url, "--cacert", str(authority.file), running.origin.url)
        assert (code, json.loads(output)["proxy"]) == (0, running.fleet[0].name)


@needs_curl
async def test_curl_asks_several_things_on_one_connection(lab: LabFactory) -> None:
    """GET, HEAD and POST in one run of curl reuse the connection to the gateway."""
    async with lab([FleetSpec(), FleetSpec("socks5")]) as running:
        url = running.origin.url
        each = ["-w", "connections: %{num_connects}", "-x", running.url, url]
        code, output = await curl(*each, "--next", "-I", *each, "--next", "-d", "x=1", *each)
        assert code == 0
        assert re.findall(r"connections: (\d)", output) == ["1", "0", "0"]
        assert [seen.method for seen in running.origin.requests] == ["GET", "HEAD", "POST"]


@needs_curl
async def test_curl_waits_for_the_word_to_send_a_large_body(lab: LabFactory, tmp_path: Path) -> None:
    """With Expect: 100-continue a large body goes up once, after the target or the gateway said so."""
    body = tmp_path / "body"
    body.write_bytes(bytes(range(256)) * 8192)
    async with lab([FleetSpec("socks5")]) as running:
        expect = ("-H", "Expect: 100-continue")
        code, output = await curl("-v", "-x", running.url, *expect, "--data-binary", f"@{body}", running.origin.url)
        assert code == 0
        assert "HTTP/1.1 100 Continue" in output
        assert [seen.body_length for seen in running.origin.requests] == [2 * 1024 * 1024]


@needs_curl
async def test_curl_is_told_why(lab: LabFactory) -> None:
    """No credentials, wrong ones, no proxy left, and no proxy request at all: each has its own words."""
    async with lab(credentials=("me", "open sesame")) as running:
        url = running.origin.url
        assert "username and a password" in (await curl("-x", running.url, url))[1]
        assert "username and a password" in (await curl("-x", running.url, "-U", "me:wrong", url))[1]
        assert '"proxy": "http-0"' in (await curl("-x", running.url, "-U", "me:open sesame", url))[1]
        assert '"proxy": "http-0"' in (await curl("-x", running.url, "--proxy-anyauth", "-U", "me:open sesame", url))[1]
        assert "curl -x" in (await curl(running.url))[1]
        running.fleet[0].kill()
        assert "1 proxy tried" in (await curl("-x", running.url, "-U", "me:open sesame", url))[1]


async def test_the_guides_example_runs() -> None:
    """The Python example of the guide starts and closes a gateway as it stands."""
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(example, names)
    await names["main"]()

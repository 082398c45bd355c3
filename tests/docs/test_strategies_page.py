"""The page on strategies: its tables are complete, its settings are settings, and its commands and programs run."""

from __future__ import annotations

import os
import random
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxywhirl.cli.main import main
from proxywhirl.errors import Blame, PoolEmpty
from proxywhirl.models import Attributes, Outcome, Proxy
from proxywhirl.rotation.pool import Pool
from proxywhirl.rotation.proxy_state import Limits
from proxywhirl.rotation.selection.filters import Wishes
from proxywhirl.rotation.selection.pool_options import COMBINED, DEFAULT_STRATEGY, PoolOptions
from proxywhirl.rotation.sites.bans import Ban
from proxywhirl.rotation.strategies import base as protocols
from proxywhirl.rotation.strategies.registry import strategy_names
from proxywhirl.settings import Settings
from proxywhirl.testing.clock import ManualClock

PAGE = (Path(__file__).parents[2] / "docs" / "strategies.md").read_text(encoding="utf-8")
PROGRAM, MODULE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
STRATEGY, WORTH, LIMITS, REGISTRATION = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
(PRINTED,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
(COMMANDS,) = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
(CONSOLE,) = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
EXAMPLES = re.findall(r"^\$ proxywhirl (.+)\n((?:[^$\n].*\n)+)", CONSOLE, re.MULTILINE)


def rows(heading: str) -> list[str]:
    """Return the first cells of the table with a heading."""
    table = PAGE.partition(f"\n| {heading} |")[2].partition("\n\n")[0]
    return re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new home and no other setting."""
    for name in [name for name in os.environ if name.startswith("PROXYWHIRL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PROXYWHIRL_HOME", str(tmp_path))


def run(line: str) -> None:
    """Run a command that succeeds."""
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line))
    assert ended.value.code == 0, line


def test_there_is_one_default() -> None:
    """The page names the strategy that homes and pools of a program have where nothing is said."""
    assert f"The default is `{DEFAULT_STRATEGY}`, of a home and of `Pool.of` alike" in PAGE
    for pool in (Pool.of(["203.0.113.7:8080"]), Pool(resolve=lambda _key: None)):
        pool.update([Proxy("k", "http", "203.0.113.7", 8080)])
        assert pool.acquire().why.startswith(f"{DEFAULT_STRATEGY}, ")
    assert Settings().pool.strategy == DEFAULT_STRATEGY


def test_the_tables_are_complete() -> None:
    """Every strategy, every filter, and every method that a strategy may have besides the three."""
    assert sorted(rows("Strategy")) == sorted([*strategy_names(), *COMBINED])
    assert rows("Filter") == list(Wishes.__annotations__)
    optional = [
        protocols.MeetsDeadlines,
        protocols.CountsUses,
        protocols.Learns,
        protocols.ReadsAttributes,
        protocols.Declines,
    ]
    methods = [name for each in optional for name in vars(each) if not name.startswith("_")]
    assert [row.partition("(")[0] for row in rows("Method")] == methods


def test_the_settings_are_settings(tmp_path: Path) -> None:
    """All examples are read; the first is a strategy, the second has a worth, the third every limit."""
    (tmp_path / "settings.toml").write_text(STRATEGY)
    recipe = PoolOptions.read(Settings.load(tmp_path).pool.strategy)
    assert str(recipe.base) == "country=DE|FR,max_price=2"
    (tmp_path / "settings.toml").write_text(WORTH)
    assert Settings.load(tmp_path).pool.success_worth == 0.001
    (tmp_path / "settings.toml").write_text(LIMITS)
    pool = Settings.load(tmp_path).pool
    assert (pool.strategy, pool.limits()) == ("least_used", Limits(2.0, 8, 1.5))
    assert set(tomllib.loads(LIMITS)["pool"]) - {"strategy"} == set(Limits.__slots__)


def test_the_program_prints_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """It runs as it stands."""
    exec(compile(PROGRAM, "docs/strategies.md", "exec"), {})
    assert capsys.readouterr().out == PRINTED


@pytest.mark.usefixtures("home")
def test_the_commands_say_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other in a new home; then those that choose another strategy run there too."""
    assert len(EXAMPLES) == 4
    for line, shown in EXAMPLES:
        run(line)
        assert capsys.readouterr().out == shown
    for line in COMMANDS.splitlines():
        run(line.removeprefix("proxywhirl "))
        assert capsys.readouterr().out.startswith("eligible  ")


def test_a_lease_says_why_in_the_words_of_the_page() -> None:
    """Each row of the table, in its order."""
    clock = ManualClock()

    def pool_of(strategy: str, count: int) -> Pool:
        pool = Pool(strategy, resolve=lambda _key: None, rng=random.Random(1), clock=clock)
        pool.update(
            Proxy(f"k{n}", "http", "192.0.2.1", 80, attributes=Attributes(country="FR" if n else "DE"))
            for n in range(count)
        )
        return pool

    told = [str(pool_of("round_robin", 2).acquire().why), str(pool_of("round_robin", 2).acquire(country="DE").why)]
    pool = pool_of("round_robin", 4)
    ban = Ban(until=clock.now() + 60, strikes=1, rule="forbidden", forget_at=clock.now() + 600)
    pool.learn_bans({(f"k{n}", "shop.example"): ban for n in range(3)})
    told.append(str(pool.acquire("http://shop.example/").why))
    told.append(str(pool_of("geo:country=DE", 3).acquire(exclude={"k0"}).why))
    pool = pool_of("round_robin", 3)
    lease = pool.acquire(session="s")
    told.append(str(lease.why))
    pool.discard([lease.proxy.key])
    told.append(str(pool.acquire(session="s").why).replace(lease.proxy.key, "KEY"))
    pool = pool_of("round_robin", 3)
    for _ in range(3):
        pool.acquire().report(Outcome(False, blame=Blame.PROXY))
    told.append(str(pool.acquire().why))
    shown = rows("It says")
    assert len(told) == len(shown)
    for sentence, row in zip(told, shown, strict=True):
        assert re.search(re.escape(row).replace("…", ".+"), sentence), (row, sentence)


@pytest.fixture
def steady(tmp_path: Path) -> Iterator[None]:
    """The page's strategy, installed with the entry point that the page shows."""
    (tmp_path / "steady.py").write_text(MODULE, encoding="utf-8")
    information = tmp_path / "steady-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: steady\nVersion: 1.0\n")
    ((group, points),) = tomllib.loads(REGISTRATION)["project"]["entry-points"].items()
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (information / "entry_points.txt").write_text("\n".join(lines))
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    sys.modules.pop("steady", None)


@pytest.mark.usefixtures("steady")
@pytest.mark.parametrize("strategy", ["steady", "composite:scheme=http,chooser=steady"])
def test_the_strategy_of_the_page_chooses(strategy: str) -> None:
    """One proxy for as long as it is ready, then the next, and none where all are excluded."""
    pool = Pool.of([f"http://192.0.2.{n}" for n in range(1, 4)], strategy, rng=random.Random(1), clock=ManualClock())

    def host() -> str:
        with pool.acquire() as lease:
            return lease.proxy.host

    assert {host() for _ in range(5)} == {"192.0.2.1"}
    pool.acquire().report(Outcome(False, blame=Blame.PROXY))
    assert {host() for _ in range(5)} == {"192.0.2.2"}
    with pytest.raises(PoolEmpty):
        pool.acquire(exclude=pool.keys())

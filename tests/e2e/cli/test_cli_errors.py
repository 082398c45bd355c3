"""How commands fail: exit code 1 or 2, one line on stderr, never a traceback; and what pipes and terminals get."""

from __future__ import annotations

import logging
import os
import pty
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import click
import pytest
from cryptography.fernet import Fernet

from proxywhirl.cli.main import cli

Run = Callable[..., Any]

COMMAND = f"{sys.executable} -m proxywhirl"


def assert_one_line(done: Any, code: int, *words: str) -> None:
    """A command ended with a code and one line on stderr that has these words."""
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("proxywhirl: ")
    assert done.err.count("\n") == 1
    for word in words:
        assert word in done.err


@pytest.mark.parametrize("name", ["", *cli.commands])
def test_help_mentions_every_option(run: Run, name: str) -> None:
    """`--help` and `-h` print what the command does and each of its options, and end well."""
    command: click.Command = cli.commands.get(name, cli)
    done = run(*filter(None, [name]), "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out == run(*filter(None, [name]), "-h").out
    assert len(done.out.splitlines()[2]) > 10
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:  # those are there to be refused
            assert parameter.help
            assert all(option in done.out for option in parameter.opts)


def test_the_version_is_printed(run: Run) -> None:
    """`--version` prints name and version."""
    assert run("--version").out.startswith("proxywhirl, version ")


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    """No command is wrong usage, answered with the help in its own lines."""
    done = run()
    assert (done.code, done.out) == (2, "")
    assert "\n  import  " in done.err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("bogus",), "No such command 'bogus'"),
        (("import",), "Missing argument"),
        (("import", "x", "--ttl", "soon"), "'soon' is neither"),
        (("import", "x", "--ttl", "0"), "'0' is neither"),
        (("import", "x", "--ttl", "9" * 5000), "9' is neither"),
        (("list", "--source", "\udcff"), "cannot be printed"),
        (("list", "--tag", "\udcff"), "cannot be printed"),
        (("import", "x", "--scheme", "ftp"), "'ftp' is not one of"),
        (("import", "x", "--country", "XXX"), "two-letter code"),
        (("list", "--status", "fine"), "'fine' is not one of"),
        (("list", "--limit", "0"), "0 is not in the range"),
        (("serve", "--port", "70000"), "70000 is not in the range"),
        (("remove", "nothing.example"), "no port"),
        (("stats", "--no-such"), "No such option"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: tuple[str, ...], word: str) -> None:
    """The line says what is wrong and where help is."""
    assert_one_line(run(*arguments), 2, word, "--help'.")


@pytest.mark.parametrize("name", ["list", "stats", "export", "serve"])
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("[[[", "settings.toml cannot be read"),
        ("[proxies]\na = 1\n", "unknown section 'proxies'; known: cache, gateway, health, pool"),
        ("cache = 3\n", "cache must be a table"),
        ("[gateway]\nport = 'x'\n", "setting gateway.port (PROXYWHIRL_GATEWAY_PORT or "),
        ("[pool]\nstrat = 'x'\n", "setting pool.strat (PROXYWHIRL_POOL_STRAT or "),
        ("[pool]\nstrategy = 'x'\n", "unknown strategy 'x'; known: bandit, cheapest, "),
        ("[cache.l1_config]\neviction_policy = 'x'\n", "Invalid eviction policy"),
    ],
)
def test_a_wrong_settings_file_is_named(run: Run, home: Path, name: str, text: str, word: str) -> None:
    """Every command that opens a home says what is wrong in its settings file."""
    home.mkdir()
    (home / "settings.toml").write_text(text)
    assert_one_line(run(name), 1, word)


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("PROXYWHIRL_GATEWAY_PORT", "s3cret", "setting gateway.port (PROXYWHIRL_GATEWAY_PORT"),
        ("PROXYWHIRL_GATEWAY_PRT", "s3cret", "none of this name; known: "),
        ("PROXYWHIRL_CACHE_ENCRYPTION_KEY", "s3cret", "is not a Fernet key"),
        ("PROXYWHIRL_CACHE_L1_CONFIG", "s3cret", "PROXYWHIRL_CACHE_L1_CONFIG: a table is written as JSON"),
        ("PROXYWHIRL_CACHE_DURABILITY", "s3cret", "setting cache.durability"),
    ],
)
def test_a_wrong_variable_is_named_without_its_value(
    run: Run, monkeypatch: pytest.MonkeyPatch, name: str, value: str, word: str
) -> None:
    """The line says which variable is wrong, and does not show what it holds."""
    monkeypatch.setenv(name, value)
    done = run("list")
    assert_one_line(done, 1, word)
    assert value not in done.err


def test_a_home_that_cannot_be_one_is_named(run: Run, tmp_path: Path) -> None:
    """A file as a home, a home below a file, a link to nothing, and a name of another kind are named as errors."""
    file = tmp_path / "file"
    file.touch()
    assert_one_line(run("list", "--home", file), 1, f"the home {file} is a file: name a directory")
    assert_one_line(run("list", "--home", file / "below"), 1, "Not a directory")
    assert_one_line(run("list", "--home", "x" * 300), 1, "File name too long")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nothing")
    assert_one_line(run("list", "--home", link), 1, f"the home {link} is a link to what is not there")
    for name in ("\udcff", "a\0b"):
        assert_one_line(run("list", "--home", tmp_path / name), 1, "is no text in UTF-8")


def test_a_missing_or_wrong_key_is_named(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With credentials stored, no command goes on without the key that sealed them, nor makes a new one."""
    run("add", "http://alice:s3cret@203.0.113.1:80")
    monkeypatch.setenv("PROXYWHIRL_CACHE_ENCRYPTION_KEY", Fernet.generate_key().decode())
    assert_one_line(run("list"), 1, "sealed with another key", "PROXYWHIRL_CACHE_ENCRYPTION_KEY")
    monkeypatch.delenv("PROXYWHIRL_CACHE_ENCRYPTION_KEY")
    (home / "key").unlink()
    assert_one_line(run("list"), 1, "there is no key", str(home / "key"))
    assert not (home / "key").exists()


@pytest.mark.parametrize("name", ["proxywhirl.db", "state.db"])
def test_a_newer_database_is_refused_by_name(run: Run, home: Path, name: str) -> None:
    """A file of a newer version is left as it is."""
    run("add", "203.0.113.1:80")
    with closing(apsw.Connection(str(home / "db" / name))) as connection:
        connection.pragma("user_version", 999)
    assert_one_line(run("list"), 1, name, "version 999", "upgrade ProxyWhirl")


def test_a_damaged_state_file_is_set_aside(run: Run, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A file that is no database stops nothing; it is kept, and the log names where."""
    run("add", "203.0.113.1:80")
    for path in (home / "db").glob("state.db*"):
        path.write_bytes(b"nonsense" * 1000)
    assert run("list").code == 0
    (aside,) = (home / "db").glob("state.db.damaged-*")
    assert f"set aside as {aside}" in caplog.text


def test_a_store_that_cannot_grow_fails_the_command(home: Path, run: Run, tmp_path: Path) -> None:
    """Where the system lets no file grow, an import says so and ends with exit code 1; the store opens afterwards."""
    assert run("add", "203.0.113.1:80").code == 0
    lines = tmp_path / "list.txt"
    lines.write_text("".join(f"10.0.{n >> 8}.{n & 255}:80\n" for n in range(20_000)))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 300; exec {COMMAND} import {lines}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "the store cannot be written to" in done.stderr.splitlines()[-1]
    assert run("import", lines).code == 0


def test_no_command_needs_a_home_directory(tmp_path: Path) -> None:
    """Without HOME and PROXYWHIRL_HOME a command finds a place, or says how to name one; with --home it works."""
    done = subprocess.run(
        [sys.executable, "-m", "proxywhirl", "stats", "--json", "--home", tmp_path / "named"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "named" / "db").is_dir()


def test_the_users_data_directory_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Without --home and PROXYWHIRL_HOME the store is where platformdirs has the user's data."""
    monkeypatch.delenv("PROXYWHIRL_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert run("add", "203.0.113.1:80").code == 0
    assert [path.name for path in tmp_path.rglob("key")] == ["key"]


@pytest.mark.parametrize("command", ["list", "list --json", "export", "--help"])
def test_a_pipe_that_is_closed_early_is_no_error(home: Path, run: Run, command: str) -> None:
    """`| head -1` leaves no complaint, and the command ends with 0."""
    run("import", "-", stdin="".join(f"10.0.{n >> 8}.{n & 255}:80\n" for n in range(3_000)))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{COMMAND} {command} | head -1"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "roken pipe" not in done.stderr


@pytest.mark.parametrize("command", ["list", "export"])
def test_a_pipe_gets_utf_8_whatever_the_terminal(run: Run, process: Run, command: str) -> None:
    """A label outside the encoding that Python has chosen for stdout comes out whole."""
    run("add", "http://a:b@203.0.113.1:80", "--label", "Zürich")
    done = process(command, PYTHONIOENCODING="ascii")
    assert done.code == 0
    assert "Zürich" in done.out


def test_an_ascii_terminal_gets_what_it_can_show(home: Path, run: Run) -> None:
    """On a terminal such a label is escaped."""
    run("add", "http://a:b@203.0.113.1:80", "--label", "Zürich")
    code, shown = terminal("list", PYTHONIOENCODING="ascii")
    assert code == 0
    assert "\\xfcrich" in shown


def terminal(*arguments: object, stdin: str | None = None, **variables: str) -> tuple[int, str]:
    """Run a command whose stdout and stderr are a terminal of 100 columns; return exit code and what was shown."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "proxywhirl", *map(str, arguments)],
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **variables},
        stdin=subprocess.PIPE if stdin is not None else theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        if process.stdin is not None:
            process.stdin.write((stdin or "").encode())
            process.stdin.close()
        shown = b"".join(pieces(ours))
        os.close(ours)
        return process.wait(timeout=60), shown.decode()


def pieces(descriptor: int) -> Iterator[bytes]:
    """Read from a terminal until its other side is closed."""
    while True:
        try:
            piece = os.read(descriptor, 65536)
        except OSError:  # Linux says EIO where others say end of file
            return
        if not piece:
            return
        yield piece


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Write a list of three good lines and a wrong one."""
    path = tmp_path / "few.txt"
    path.write_text("203.0.113.1:80\n203.0.113.2:80\n203.0.113.2:0\n203.0.113.3:80\n")
    return path


def test_a_narrow_terminal_shows_whole_names(run: Run) -> None:
    """Columns that do not fit are left out; keys and URLs are never cut."""
    run("add", "http://alice:s3cret@gate.example.net:8000", "--country", "DE")
    for columns in (60, 80, 120):
        _, shown = terminal("list", COLUMNS=str(columns), NO_COLOR="1")
        lines = click.unstyle(shown).replace("\r", "").splitlines()
        assert max(map(len, lines)) <= columns
        assert any("2e16dd5d8f40da29" in line and "http://gate.example.net:8000" in line for line in lines)
        assert any("USED" in line for line in lines) == (columns == 120)


def test_a_terminal_gets_a_progress_bar(home: Path, few: Path) -> None:
    """A bar with the size of the file is drawn and wiped; wrong lines and counts stay readable."""
    code, shown = terminal("import", few)
    assert code == 0
    assert "few.txt" in shown
    assert f"{few.stat().st_size}/{few.stat().st_size} bytes" in shown
    assert "few.txt:3: " in shown
    assert "loaded 3, skipped 0 (known already), failed 1" in shown


def test_a_pipe_into_a_terminal_gets_a_bar_without_an_end(home: Path, few: Path) -> None:
    """The size of stdin is unknown: the bar moves all the same."""
    code, shown = terminal("import", "-", stdin=few.read_text())
    assert code == 0
    assert "stdin" in shown
    assert "loaded 3" in shown


def test_no_bar_where_it_would_be_in_the_way(process: Run, few: Path) -> None:
    """In a pipe, and with --json, there is no bar."""
    assert "\x1b" not in process("import", few).err
    assert "bytes" not in terminal("import", few, "--json")[1]


def test_a_terminal_gets_a_table(home: Path, run: Run) -> None:
    """`list` draws a table of at most 100 rows, and says that there are more."""
    run("import", "-", stdin="".join(f"10.0.0.{n}:80\n" for n in range(120)))
    _, shown = terminal("list")
    assert shown.count(":80 ") == 100
    assert "more than these 100" in shown
    assert terminal("list", "--limit", "110")[1].count(":80 ") == 110


def test_no_color_is_respected(home: Path, few: Path) -> None:
    """With NO_COLOR no colour is set."""
    _, shown = terminal("import", few, NO_COLOR="1")
    assert "\x1b[3" not in shown
    assert "\x1b[9" not in shown


@pytest.mark.parametrize("command", ["list", "stats", "check --all --level tcp", "import FILE"])
def test_no_color_leaves_no_escape_sequence(home: Path, run: Run, few: Path, command: str) -> None:
    """Before the command and after it, tables are plain text and no bar moves; without it, else."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        run("add", f"127.0.0.1:{server.getsockname()[1]}")
        words = command.replace("FILE", str(few)).split()
        assert "\x1b" in terminal(*words)[1]
        for line in (["--no-color", *words], [*words, "--no-color"]):
            code, shown = terminal(*line)
            assert (code, "\x1b" in shown) == (0, False)
            assert shown != ""


def test_quiet_moves_no_bar(run: Run, few: Path) -> None:
    """On a terminal too, an import tells what is wrong with a line, and nothing else."""
    run("list")  # which makes the key, and says so
    code, shown = terminal("--quiet", "import", few)
    assert (code, shown.count("\n"), shown.startswith("few.txt:3: ")) == (0, 1, True)


@pytest.mark.parametrize("stream", [1, 2])
def test_work_goes_on_when_nobody_listens(home: Path, run: Run, stream: int) -> None:
    """A reader that leaves early, or a stderr that is full, takes nothing from what a command was told to do."""
    lines = "".join(f"10.0.0.{n}:{80 if n % 2 else 99999}\n" for n in range(200))
    ours, theirs = os.pipe()
    os.close(ours)
    for arguments, code in ((["import", "-"], 0), (["remove", "10.0.0.1:80", "10.0.0.2:80"], 1)):
        done = subprocess.run(
            [sys.executable, "-m", "proxywhirl", *arguments],
            input=lines,
            text=True,
            timeout=60,
            check=False,
            stdout=theirs if stream == 1 else subprocess.PIPE,
            stderr=theirs if stream == 2 else subprocess.PIPE,
        )
        assert done.returncode == code
        assert "Traceback" not in (done.stderr or "")
    os.close(theirs)
    assert len(run("list").rows) == 99


def test_clear_takes_no_for_an_answer(home: Path, run: Run) -> None:
    """On a terminal `clear` asks; anything but yes leaves the store as it is, with exit code 1."""
    run("add", "203.0.113.1:80")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "proxywhirl", "clear"], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, text=True
    ) as asking:
        os.write(ours, b"n\n")
        _, err = asking.communicate(timeout=60)
    os.close(theirs)
    os.close(ours)
    assert asking.returncode == 1
    assert "Remove every proxy of the store?" in err
    assert err.endswith("proxywhirl: nothing was done\n")
    assert len(run("list").rows) == 1


def test_the_log_of_the_library_is_left_alone(run: Run) -> None:
    """Running commands in a process adds no handler where there are some."""
    before = list(logging.getLogger().handlers)
    run("list")
    assert logging.getLogger().handlers == before


@pytest.mark.parametrize("closing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_defect(home: Path, closing: str) -> None:
    """A command that is started without stdin, stdout or stderr ends as it would with them."""
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m proxywhirl import - {closing}"],
        env={**os.environ, "PROXYWHIRL_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_an_empty_name_is_wrong_usage(run: Run) -> None:
    """A tag or source without a name is refused before anything is stored."""
    for option in ("--tag", "--source"):
        assert run("add", "203.0.113.1:80", option, "").code == 2


@pytest.mark.parametrize("command", [("list",), ("clear", "--yes"), ("import", "-"), ("doctor",), ("keys", "status")])
def test_an_empty_home_is_wrong_usage(run: Run, home: Path, command: tuple[str, ...]) -> None:
    """It stands for a variable that is not set: no command falls back on the store that is used without it."""
    assert_one_line(run(*command, "--home", ""), 2, "--home", "is empty")
    assert not home.exists()


@pytest.mark.parametrize("command", [("list",), ("import", "-"), ("add", "203.0.113.1:80")])
def test_a_country_is_its_code(run: Run, command: tuple[str, ...]) -> None:
    """A name is refused rather than found nowhere; the code is one in either case."""
    assert_one_line(run(*command, "--country", "Germany"), 2, "--country")
    assert run("add", "203.0.113.1:80", "--country", "de").code == 0
    assert len(run("list", "--country", "de").rows) == len(run("list", "--country", "DE").rows) == 1


INTERRUPTED_IMPORT = """
import importlib.abc, os, signal, sys

module, sys.argv[1:] = sys.argv[1], ["list"]

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
from proxywhirl.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["click", "pydantic", "apsw", "proxywhirl.cli.listing", "proxywhirl.settings"])
def test_an_interruption_while_modules_are_loaded_is_borne(home: Path, module: str) -> None:
    """Loading takes a moment: Ctrl-C ends that as it ends the rest, without a traceback."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, module], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "proxywhirl: interrupted; what was done before that stays\n"


def test_the_console_script_and_the_module_are_the_same() -> None:
    """The installed command begins where the module does, which loads nothing by itself."""
    with (Path(__file__).parents[3] / "pyproject.toml").open("rb") as stream:
        assert tomllib.load(stream)["project"]["scripts"] == {"proxywhirl": "proxywhirl.__main__:main"}
    loaded = "import sys, proxywhirl.__main__; print('click' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"

"""`proxywhirl import`: what is read, what is told, what reaches the store."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

LIST = """\
# HTTP Proxies (3)
203.0.113.1:8080
203.0.113.2:3128 DE-H-S +
alice:s3cret@gate.example.net:8000
# SOCKS5 Proxies (1)
198.51.100.4:1080
a line of prose
198.51.100.4:99999
bob:hunter2@198.51.100.5:0
"""


def stored(run: Run, *options: object) -> dict[str, dict[str, Any]]:
    """Return the entries that `list --json` gives, by URL."""
    entries = map(json.loads, run("list", "--json", *options).out.splitlines())
    return {entry["proxy_url"]: entry for entry in entries}


@pytest.fixture
def proxies(tmp_path: Path) -> Path:
    """Write a list of several spellings."""
    path = tmp_path / "proxies.txt"
    path.write_text(LIST)
    return path


def test_counts_in_words_and_each_wrong_line_with_its_number(run: Run, proxies: Path) -> None:
    """The counts stand on stdout; each failed line on stderr with file, number and reason, and no credential."""
    done = run("import", proxies)
    assert done.code == 0
    assert done.out == "loaded 4, skipped 0 (known already), failed 2, ignored 3 (no proxies)\n"
    first, second = done.err.splitlines()
    assert first.startswith("proxies.txt:8: ")
    assert "198.51.100.4:99999" in first
    assert second.startswith("proxies.txt:9: ")
    assert not {"bob", "hunter2"} & set(second.replace(":", " ").replace("@", " ").split())


def test_counts_as_json_have_four_keys(run: Run, proxies: Path) -> None:
    """--json prints the four counts and nothing else; what is known already is skipped at the second import."""
    assert run("import", proxies, "--json").json == {"loaded": 4, "skipped": 0, "failed": 2, "ignored": 3}
    assert run("import", proxies, "--json").json == {"loaded": 0, "skipped": 4, "failed": 2, "ignored": 3}


def test_several_files_and_stdin_are_one_import(run: Run, proxies: Path, tmp_path: Path) -> None:
    """Files and - are read in order, their counts added up, each proxy's source the name of its file."""
    other = tmp_path / "other.txt"
    other.write_text("203.0.113.1:8080\n203.0.113.9:80\n")
    done = run("import", proxies, other, "-", "--json", stdin="203.0.113.10:80\n")
    assert done.json == {"loaded": 6, "skipped": 1, "failed": 2, "ignored": 3}
    sources = {url: entry["source"] for url, entry in stored(run).items()}
    assert sources["http://203.0.113.2:3128"] == "proxies.txt"
    assert sources["http://203.0.113.9:80"] == "other.txt"
    assert sources["http://203.0.113.10:80"] == "stdin"


def test_options_reach_the_entries(run: Run, proxies: Path) -> None:
    """--source, --ttl, --tag and --country are what each entry then says; the options go before the list."""
    run("import", proxies, "--source", "shop", "--ttl", "600", "--tag", "a", "--tag", "b", "--country", "fr")
    entries = stored(run)
    assert len(entries) == 4
    for entry in entries.values():
        assert (entry["source"], entry["ttl_seconds"]) == ("shop", 600)
        assert entry["attributes"]["tags"][-2:] == ["a", "b"]
        assert entry["attributes"]["country"] == "FR"


def test_what_is_imported_never_expires_unless_told(run: Run) -> None:
    """Without --ttl, and with `--ttl never`, an entry does not expire."""
    run("import", "-", stdin="203.0.113.1:80\n")
    run("import", "-", "--ttl", "never", stdin="203.0.113.2:80\n")
    assert {entry["expires_at"] for entry in stored(run).values()} == {"9999-12-31T23:59:59+00:00"}


def test_scheme_is_for_lines_that_name_none(run: Run) -> None:
    """--scheme goes behind a line's own scheme, and behind a heading."""
    run(
        "import",
        "-",
        "--scheme",
        "socks5",
        stdin="203.0.113.1:80\nhttp://203.0.113.2:80\n# SOCKS4 Proxies\n203.0.113.3:80\n",
    )
    assert set(stored(run)) == {"socks5://203.0.113.1:80", "http://203.0.113.2:80", "socks4://203.0.113.3:80"}


def test_a_changed_password_is_loaded_an_unchanged_one_skipped(run: Run) -> None:
    """An identity that comes with another password counts as loaded, and the new one is stored."""
    line = "http://alice:{}@203.0.113.1:80\n"
    assert run("import", "-", "--json", stdin=line.format("one")).json["loaded"] == 1
    assert run("import", "-", "--json", stdin=line.format("one")).json["skipped"] == 1
    assert run("import", "-", "--json", stdin=line.format("two")).json["loaded"] == 1
    assert '"password": "two"' in run("export", "--with-credentials").out


@pytest.mark.parametrize(
    "text",
    [
        '[{"ip": "203.0.113.1", "port": 80, "protocol": "http"}]',
        '{"proxies": ["http://203.0.113.1:80"]}',
        '{"ip": "203.0.113.1", "port": "80"}\n{"ip": "203.0.113.2", "port": "80"}\n',
        "ip,port,country\n203.0.113.1,80,DE\n",
        "http\t203.0.113.1\t80\n",
    ],
    ids=["array", "object", "json lines", "csv", "tabs"],
)
def test_formats_are_recognised_by_their_content(run: Run, text: str) -> None:
    """JSON, JSON lines, CSV and columns are read from a stream that has no name."""
    assert run("import", "-", stdin=text).code == 0
    assert "http://203.0.113.1:80" in stored(run)


def test_a_file_that_is_missing_stops_everything(run: Run, proxies: Path, home: Path) -> None:
    """All files are opened first: nothing is imported when one of them cannot be."""
    done = run("import", proxies, "nowhere.txt")
    assert (done.code, done.out) == (1, "")
    assert done.err == "proxywhirl: nowhere.txt cannot be read: No such file or directory\n"
    assert not home.exists()


def test_a_directory_is_no_list(run: Run, tmp_path: Path) -> None:
    """A directory is refused in one line."""
    done = run("import", tmp_path)
    assert done.code == 1
    assert done.err == f"proxywhirl: {tmp_path} cannot be read: Is a directory\n"


def test_a_compressed_file_says_so(run: Run, tmp_path: Path) -> None:
    """A gzip file is named with what to do."""
    path = tmp_path / "list.gz"
    path.write_bytes(gzip.compress(LIST.encode()))
    done = run("import", path)
    assert done.code == 1
    assert done.err == "proxywhirl: list.gz: the list is compressed (gzip): unpack it first\n"


def test_binary_junk_holds_no_proxy(run: Run) -> None:
    """Bytes that are no list fail, with a word on how lines look."""
    done = run("import", "-", stdin=bytes(range(256)) * 50)
    assert done.code == 1
    assert "no proxy was found" in done.err.splitlines()[-1]


def test_an_empty_file_is_done_at_once(run: Run) -> None:
    """Nothing to import is no failure: the export of an empty store is such a file."""
    assert run("import", "-", "--json").json == {"loaded": 0, "skipped": 0, "failed": 0, "ignored": 0}


def test_a_list_without_a_proxy_fails(run: Run) -> None:
    """Prose alone is a failure, with a word on how lines look."""
    done = run("import", "-", stdin="nothing to see here\n")
    assert done.code == 1
    assert "lines look like host:port" in done.err


def test_json_that_breaks_off_keeps_what_stands_before(run: Run) -> None:
    """Damage is an error that names the file; the proxies before it are in the store."""
    entries = ", ".join(f'"203.0.113.{number}:80"' for number in range(1, 6))
    done = run("import", "-", stdin=f'[{entries}, "203.0.')
    assert done.code == 1
    assert done.err.startswith("proxywhirl: stdin: ")
    assert done.out == "loaded 5, skipped 0 (known already), failed 0, ignored 0 (no proxies)\n"
    assert len(stored(run)) == 5


def test_what_was_removed_stays_removed_until_it_is_added(run: Run, proxies: Path) -> None:
    """A removed proxy is not let in by a list; the import says so, and `add` lets it in."""
    run("import", proxies)
    run("remove", "203.0.113.1:8080")
    done = run("import", proxies)
    assert "loaded 0, skipped 4" in done.out
    assert done.err.splitlines()[-1].startswith("1 of those skipped were removed before and stay out")
    assert "http://203.0.113.1:8080" not in stored(run)
    run("add", "203.0.113.1:8080")
    assert "http://203.0.113.1:8080" in stored(run)
    run("import", proxies)
    assert "http://203.0.113.1:8080" in stored(run)


def test_control_characters_of_a_list_do_not_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    """A label with an escape sequence or a tab is shown without them."""
    evil = tmp_path / "evil\x1b[2J\t.txt"
    evil.write_text("203.0.113.1:80\n203.0.113.2:0\n")
    done = run("import", evil)
    assert "\x1b" not in done.err
    listed = run("list")
    assert "\x1b" not in listed.out
    assert len(listed.rows[0]) == 8


def test_a_file_name_that_is_no_text_is_still_a_source(run: Run, tmp_path: Path) -> None:
    """A name with bytes that are no UTF-8 does not stop the import."""
    path = tmp_path / "list\udcff.txt"
    path.write_text("203.0.113.1:80\n")
    assert run("import", path).code == 0
    assert len(stored(run)) == 1


def test_a_time_to_live_ends(run: Run) -> None:
    """--ttl is seconds from now on: the list shows what is left."""
    run("import", "-", "--ttl", "3600", stdin="203.0.113.1:80\n")
    (row,) = run("list").rows
    assert row[6] in ("in 1:00:00", "in 0:59:59")
    assert math.isclose(stored(run)["http://203.0.113.1:80"]["ttl_seconds"], 3600)

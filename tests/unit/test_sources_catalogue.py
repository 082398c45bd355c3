"""The catalogue of sources: what comes with the package, what other packages and the user add to it."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxywhirl.errors import SettingsError
from proxywhirl.sources.definitions import built_in, define, location_of, plugged_in, read_definitions, with_file
from proxywhirl.sources.parsing.parse import parser_names
from proxywhirl.sources.spec import Provenance, SourceSpec
from proxywhirl.urls import SCHEMES


def test_the_public_lists_come_with_the_package() -> None:
    """119 lists, of which the 70 are enabled that answered when they were looked through."""
    specs = built_in()
    assert len(specs) == 119
    assert sum(spec.enabled for spec in specs.values()) == 70
    assert len({spec.location for spec in specs.values()}) == 119
    for name, spec in specs.items():
        assert name == spec.name
        assert spec.format in parser_names()
        assert spec.scheme in SCHEMES
        assert spec.location.startswith("https://")
        assert spec.refresh <= spec.ttl
        assert spec.provenance is Provenance.CATALOGUE
        assert spec.shown == spec.location
        if "githubusercontent" in spec.location or "jsdelivr" in spec.location:
            assert (spec.home_page or "").startswith("https://github.com/")


FILE = """\
[monosans-http]
enabled = false
ttl = 60

[shop]
url = "https://bob:hunter2@shop.example/list?token=Zq7"
format = "json"
path = "data.list"
scheme = "socks5"
refresh = 600
ttl = "never"
licence = "ours"
home_page = "https://shop.example/"

[local]
url = "lists/mine.txt"
"""


def test_the_users_file_adds_sources_and_changes_known_ones(tmp_path: Path) -> None:
    """A table without a URL changes what it names; the path of a file starts at the folder of the definitions."""
    (tmp_path / "sources.toml").write_text(FILE)
    before = built_in()
    specs = with_file(before, tmp_path / "sources.toml")
    assert set(specs) == {*before, "shop", "local"}
    changed = specs["monosans-http"]
    assert (changed.enabled, changed.ttl, changed.provenance) == (False, 60, Provenance.CATALOGUE)
    assert changed.refresh == before["monosans-http"].refresh
    shop = specs["shop"]
    assert (shop.format, shop.path, shop.scheme, shop.refresh, shop.ttl) == (
        "json",
        "data.list",
        "socks5",
        600,
        math.inf,
    )
    assert (shop.licence, shop.home_page) == ("ours", "https://shop.example/")
    assert shop.provenance is Provenance.USER
    assert specs["local"].location == str(tmp_path / "lists" / "mine.txt")
    assert with_file(before, tmp_path / "none.toml") == before


def test_no_secret_of_a_source_shows(tmp_path: Path) -> None:
    """Neither userinfo nor the query nor a long key in the path is in what is shown, or in the repr."""
    url = "https://bob:hunter2@shop.example/get/Zq7aaaaaaaaaaaaaaaaaaaaa/list?token=Zq7"
    shop = define("shop", {"url": url}, "x", Provenance.USER, tmp_path)
    assert shop.shown == "https://shop.example/get/***/list?***"
    assert not any(secret in text for text in (shop.shown, repr(shop)) for secret in ("bob", "hunter2", "Zq7"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "x must be a table"),
        ("[a\n", "is not TOML"),
        ("[a]\n", "source 'a': url: Field required"),
        ('[a]\nurl = "ftp://Zq7.example/"', "source 'a': a source is an http or https URL with a host, or a file"),
        ('[a]\nurl = "http://"', "source 'a': a source is an http or https URL"),
        ('[a]\nurl = "http://h:99999/"', "source 'a': a source is an http or https URL"),
        ('[a]\nurl = "http://h/\\u0007"', "source 'a': a source is an http or https URL"),
        ('[a]\nurl = ""', "source 'a': the URL is empty"),
        ('[a]\nurl = "http://h/"\nformat = "xls"', "known: base64, csv, html"),
        ('[a]\nurl = "http://h/"\nscheme = "gopher"', "known: http, https, socks4"),
        ('[a]\nurl = "http://h/"\ntll = 1', "tll: there is none of this name; known: enabled, format"),
        ('[a]\nurl = "http://h/"\nttl = 0', "ttl: "),
        ('[a]\nurl = "http://h/"\nrefresh = 1', "refresh: "),
        ('["a\\u0000"]\nurl = "http://h/"', "a source's name has"),
        ("[monosans-http]\nttl = -1", "source 'monosans-http': ttl"),
    ],
)
def test_a_wrong_definition_names_itself_and_what_is_wrong(tmp_path: Path, text: str, words: str) -> None:
    """The message has the file, the source and the setting, and no value."""
    path = tmp_path / "sources.toml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        with_file(built_in(), path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert "Zq7" not in str(caught.value)


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    """A directory of that name, or bytes that are no text."""
    with pytest.raises(SettingsError, match="Is a directory"):
        with_file({}, tmp_path)
    (tmp_path / "s").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(SettingsError, match="cannot be read"):
        with_file({}, tmp_path / "s")


def test_definitions_are_read_from_lines_too() -> None:
    """A URL on each line, with comments and blank lines between; TOML where it begins so."""
    assert read_definitions("# mine\n\nhttp://a.example/\n http://b.example/ \n", "stdin") == [
        (None, {"url": "http://a.example/"}),
        (None, {"url": "http://b.example/"}),
    ]
    assert read_definitions('# mine\n[a]\nurl = "http://a.example/"\n', "stdin") == [
        ("a", {"url": "http://a.example/"})
    ]
    with pytest.raises(SettingsError, match="stdin names no source"):
        read_definitions("# nothing\n", "stdin")
    with pytest.raises(SettingsError, match="line 2 is no URL"):
        read_definitions("http://a.example/\nsecret\n", "stdin")


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("https://a.example/x", "https://a.example/x"),
        ("list.txt", "/folder/list.txt"),
        ("/tmp/list.txt", "/tmp/list.txt"),
        ("file:///tmp/my%20list.txt", "/tmp/my list.txt"),
    ],
)
def test_where_a_source_is(text: str, location: str) -> None:
    """A URL as it stands, else the absolute path of a file."""
    assert location_of(text, Path("/folder")) == location


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("https://lists.example:8443/a/http.txt?key=1", "lists.example-http.txt"),
        ("https://lists.example/", "lists.example"),
        ("https://lists.example/get/Zq7aaaaaaaaaaaaaaaaaaaaa", "lists.example"),
        ("/home/me/proxies.txt", "proxies.txt"),
    ],
)
def test_a_source_without_a_name_gets_one(location: str, name: str) -> None:
    """It tells where the source is, and no secret."""
    assert SourceSpec("", location).suggested_name == name


def test_what_changes_the_reading_changes_the_fingerprint() -> None:
    """What was learned of a source is of no use for another URL, format, path, scheme or time to live."""
    changes: list[dict[str, Any]] = [{}, {"format": "csv"}, {"path": "a"}, {"scheme": "socks4"}, {"ttl": 1.0}]
    prints = {SourceSpec("a", "http://h/", **more).fingerprint for more in changes}
    assert len(prints | {SourceSpec("a", "http://i/").fingerprint}) == 6
    assert SourceSpec("b", "http://h/", enabled=False).fingerprint in prints


@pytest.fixture
def third_party(tmp_path: Path) -> Iterator[None]:
    """A package with sources, and some that are none, as they are installed."""
    (tmp_path / "whirl_more.py").write_text(
        "from proxywhirl.sources.spec import Provenance, SourceSpec\n"
        "ONE = SourceSpec('more-one', 'https://more.example/1', provenance=Provenance.USER)\n"
        "def several():\n    return [SourceSpec('more-two', 'https://more.example/2')]\n"
        "def failing():\n    raise RuntimeError('no network')\n"
        "FILE = SourceSpec('more-file', '/etc/passwd')\n"
        "NUMBERS = [1]\n"
    )
    information = tmp_path / "whirl_more-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: whirl-more\nVersion: 1.0\n")
    names = {
        "one": "ONE",
        "several": "several",
        "failing": "failing",
        "file": "FILE",
        "numbers": "NUMBERS",
        "absent": "x",
    }
    lines = [f"{name} = whirl_more:{target}" for name, target in names.items()]
    (information / "entry_points.txt").write_text("\n".join(["[proxywhirl.sources]", *lines]))
    sys.path.insert(0, str(tmp_path))
    yield
    sys.path.remove(str(tmp_path))
    sys.modules.pop("whirl_more", None)


def test_other_packages_offer_sources(third_party: None, caplog: pytest.LogCaptureFixture) -> None:
    """One or several by entry points; none of them counts as the user's own; those that fail are left out, and told."""
    specs = plugged_in()
    assert set(specs) == {"more-one", "more-two"}
    assert {spec.provenance for spec in specs.values()} == {Provenance.PLUGIN}
    for name in ("failing", "file", "numbers", "absent"):
        assert f"the sources of {name!r} are left out" in caplog.text
